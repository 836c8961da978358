"""InnerProduct and Embed against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from tests.converters.caffe.single import convert, opencv, outputs, seeded


def layer(settings: str) -> str:
    return f'layer {{ name: "f" type: "InnerProduct" bottom: "x" top: "f" inner_product_param {{ {settings} }} }}'


@pytest.mark.parametrize("transpose", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 6), 1), ((3, 6), -1), ((3, 6), 0), ((2, 3, 4), 1), ((2, 3, 4), 2), ((2, 3, 4, 5), 2), ((2, 3, 4, 5), 3),
     ((2, 3, 4, 5), -3), ((2, 2, 2, 2, 3), 3), ((7,), 0)],
    ids=str,
)  # fmt: skip
def test_inner_product(tmp_path: Path, shape: tuple[int, ...], axis: int, bias: bool, transpose: bool) -> None:
    x = seeded(*shape)
    at = axis % len(shape)
    inputs = int(np.prod(shape[at:]))
    w, v = seeded(5, inputs, seed=1), seeded(5, seed=2)
    want = (x.reshape(-1, inputs) @ w.T + (v if bias else 0)).reshape(*shape[:at], 5)
    text = layer(f"num_output: 5 axis: {axis} bias_term: {int(bias)} transpose: {int(transpose)}")
    stored = np.ascontiguousarray(w.T) if transpose else w
    got = outputs(tmp_path, text, {"x": x}, {"f": [stored, v] if bias else [stored]})["f"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_opencv_agrees_and_weights_may_be_legacy(tmp_path: Path) -> None:
    feeds, blobs = {"x": seeded(2, 3, 4, 5)}, {"f": [seeded(1, 1, 6, 60, seed=1), seeded(1, 1, 1, 6, seed=2)]}
    text = layer("num_output: 6")
    np.testing.assert_allclose(
        outputs(tmp_path, text, feeds, blobs)["f"], opencv(tmp_path, text, feeds, blobs), rtol=1e-4, atol=1e-4
    )


def test_is_one_gemm(tmp_path: Path) -> None:
    model = convert(tmp_path, layer("num_output: 6"), {"x": seeded(2, 3)}, {"f": [seeded(6, 3), seeded(6)]})
    assert [n.op_type for n in model.graph] == ["Gemm"]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_embed(tmp_path: Path, bias: bool) -> None:
    x = np.array([[0, 3.7, 6], [1, 2, 5.0]], np.float32)  # Caffe cuts the fraction off
    w, v = seeded(7, 4, seed=1), seeded(4, seed=2)
    text = f"""layer {{ name: "e" type: "Embed" bottom: "x" top: "e"
        embed_param {{ num_output: 4 input_dim: 7 bias_term: {int(bias)} }} }}"""
    got = outputs(tmp_path, text, {"x": x}, {"e": [w, v] if bias else [w]})["e"]
    np.testing.assert_allclose(got, w[x.astype(int)] + (v if bias else 0), rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("", id="no-outputs"),
        pytest.param("num_output: 0", id="none"),
        pytest.param("num_output: 5 axis: 4", id="axis"),
        pytest.param("num_output: 7", id="weights-of-another-size"),
        pytest.param("num_output: 2147483647", id="vast"),
        pytest.param("num_output: 99999999999999999999", id="beyond-64-bits"),
    ],
)
def test_refuses(tmp_path: Path, settings: str) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, layer(settings), {"x": seeded(2, 3)}, {"f": [seeded(5, 3), seeded(5)]})
    assert caught.value.layer == "f"
