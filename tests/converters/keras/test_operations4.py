"""Further operation nodes of Keras 3 against the real one: NaN-aware reductions, rearrangements, bits, convolutions."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

P, S = (4, 5, 3), (None, 4)
NAN = "ops.where(x > 1.2, np.nan, x)"
CONV = "L.Conv2D(3, 3, padding='same')(x)"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        *(pytest.param(f"ops.{n}({NAN}, axis=1)", P, id=n)
          for n in ("nansum", "nanprod", "nanmax", "nanmin", "nanmean", "nanvar", "nanstd")),
        pytest.param("ops.nanmax(x + np.nan, axis=-1)", S, id="nanmax-of-nothing"),
        pytest.param(f"ops.nanmean({CONV}, axis=(1, 2), keepdims=True)", P, id="nanmean-after-conv"),
        pytest.param("ops.average(x, axis=2)", P, id="average"),
        pytest.param("ops.average(x, axis=2, weights=np.arange(5.))", P, id="average-weighted"),
        pytest.param("ops.average(x, axis=-1, weights=ops.exp(x))", P, id="average-weighted-by-tensor"),
        pytest.param("ops.fabs(x) + ops.logaddexp2(x, 0.3) + ops.heaviside(x, 0.5 + 0 * x)", P, id="pairs"),
        pytest.param("ops.ldexp(x, np.array([1, 2, -3]))", P, id="ldexp"),
        pytest.param("ops.cast(ops.signbit(x), 'float32')", P, id="signbit"),
        pytest.param("ops.cast(ops.isclose(x, 0.9 * x, rtol=0.05, atol=0.1), 'int32')", P, id="isclose"),
        pytest.param("ops.median(x, axis=2)", P, id="median-odd"),
        pytest.param("ops.median(x, axis=1, keepdims=True)", P, id="median-even"),
        pytest.param(f"ops.diff({CONV}, n=2, axis=2)", P, id="diff"),
        pytest.param("ops.cross(x, np.array([1., 2., 3.], 'float32'))", P, id="cross"),
        *(pytest.param(f"ops.rot90({CONV}, k={k}, axes=(1, 2))", P, id=f"rot90-{k}") for k in (1, 3)),
        pytest.param("ops.rot90(x, k=2, axes=(1, 2))", (4, 4, 3), id="rot90-2"),
        pytest.param("ops.adaptive_average_pool(x, (2, 3))", P, id="adaptive-average"),
        pytest.param("ops.adaptive_max_pool(x, (2, 5))", P, id="adaptive-max"),
        pytest.param(
            "ops.separable_conv(x, np.random.default_rng(0).normal(size=(3, 3, 3, 2)).astype('float32'),"
            " np.random.default_rng(1).normal(size=(1, 1, 6, 4)).astype('float32'), padding='same')",
            P, id="separable-conv",
        ),
        pytest.param("ops.slice_update(x, (0, 1, 2, 0), ops.ones_like(x)[:, :2, :2, :])", P, id="slice-update"),
    ],
)  # fmt: skip
def test_numbers(case3: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case3(model, shape)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("ops.bitwise_not(x)", id="not"),
        pytest.param("ops.left_shift(x, 3)", id="left-shift"),
        pytest.param("ops.bitwise_right_shift(x, 1)", id="right-shift"),
        pytest.param("ops.multi_hot(x, num_classes=10)", id="multi-hot"),
    ],
)
def test_whole_numbers(case3: Case, model: str) -> None:
    case3(model, (5,), dtypes=("int32",))
