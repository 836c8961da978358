"""Operation nodes of Keras 3 that rarely stand in networks, against the real one: groups, places, pictures, diagonals."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

P, S = (4, 5, 3), (None, 4)
CONV = "L.Conv2D(3, 3, padding='same')(x)"
IDS = "np.array([2, 0, 2, -1], 'int32')"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        *(pytest.param(f"ops.segment_{n}(x[0], {IDS}, num_segments=4)", (4, 3), id=f"segment-{n}")
          for n in ("sum", "max", "min", "prod")),
        pytest.param("ops.searchsorted(np.array([-1., 0., 0.5, 1.], 'float32'), x[0])", (4,), id="search-sorted"),
        pytest.param("ops.searchsorted(np.array([1., 2., 3.], 'float32'), ops.round(x[0]), side='right')", (4,), id="search-right"),
        pytest.param("ops.digitize(x, np.array([-1., 0., 0.5], 'float32'))", P, id="digitize"),
        pytest.param("ops.isin(ops.round(x), np.array([0., 1.], 'float32'))", P, id="is-in"),
        pytest.param("ops.isin(ops.round(x), np.array([0., 1.], 'float32'), invert=True)", P, id="not-in"),
        pytest.param("ops.quantile(x, 0.3, axis=1)", P, id="quantile"),
        pytest.param("ops.quantile(x, [0.1, 0.5, 1.0], axis=-1, keepdims=True)", P, id="quantiles"),
        pytest.param("ops.quantile(" + CONV + ", 0.3, axis=1, method='nearest')", P, id="quantile-nearest"),
        *(pytest.param(f"ops.percentile(x, 30, axis=2, method={m!r})", P, id=f"percentile-{m}")
          for m in ("nearest", "lower", "higher", "midpoint")),
        pytest.param("ops.nanargmax(ops.where(x > 1, np.nan, x), axis=1)", P, id="nanargmax"),
        pytest.param("ops.nanargmin(ops.where(x > -1, np.nan, x), axis=2)", P, id="nanargmin-of-nothing"),
        pytest.param("ops.cumprod(x, axis=1)", (7, 3), id="cumprod"),
        pytest.param("ops.cumprod(" + CONV + ", axis=2)", P, id="cumprod-after-conv"),
        pytest.param("ops.cumprod(x, axis=1)", S, id="cumprod-dynamic"),
        pytest.param("ops.nancumsum(ops.where(x > 1, np.nan, x), axis=1)", P, id="nancumsum"),
        pytest.param("ops.nancumprod(ops.where(x > 1, np.nan, x), axis=1)", P, id="nancumprod"),
        pytest.param("ops.trapezoid(x, dx=0.5)", P, id="trapezoid"),
        pytest.param("ops.trapezoid(x, x=[0., 1., 3.])", P, id="trapezoid-points"),
        pytest.param("ops.cdist(x, x[:, 1:])", (4, 3), id="distances"),
        pytest.param("ops.diagonal(x, axis1=1, axis2=2)", (4, 4, 3), id="diagonal"),
        pytest.param("ops.diagonal(" + CONV + ", 1, axis1=1, axis2=3)", P, id="diagonal-offset"),
        pytest.param("ops.diag(x[0], k=1)", (4,), id="diag"),
        pytest.param("ops.diagflat(x[0], k=-2)", (4,), id="diagflat"),
        pytest.param("ops.meshgrid(x[0], x[0, :2])", (4,), id="meshgrid"),
        pytest.param("ops.meshgrid(x[0], x[0, :2], indexing='ij')", (4,), id="meshgrid-ij"),
        pytest.param("ops.scatter(np.array([[0], [2], [0]], 'int32'), x[0, :3], (4,))", (4,), id="scatter"),
        pytest.param("ops.scatter_update(x, np.array([[0, 1], [0, 3]], 'int32'), np.array([5., 6.], 'float32'))", (4,), id="scatter-update"),
        pytest.param("ops.max(x, axis=1, initial=0.5) + ops.min(x, axis=1, initial=-0.5)", P, id="initial"),
        pytest.param("ops.roll(x, 2)", P, id="roll-flat"),
        pytest.param("ops.dot_product_attention(x, x, x, is_causal=True)", (4, 2, 3), id="causal-attention"),
        pytest.param("ops.rfft(x)", (3, 10), id="rfft"),
        pytest.param("ops.rfft(x, fft_length=6)", (3, 10), id="rfft-cut"),
        pytest.param("ops.rfft(x, fft_length=13)", (3, 10), id="rfft-padded"),
        pytest.param("ops.irfft(ops.rfft(x))", (3, 10), id="irfft"),
        pytest.param("ops.irfft((x, x * 0.5), fft_length=9)", (3, 5), id="irfft-odd"),
        pytest.param("ops.fft((x, x * 0.5))", (3, 7), id="fft"),
    ],
)  # fmt: skip
def test_numbers(case3: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case3(model, shape, kinds=("keras", "h5"))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("ops.image.crop_images(x, top_cropping=1, left_cropping=0, target_height=2, target_width=3)", P, id="crop"),
        pytest.param("ops.image.crop_images(" + CONV + ", 1, 1, 1, 0)", P, id="crop-sides"),
        pytest.param("ops.image.pad_images(x, 1, 2, target_height=7, target_width=9)", P, id="pad"),
        pytest.param("ops.image.extract_patches(x, (2, 3))", (5, 7, 3), id="patches"),
        pytest.param("ops.image.extract_patches(" + CONV + ", 3, strides=1, padding='same')", P, id="patches-same"),
        pytest.param("ops.image.rgb_to_hsv(ops.abs(x) / 2.0)", P, id="rgb-to-hsv"),
        pytest.param("ops.image.hsv_to_rgb(ops.abs(x) / 2.0)", P, id="hsv-to-rgb"),
        pytest.param("ops.image.gaussian_blur(x, (3, 5), (1.0, 2.0))", (6, 8, 3), id="blur"),
        pytest.param("ops.image.sobel_edges(x)", P, id="sobel"),
    ],
)  # fmt: skip
def test_pictures(case3: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case3(model, shape, kinds=("keras", "h5"))


def test_in_top_k(case3: Case) -> None:
    case3("ops.in_top_k(xs[1][:, 0], xs[0], k=2)", (8,), (1,), dtypes=("float32", "int32"), kinds=("keras", "h5"))


def test_segments_of_the_batch(case3: Case) -> None:
    """Groups that come in beside the rows."""
    case3(
        "ops.segment_sum(xs[0], xs[1][:, 0], num_segments=9)",
        (3,),
        (1,),
        dtypes=("float32", "int32"),
        kinds=("keras", "h5"),
    )
