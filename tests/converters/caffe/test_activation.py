"""Functions of one value against NumPy, and dropout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from tests.converters.caffe.single import convert, outputs, seeded

Function = Callable[[np.ndarray], np.ndarray]


def layer(kind: str, settings: str = "") -> str:
    return f'layer {{ name: "a" type: "{kind}" bottom: "x" top: "a" {settings} }}'


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def leaky(slope: float) -> Function:
    return lambda x: np.where(x > 0, x, slope * x)


def row(kind: str, settings: str, function: Function, name: str = "") -> object:
    return pytest.param(kind, settings, function, id=f"{kind}{'-' if name else ''}{name}")


ROWS = [
    row("ReLU", "", leaky(0)),
    row("ReLU", "relu_param { negative_slope: 0.1 engine: CUDNN }", leaky(0.1), "slope"),
    row("ReLU", "relu_param { negative_slope: -2 }", leaky(-2), "below-zero"),
    row("ReLU6", "", lambda x: np.clip(x, 0, 6)),
    row("ReLU6", "relu_param { negative_slope: 0.1 }", lambda x: np.minimum(leaky(0.1)(x), 6), "slope"),
    row("RReLU", "rrelu_param { lower: 0.1 upper: 0.3 }", leaky(0.2)),
    row("ELU", "elu_param { alpha: 2 }", lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    row("SELU", "", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    row("Sigmoid", "", sigmoid),
    row("TanH", "", np.tanh),
    row("AbsVal", "", np.abs),
    row("BNLL", "", softplus),
    row("Mish", "", lambda x: x * np.tanh(softplus(x))),
    row("HardSwish", "", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    row("HardSigmoid", "", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    row("HardSigmoid", "hard_sigmoid_param { alpha: 0.3 beta: 0.4 }", lambda x: np.clip(0.3 * x + 0.4, 0, 1), "given"),
    row("Swish", "", lambda x: x * sigmoid(x)),
    row("Swish", "swish_param { beta: -1.5 }", lambda x: x * sigmoid(-1.5 * x), "beta"),
    row("Clip", "clip_param { min: -1 max: 0.5 }", lambda x: np.clip(x, -1, 0.5)),
    row("Clip", "clip_param { min: 1 max: -1 }", np.ones_like, "crossed"),
    row("Clip", "clip_param { min: -inf max: 2 }", lambda x: np.minimum(x, 2), "open"),
    row("Threshold", "threshold_param { threshold: 0.5 }", lambda x: (x > 0.5).astype(np.float32)),
    row("Power", "", lambda x: x),
    row("Power", "power_param { power: 2 scale: 0.5 shift: 1 }", lambda x: (1 + 0.5 * x) ** 2, "all"),
    row("Power", "power_param { power: 0 }", np.ones_like, "zero"),
    row("Power", "power_param { power: 3 scale: 0 shift: 2 }", lambda x: np.full_like(x, 8), "no-scale"),
    row("Power", "power_param { power: -1 shift: 9 }", lambda x: 1 / (9 + x), "inverse"),
    row("Power", "power_param { power: 0.5 scale: 2 }", lambda x: np.sqrt(2 * x), "root-of-negatives"),
    row("Exp", "", np.exp),
    row("Exp", "exp_param { base: 2 scale: 0.5 shift: -1 }", lambda x: 2 ** (0.5 * x - 1), "base"),
    row("Exp", "exp_param { shift: 100 scale: 0.1 }", lambda x: np.full_like(x, np.inf), "overflow"),
    row("Log", "log_param { shift: 9 }", lambda x: np.log(9 + x)),
    row("Log", "log_param { base: 10 scale: 2 shift: 9 }", lambda x: np.log10(2 * x + 9), "base"),
    row("Dropout", "dropout_param { dropout_ratio: 0.3 }", lambda x: x),
    row("Dropout", "dropout_param { dropout_ratio: 0.3 scale_train: false }", lambda x: x * 0.7, "scaled-in-test"),
    row("Dropout", "dropout_param { dropout_ratio: 1.5 }", lambda x: x, "impossible-ratio"),
    row("SpatialDropout", "", lambda x: x),
]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4)], ids=str)
@pytest.mark.parametrize(("kind", "settings", "function"), ROWS)
def test_values(tmp_path: Path, kind: str, settings: str, function: Function, shape: tuple[int, ...]) -> None:
    x = seeded(*shape) * 3
    with np.errstate(invalid="ignore"):
        want = function(x.astype(np.float64))
    if "shift: 100" in settings:
        want = np.exp(np.float64(100) + 0.1 * x) + np.inf  # e^100 is beyond float32
    got = outputs(tmp_path, layer(kind, settings), {"x": x})["a"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True], ids=["each", "shared"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 5), (2, 4, 5, 3), (2, 4, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "default"])
def test_prelu(tmp_path: Path, shape: tuple[int, ...], shared: bool, stored: bool) -> None:
    x, slope = seeded(*shape), seeded(1 if shared else 4, seed=1)
    text = layer("PReLU", f"prelu_param {{ channel_shared: {int(shared)} }}")
    got = outputs(tmp_path, text, {"x": x}, {"a": [slope]} if stored else None)["a"]
    wide = slope.reshape(-1, *[1] * (len(shape) - 2)) if stored else np.float32(0.25)
    np.testing.assert_allclose(got, np.where(x > 0, x, wide * x), rtol=1e-5)


def test_dropout_stays_for_training(tmp_path: Path) -> None:
    model = convert(tmp_path, layer("Dropout", "dropout_param { dropout_ratio: 0.3 }"), {"x": seeded(2, 3)})
    assert [n.op_type for n in model.graph] == ["Dropout"]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("Clip", "clip_param { min: 1 }", id="one-bound"),
        pytest.param("Log", "log_param { base: 1 }", id="base-one"),
        pytest.param("Log", "log_param { base: 0 }", id="base-zero"),
        pytest.param("Exp", "exp_param { base: -2 }", id="negative-base"),
        pytest.param("Power", "power_param { power: nan }", id="nan"),
        pytest.param("Power", "power_param { power: { } }", id="message-for-a-number"),
    ],
)
def test_refuses(tmp_path: Path, kind: str, settings: str) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, layer(kind, settings), {"x": seeded(2, 3)})
    assert caught.value.layer == "a"
