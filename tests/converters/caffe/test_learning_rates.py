"""``lr_mult: 0``: what does not learn in Caffe does not learn here."""

from __future__ import annotations

from pathlib import Path

import pytest

import netferry

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 5 } } } '
CONV = 'type: "Convolution" bottom: "{}" top: "{}" {} convolution_param {{ num_output: 3 kernel_size: 1 }}'


def conv(name: str, bottom: str, params: str) -> str:
    return f'layer {{ name: "{name}" {CONV.format(bottom, name, params)} }} '


ROWS = {
    "both": (conv("c", "x", "param { lr_mult: 0 } param { lr_mult: 0 }"), {"c.weight", "c.bias"}),
    "one": (conv("c", "x", "param { lr_mult: 0.0 decay_mult: 1 } param { lr_mult: 2 }"), {"c.weight"}),
    "said-as-a-float": (conv("c", "x", "param { lr_mult: 1 } param { lr_mult: 0f }"), {"c.bias"}),
    "none": (conv("c", "x", "param { lr_mult: 1 } param { lr_mult: 2 }"), set[str]()),
    "not-said": (conv("c", "x", ""), set[str]()),
    "of-a-parameter-that-two-share": (
        conv("c", "x", 'param { name: "w" }') + conv("d", "c", 'param { name: "w" lr_mult: 0 }'),
        {"c.weight"},
    ),
    "statistics-move": (
        'layer { name: "n" type: "BatchNorm" bottom: "x" top: "n" '
        "param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 } } "
        'layer { name: "s" type: "Scale" bottom: "n" top: "s" param { lr_mult: 1 } param { lr_mult: 0 } '
        "scale_param { bias_term: true } }",
        {"s.bias"},
    ),
    "of-2014": (
        'layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 0 blobs_lr: 1 '
        "convolution_param { num_output: 3 kernel_size: 1 } }",
        {"c.weight"},
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_learns(row: str, tmp_path: Path) -> None:
    text, frozen = ROWS[row]
    start = 'input: "x" input_dim: 1 input_dim: 3 input_dim: 5 input_dim: 5 ' if row == "of-2014" else INPUT
    (tmp_path / "net.prototxt").write_text(start + text)
    model = netferry.load(tmp_path / "net.prototxt", init=0)
    assert model.frozen == frozen
    assert sum("lr_mult: 0" in note.message for note in model.notes) == bool(frozen)
