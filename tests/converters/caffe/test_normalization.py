"""BatchNorm, BN, Scale, Bias, LRN, MVN and Normalize against NumPy and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from netferry.schemas.layers import Role, role_of
from tests.converters.caffe.single import Blobs, convert, opencv, outputs, seeded


def layer(kind: str, settings: str = "", bottoms: str = 'bottom: "x"') -> str:
    return f'layer {{ name: "n" type: "{kind}" {bottoms} top: "n" {settings} }}'


def per_channel(values: np.ndarray, rank: int) -> np.ndarray:
    return values.reshape(-1, *[1] * (rank - 2)) if rank > 1 else values


SHAPES = [(4, 3), (2, 3, 5), (2, 3, 5, 4), (2, 3, 2, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.5, 999.98, 0.0])
@pytest.mark.parametrize("affine", [False, True], ids=["bvlc", "nvidia"])
def test_batch_norm(tmp_path: Path, shape: tuple[int, ...], factor: float, affine: bool) -> None:
    x = seeded(*shape)
    mean, var = seeded(3, seed=1), np.abs(seeded(3, seed=2)) + 0.5
    blobs = [mean, var, np.array([factor], np.float32)]
    inverse = 1 / factor if factor else 0.0
    want = (x - per_channel(mean * inverse, len(shape))) / np.sqrt(per_channel(var * inverse, len(shape)) + 1e-3)
    if affine:
        weight, bias = seeded(3, seed=3), seeded(3, seed=4)
        blobs += [weight, bias]
        want = want * per_channel(weight, len(shape)) + per_channel(bias, len(shape))
    got = outputs(tmp_path, layer("BatchNorm", "batch_norm_param { eps: 1e-3 }"), {"x": x}, {"n": blobs})["n"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_batch_norm_of_one_axis(tmp_path: Path) -> None:
    x, blobs = seeded(5), [np.array([v], np.float32) for v in (0.5, 2.0, 1.0)]
    got = outputs(tmp_path, layer("BatchNorm"), {"x": x}, {"n": blobs})["n"]
    np.testing.assert_allclose(got, (x - 0.5) / np.sqrt(2.0 + 1e-5), rtol=1e-5)


@pytest.mark.parametrize("shape", [(7,), *SHAPES], ids=str)
def test_batch_norm_by_the_batch(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = seeded(*shape)
    axes = (0, *range(2, len(shape)))
    want = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    got = outputs(tmp_path, layer("BatchNorm", "batch_norm_param { use_global_stats: false }"), {"x": x})["n"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_batch_norm_missing_in_the_weights_counts_as_zero(tmp_path: Path) -> None:
    x = seeded(2, 3, 4, 4)
    got = outputs(tmp_path, layer("BatchNorm"), {"x": x}, {"other": [seeded(2)]})["n"]
    np.testing.assert_allclose(got, x / np.sqrt(np.float32(1e-5)), rtol=1e-4)


def test_batch_norm_without_weights_starts_fresh(tmp_path: Path) -> None:
    model = convert(tmp_path, layer("BatchNorm"), {"x": seeded(2, 3, 4, 4)})
    assert sorted(model.uninitialised) == ["n.running_mean", "n.running_var"]
    model.initialise(seed=0)
    values = {n: v.const_value.numpy().tolist() for n, v in model.parameters(Role.STATE).items() if v.const_value}
    assert values == {"n.running_mean": [0, 0, 0], "n.running_var": [1, 1, 1]}


def test_statistics_that_layers_share_are_one_tensor(tmp_path: Path) -> None:
    spec = " ".join(f'param {{ name: "s{i}" }}' for i in range(3))
    text = layer("BatchNorm", spec) + layer("BatchNorm", spec).replace('name: "n"', 'name: "m"').replace(
        'top: "n"', 'top: "m"'
    )
    blobs = [seeded(3, seed=1), np.ones(3, np.float32), np.ones(1, np.float32)]
    model = convert(tmp_path, text, {"x": seeded(2, 3, 4, 4)}, {"n": blobs, "m": blobs})
    assert sorted(model.parameters(Role.STATE)) == ["n.running_mean", "n.running_var"]


BN_CASES = [
    pytest.param("bn_param { eps: 1e-3 }", 4, "stored", id="pspnet"),
    pytest.param("bn_param { bn_mode: INFERENCE }", 2, "none", id="segnet-inference"),
    pytest.param("bn_param { scale_filler { type: 'constant' value: 1 } }", 2, "batch", id="segnet-learn"),
]


@pytest.mark.parametrize(("settings", "count", "by"), BN_CASES)
def test_bn(tmp_path: Path, settings: str, count: int, by: str) -> None:
    x = seeded(2, 3, 4, 5)
    blobs = [seeded(1, 3, 1, 1, seed=i) for i in range(3)] + [np.abs(seeded(1, 3, 1, 1, seed=3)) + 0.5]
    slope, bias, mean, var = blobs
    y = x
    if by == "stored":
        y = (x - mean) / np.sqrt(var + 1e-3)
    elif by == "batch":
        y = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-9)
    got = outputs(tmp_path, layer("BN", settings), {"x": x}, {"n": blobs[:count]})["n"]
    np.testing.assert_allclose(got, y * slope + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize(
    ("axis", "count"), [(0, 1), (0, -1), (1, 1), (1, 2), (1, -1), (2, 2), (3, 1), (-1, 1), (-2, -1), (1, 0)], ids=str
)
def test_scale_and_bias(tmp_path: Path, kind: str, axis: int, count: int) -> None:
    x = seeded(2, 3, 5, 4)
    start = axis % 4
    dims = x.shape[start : 4 if count == -1 else start + count]
    a, c = seeded(*dims, seed=1), seeded(*dims, seed=2)
    wide = (*dims, *[1] * (4 - start - len(dims))) if dims else ()
    message = "scale_param" if kind == "Scale" else "bias_param"
    extra = "bias_term: true" if kind == "Scale" else ""
    text = layer(kind, f"{message} {{ axis: {axis} num_axes: {count} {extra} }}")
    want = x * a.reshape(wide) + c.reshape(wide) if kind == "Scale" else x + a.reshape(wide)
    got = outputs(tmp_path, text, {"x": x}, {"n": [a, c] if kind == "Scale" else [a]})["n"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize(
    ("axis", "dims"), [(0, (2,)), (0, (2, 3)), (1, (3,)), (1, (3, 5)), (-1, (4,)), (0, (2, 3, 5, 4))]
)
def test_second_bottom(tmp_path: Path, kind: str, axis: int, dims: tuple[int, ...]) -> None:
    x, f = seeded(2, 3, 5, 4), seeded(*dims, seed=1)
    wide = f.reshape(*dims, *[1] * (4 - axis % 4 - len(dims)))
    message = "scale_param" if kind == "Scale" else "bias_param"
    text = layer(kind, f"{message} {{ axis: {axis} num_axes: 7 }}", 'bottom: "x" bottom: "f"')
    got = outputs(tmp_path, text, {"x": x, "f": f})["n"]
    np.testing.assert_allclose(got, x * wide if kind == "Scale" else x + wide, rtol=1e-5, atol=1e-5)


def test_second_bottom_with_a_bias_of_its_own(tmp_path: Path) -> None:
    x, f, c = seeded(2, 3, 5, 4), seeded(2, 3, seed=1), seeded(2, 3, seed=2)
    text = layer("Scale", "scale_param { axis: 0 bias_term: true }", 'bottom: "x" bottom: "f"')
    got = outputs(tmp_path, text, {"x": x, "f": f}, {"n": [c]})["n"]
    np.testing.assert_allclose(got, x * f[..., None, None] + c[..., None, None], rtol=1e-5, atol=1e-5)


def test_scale_shared_by_bottoms_of_unlike_rank(tmp_path: Path) -> None:
    x, f, a = seeded(2, 3, 4, 5), seeded(2, 3), seeded(3, seed=1)
    text = "".join(
        f'layer {{ name: "{n}" type: "Scale" bottom: "{i}" top: "{n}" param {{ name: "w" }} }}'
        for n, i in (("a", "x"), ("c", "f"))
    )
    got = outputs(tmp_path, text, {"x": x, "f": f}, {"a": [a], "c": [a]})
    np.testing.assert_allclose(got["a"], x * a[:, None, None], rtol=1e-5)
    np.testing.assert_allclose(got["c"], f * a, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        pytest.param("local_size: 5 alpha: 1e-4 beta: 0.75", (2, 9, 4, 5), id="alexnet"),
        pytest.param("local_size: 3 alpha: 2 beta: 0.5 k: 2", (2, 9, 4, 5), id="k"),
        pytest.param("local_size: 99 alpha: 2", (2, 4, 4, 5), id="wider-than-channels"),
        pytest.param("local_size: 3 alpha: 2 beta: -0.5", (2, 9, 4, 5), id="negative-beta"),
        pytest.param("local_size: 5 alpha: -0.01 k: 2", (2, 9, 4, 5), id="negative-alpha"),
        pytest.param("local_size: 5 alpha: 0 k: 2", (2, 9, 4, 5), id="no-alpha"),
        pytest.param("norm_region: 1 local_size: 3 alpha: 2 beta: 0.6 k: 7", (2, 3, 6, 5), id="within-ignores-k"),
        pytest.param("norm_region: WITHIN_CHANNEL local_size: 101 alpha: 50", (2, 3, 6, 5), id="within-wide"),
    ],
)
def test_lrn(tmp_path: Path, settings: str, shape: tuple[int, ...]) -> None:
    given = dict(zip(settings.replace(":", "").split()[::2], settings.replace(":", "").split()[1::2], strict=True))
    size, alpha, beta = int(given["local_size"]), float(given["alpha"]), float(given.get("beta", 0.75))
    x, half = seeded(*shape), size // 2
    want = np.empty_like(x)
    for n, c, i, j in np.ndindex(*shape):
        if "norm_region" in given:
            near = x[n, c, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
            base = 1 + alpha / size**2 * (near**2).sum()
        else:
            base = float(given.get("k", 1)) + alpha / size * (x[n, max(c - half, 0) : c + half + 1, i, j] ** 2).sum()
        want[n, c, i, j] = x[n, c, i, j] * base**-beta
    got = outputs(tmp_path, layer("LRN", f"lrn_param {{ {settings} }}"), {"x": x})["n"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (2, 3, 5, 4)], ids=str)
@pytest.mark.parametrize("across", [False, True], ids=["each", "across"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "mean-only"])
def test_mvn(tmp_path: Path, shape: tuple[int, ...], across: bool, scaled: bool) -> None:
    x = seeded(*shape)
    axes = tuple(range(1 if across else 2, len(shape)))
    want = x - x.mean(axes, keepdims=True) if axes else x - x
    if scaled and axes:
        want = want / (x.std(axes, keepdims=True) + 0.25)
    settings = f"mvn_param {{ eps: 0.25 across_channels: {int(across)} normalize_variance: {int(scaled)} }}"
    got = outputs(tmp_path, layer("MVN", settings), {"x": x})["n"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_mvn_of_a_constant_plane_is_zero(tmp_path: Path) -> None:
    got = outputs(tmp_path, layer("MVN"), {"x": np.full((2, 3, 4, 4), 0.1, np.float32)})["n"]
    assert np.isfinite(got).all()


@pytest.mark.parametrize("spatial", [True, False], ids=["all", "channels"])
@pytest.mark.parametrize("shared", [True, False], ids=["one-scale", "scale-each"])
def test_normalize(tmp_path: Path, spatial: bool, shared: bool) -> None:
    x = seeded(2, 3, 5, 4)
    blobs: Blobs = {"n": [seeded(1 if shared else 3, seed=1)]}
    norm = np.sqrt((x**2).sum((1, 2, 3) if spatial else 1, keepdims=True) + 1e-10)
    scale = blobs["n"][0].reshape(-1, 1, 1)
    text = layer("Normalize", f"norm_param {{ across_spatial: {int(spatial)} channel_shared: {int(shared)} }}")
    got = outputs(tmp_path, text, {"x": x}, blobs)["n"]
    np.testing.assert_allclose(got, x / norm * scale, rtol=1e-4, atol=1e-5)
    text = text.replace(": 1", ": true").replace(": 0", ": false")
    if not shared and not spatial:  # the one form that OpenCV takes
        np.testing.assert_allclose(got, opencv(tmp_path, text, {"x": x}, blobs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3, 3)], ids=str)
def test_normalize_of_face_recognition(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = seeded(*shape)
    got = outputs(tmp_path, layer("Normalize"), {"x": x}, {"other": [seeded(1)]})["n"]
    np.testing.assert_allclose(got, x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("LRN", "lrn_param { local_size: 4 }", id="even-size"),
        pytest.param("LRN", "lrn_param { local_size: 0 }", id="no-size"),
        pytest.param("Scale", "scale_param { axis: 9 }", id="axis"),
        pytest.param("Scale", "scale_param { axis: 2 num_axes: 3 }", id="too-many-axes"),
        pytest.param("Bias", "bias_param { num_axes: -2 }", id="negative-axes"),
        pytest.param("Normalize", "normalize_param { normalize_type: 'L7' }", id="norm"),
        pytest.param("BatchNorm", "batch_norm_param { eps: 'x' }", id="text-for-a-number"),
    ],
)
def test_refuses(tmp_path: Path, kind: str, settings: str) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, layer(kind, settings), {"x": np.zeros((2, 4, 5, 5), np.float32)})
    assert caught.value.layer == "n"


def test_second_bottom_must_fit(tmp_path: Path) -> None:
    with pytest.raises(NetferryError, match="does not fit"):
        convert(tmp_path, layer("Scale", "", 'bottom: "x" bottom: "f"'), {"x": seeded(2, 3, 4, 4), "f": seeded(2, 5)})


def test_statistics_are_state_and_scales_learnable(tmp_path: Path) -> None:
    blobs = {"n": [seeded(3), seeded(3), np.ones(1, np.float32)], "s": [seeded(3), seeded(3)]}
    scale = 'layer { name: "s" type: "Scale" bottom: "n" top: "n" scale_param { bias_term: true } }'
    model = convert(tmp_path, layer("BatchNorm") + scale, {"x": seeded(2, 3, 4, 4)}, blobs)
    assert [n.op_type for n in model.graph] == ["BatchNormalization", "Mul", "Add"]
    roles = {v.name: role_of(v) for v in model.graph.initializers.values()}
    assert roles == {
        **dict.fromkeys(("n.ones", "n.zeros"), Role.CONSTANT),
        **dict.fromkeys(("n.running_mean", "n.running_var"), Role.STATE),
        **dict.fromkeys(("s.weight", "s.bias"), Role.LEARNABLE),
    }
