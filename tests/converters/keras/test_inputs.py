"""What a network is fed with: shapes by option, by the first layer in every way that Keras wrote it, and wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import LimitExceeded, MalformedFile, NetferryError, UnsupportedError, UsageError


def _sequential(folder: Path, *layers: tuple[str, dict[str, Any]], **more: Any) -> Path:
    rows = [{"class_name": kind, "config": {"name": f"l{i}", **config}} for i, (kind, config) in enumerate(layers)]
    path = folder / "m.json"
    path.write_text(json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": rows, **more}}))
    return path


DENSE: tuple[str, dict[str, Any]] = ("Dense", {"units": 2})


@pytest.mark.parametrize(
    ("first", "more", "shape"),
    [
        pytest.param(("Dense", {"units": 3, "batch_input_shape": [None, 4]}), {}, ("batch", 4), id="batch-input-shape"),
        pytest.param(("Dense", {"units": 3, "input_shape": [4]}), {}, ("batch", 4), id="input-shape"),
        pytest.param(("Dense", {"units": 3, "input_dim": 4}), {}, ("batch", 4), id="input-dim"),
        pytest.param(
            ("Embedding", {"input_dim": 9, "output_dim": 3, "input_length": 5}), {}, ("batch", 5), id="input-length"
        ),
        pytest.param(("InputLayer", {"batch_shape": [None, 4]}), {}, ("batch", 4), id="input-layer"),
        pytest.param(("InputLayer", {"batch_shape": [[None, 4]]}), {}, ("batch", 4), id="wrapped-once-more"),
        pytest.param(("Dense", {"units": 3}), {"build_input_shape": [None, 4]}, ("batch", 4), id="built-on"),
    ],
)
def test_shapes_of_the_first_layer(
    first: tuple[str, dict[str, Any]], more: dict[str, Any], shape: tuple[Any, ...], tmp_path: Path
) -> None:
    model = read(_sequential(tmp_path, first, DENSE, **more), ReadOptions())
    assert [tuple(i.shape or ()) for i in model.inputs] == [shape]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        pytest.param({}, UnsupportedError, id="none"),
        pytest.param({"input_shape": 5}, MalformedFile, id="a-number"),
        pytest.param({"input_shape": ["a"]}, MalformedFile, id="a-text"),
        pytest.param({"batch_input_shape": [None, -4]}, MalformedFile, id="below-0"),
        pytest.param({"batch_input_shape": [None, 2**40]}, LimitExceeded, id="beyond-the-limit"),
        pytest.param({"batch_input_shape": [None, *[1] * 40]}, MalformedFile, id="many-axes"),
        pytest.param({"batch_input_shape": [None, 4], "dtype": "complex64"}, UnsupportedError, id="another-type"),
        pytest.param({"batch_input_shape": [None, 4], "dtype": ["float32"]}, UnsupportedError, id="types"),
    ],
)
def test_shapes_that_are_none(config: dict[str, Any], error: type[NetferryError], tmp_path: Path) -> None:
    with pytest.raises(error) as caught:
        read(_sequential(tmp_path, ("Dense", {"units": 3, **config}), DENSE), ReadOptions())
    assert type(caught.value) is error


def test_shapes_by_option(tmp_path: Path) -> None:
    """The batch stays dynamic unless it is fixed by its own option."""
    path = _sequential(tmp_path, ("InputLayer", {"batch_shape": [None, None, 4], "name": "x"}), ("LSTM", {"units": 3}))
    assert [i.shape for i in read(path, ReadOptions()).inputs] == [("batch", "sequence", 4)]
    assert [i.shape for i in read(path, ReadOptions(input_shapes={"x": (1, 7, 4)})).inputs] == [("batch", 7, 4)]
    assert [i.shape for i in read(path, ReadOptions(input_shapes={"x": (2, 7, 4)}, batch=2)).inputs] == [(2, 7, 4)]
    with pytest.raises(UsageError, match="3 dimensions, not 2"):
        read(path, ReadOptions(input_shapes={"x": (1, 7)}))


def test_a_shape_that_the_file_does_not_give_is_given_by_the_option_that_the_hint_names(tmp_path: Path) -> None:
    path = _sequential(tmp_path, ("Dense", {"units": 3}), DENSE)
    with pytest.raises(UnsupportedError) as caught:
        read(path, ReadOptions())
    assert caught.value.hint == "give it: --input-shape l0_input=1,..."
    assert [i.shape for i in read(path, ReadOptions(input_shapes={"l0_input": (1, 4)})).inputs] == [("batch", 4)]


def test_heights_of_channels_first_networks_are_named(tmp_path: Path) -> None:
    path = _sequential(
        tmp_path,
        ("InputLayer", {"batch_shape": [None, 3, None, None], "name": "x"}),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "data_format": "channels_first"}),
    )
    assert [i.shape for i in read(path, ReadOptions()).inputs] == [("batch", 3, "height", "width")]
