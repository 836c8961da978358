"""Layouts, tolerances and the first diverging layer, on arrays whose answers are plain."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.errors import CheckFailed
from netferry.runtime.agreement import Tap, Tolerance, difference, first_divergence

RNG = np.random.default_rng(0)
NCHW = RNG.random((2, 3, 4, 5), np.float32)
EXACT = Tolerance(0, 0)


@pytest.mark.parametrize(
    ("a", "b", "layout"),
    [
        pytest.param(NCHW, NCHW, "same", id="same"),
        pytest.param(NCHW, NCHW.transpose(0, 2, 3, 1), "transposed", id="channels-last"),
        pytest.param(NCHW.transpose(0, 2, 3, 1), NCHW, "transposed", id="channels-first"),
        pytest.param(NCHW[0], NCHW[0].transpose(1, 0, 2), "transposed", id="time-major"),
        pytest.param(NCHW[:, :, :1, :1], NCHW[:, :, 0, 0], "reshaped", id="squeezed"),
    ],
)
def test_layouts_that_fit(a: np.ndarray, b: np.ndarray, layout: str) -> None:
    row = difference(a, b)
    assert (row["max_abs"], row["layout"]) == (0, layout)


def test_no_layout_fits() -> None:
    with pytest.raises(CheckFailed):
        difference(NCHW, NCHW[:, :2])


def test_equal_shapes_are_taken_as_they_are_unless_asked() -> None:
    square = RNG.random((1, 3, 3, 3), np.float32)
    turned = square.transpose(0, 2, 3, 1)
    assert difference(square, turned)["max_abs"] > 0
    assert difference(square, turned, any_layout=True)["max_abs"] == 0


@pytest.mark.parametrize(
    ("a", "b", "atol", "rtol", "allowed"),
    [
        pytest.param([1.0, 2.0], [1.0, 2.1], 0.11, 0, True, id="absolute"),
        pytest.param([1.0, 2.0], [1.0, 2.1], 0.09, 0, False, id="absolute-beyond"),
        pytest.param([1.0, 2.0], [1.0, 2.1], 0, 0.05, True, id="relative-to-the-largest"),
        pytest.param([1.0, 2.0], [1.0, 2.1], 0, 0.04, False, id="relative-beyond"),
        pytest.param([np.nan], [np.nan], 0, 0, True, id="nan-equals-nan"),
        pytest.param([np.nan], [1.0], 10, 10, False, id="nan-on-one-side"),
        pytest.param([3], [4], 10, 10, False, id="integers-must-be-equal"),
        pytest.param(["a"], ["b"], 10, 10, False, id="texts-must-be-equal"),
        pytest.param([1e-9], [0.0], 1e-6, 0, True, id="zero-reference"),
    ],
)
def test_tolerance(a: list[object], b: list[object], atol: float, rtol: float, allowed: bool) -> None:
    assert Tolerance(atol, rtol).allows(difference(np.array(a), np.array(b))) is allowed


def tap(layer: str, *values: np.ndarray, type_: str = "Conv") -> Tap:
    return Tap(layer, type_, list(values), layer)


def test_the_first_in_order_is_named_and_what_has_no_partner_counted() -> None:
    reference = {"a": [NCHW], "c": [NCHW], "d": [NCHW]}
    taps = [tap("a", NCHW), tap("b", NCHW), tap("c", NCHW + 1), tap("d", NCHW + 2)]
    found = first_divergence(taps, reference, EXACT)
    assert (found["layer"], found["last_agreeing"], found["compared"], found["not_compared"]) == ("c", "a", 2, 1)
    assert found["max_abs"] == pytest.approx(1)


def test_a_layer_called_twice_is_paired_call_by_call() -> None:
    assert first_divergence([tap("a", NCHW, NCHW * 2)], {"a": [NCHW * 2, NCHW]}, EXACT)["layer"] is None
    assert first_divergence([tap("a", NCHW, NCHW * 3)], {"a": [NCHW * 2, NCHW]}, EXACT)["layer"] == "a"


def test_a_flatten_of_channels_first_may_lie_in_another_order() -> None:
    flat, keras = NCHW.reshape(2, -1), NCHW.transpose(0, 2, 3, 1).reshape(2, -1)
    taps = [tap("f", flat, type_="Flatten")]
    assert first_divergence(taps, {"f": [keras]}, EXACT, reordered=True)["layer"] is None
    assert first_divergence(taps, {"f": [keras + 1]}, EXACT, reordered=True)["layer"] == "f"
    assert first_divergence(taps, {"f": [keras]}, EXACT)["layer"] == "f"
    dense = [tap("d", flat, type_="Dense")]
    assert first_divergence(dense, {"d": [keras]}, EXACT, reordered=True)["layer"] == "d"
