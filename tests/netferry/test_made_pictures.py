"""The range of made-up pictures: what a network does with its input first tells whether it takes pixels of 0 to 255."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from netferry import api
from netferry.api.made_pictures import pictures_of, scale_of_pixels
from netferry.errors import CheckFailed
from netferry.schemas.preprocessing import Preprocessing
from tests.converters.passes.optimized import as_model, graph

PICTURE = "float[N,3,8,8]"
FIRST = {
    "rescaling": ("<float s = {0.00392}> { y = Mul(x, s) }", 255.0),
    "rescaling-other-side": ("<float s = {0.0078}> { y = Mul(s, x) }", 255.0),
    "divided": ("<float s = {255.0}> { y = Div(x, s) }", 255.0),
    "mean-behind-a-transpose": ("<float s = {120.0}> { t = Transpose<perm=[0,1,3,2]>(x) y = Sub(t, s) }", 255.0),
    "small-mean": ("<float s = {0.5}> { y = Sub(x, s) }", None),
    "larger": ("<float s = {2.0}> { y = Mul(x, s) }", None),
    "no-constant": ("<float s = {2.0}> { a = Relu(x) y = Mul(x, a) }", None),
    "relu": ("<float s = {2.0}> { y = Relu(x) }", None),
}


@pytest.mark.parametrize(("body", "scale"), FIRST.values(), ids=FIRST)
def test_what_the_graph_tells(body: str, scale: float | None) -> None:
    model = as_model(graph(f"f ({PICTURE} x) => ({PICTURE} y) {body}"))
    assert scale_of_pixels(model, "x") == scale
    feed = {"x": np.full((2, 3, 8, 8), 0.5, np.float32)}
    ports: list[Any] = [SimpleNamespace(name="x")]
    assert float(pictures_of(model, ports, feed, 0)["x"].max()) == (127.5 if scale else 0.5)


def test_a_refusal_says_which_pixels_were_fed(tmp_path: Path) -> None:
    """Squares of thousands overflow half precision, those of values of 0 to 1 do not."""
    weights = f"<float[2,3,1,1] w = {{{', '.join(['10.0'] * 6)}}}>"
    body = "{ c = Conv(x, w) d = Mul(c, c) y = Sqrt(d) }"
    model = as_model(graph(f"f ({PICTURE} x) => (float[N,2,8,8] y) {weights} {body}", 21))
    model.preprocessing["x"] = Preprocessing()
    with pytest.raises(CheckFailed) as told:
        _half(model, tmp_path)
    assert "pixels of 0 to 255 were fed to x: --scale and --mean tell of others" in str(told.value.hint)
    model.preprocessing["x"] = Preprocessing(scale=(1 / 255,))
    _half(model, tmp_path)


def _half(model: object, folder: Path) -> None:
    api.save(model, folder / "a.onnx")  # type: ignore[arg-type]
    api.convert(folder / "a.onnx", folder / "b.onnx", precision="fp16")
