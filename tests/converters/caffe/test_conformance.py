"""Every net of the conformance set, judged by what BVLC Caffe computed for it.

An id is the category (a layer type) and the case: ``pytest -k "Pooling or Convolution"``.
"""

from __future__ import annotations

import json

import pytest

from tests.converters.caffe.conformance import Runner, agree, agree_in_rows, case, rows
from tests.shared import shared, shared_root

MIXES_ROWS = frozenset(
    {
        *("argmax_axis0", "softmax_axis0", "concat_axis0", "concat_concat_dim0", "tile_axis0", "crop_axis0"),
        *("batchreindex_fewer", "batchreindex_permute", "filter_two"),
    }
)
"""Cases whose outputs mix the items of a batch, so that another batch has no expected values."""


def cases() -> list[object]:
    """One row per case folder; none where the set is not there (then a single row skips with the reason)."""
    root = shared_root()
    folder = root / "conformance" / "caffe" if root else None
    if folder is None or not folder.is_dir():
        return [pytest.param("", id="absent")]
    found = [(json.loads(f.read_text()), f.parent.name) for f in sorted(folder.glob("*/case.json"))]
    return [pytest.param(name, id=f"{info['category']}-{name}") for info, name in found]


@pytest.mark.parametrize("name", cases())
def test_agrees_with_caffe(name: str) -> None:
    one = case(shared("conformance", "caffe", name))
    want, tolerance = one.expected, one.info["tolerance"]
    inputs, model = one.inputs, one.convert()
    assert not model.placeholders(), [(n.name, n.op_type) for n in model.placeholders()]
    runner = Runner(model, list(want))
    agree(runner.run(inputs), want, tolerance, list(one.info["outputs"]))
    if name in MIXES_ROWS:
        return
    batch = next((inputs[n].shape[d.index("batch")] for n, d in runner.dims.items() if "batch" in d), None)
    if batch is None:
        return
    for pick in (first, twice):
        feeds = rows(inputs, runner, pick)
        agree_in_rows(runner.run(feeds), want, batch, pick, tolerance)


def first(n: int) -> list[int]:
    """Only the first item of a batch."""
    return [0]


def twice(n: int) -> list[int]:
    """The items in order, then in reverse."""
    return [*range(n), *reversed(range(n))]
