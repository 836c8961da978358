"""Layers against NumPy forms of Darknet's C, written from its sources; what the conformance set does not hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.converters.darknet.running import convert, result

RNG = np.random.default_rng(11)
X = RNG.standard_normal((2, 4, 6, 8)).astype(np.float32)
NET = "[net]\nheight=6\nwidth=8\nchannels=4\n"
Array = np.ndarray


def normal(*shape: int) -> Array:
    """Seeded by the shape, so that a row does not depend on the rows before it."""
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def stair(x: Array) -> Array:
    n = np.floor(x)
    return np.where(n % 2 == 0, np.floor(x / 2), (x - n) + np.floor(x / 2))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "logistic": logistic,
    "loggy": lambda x: 2 / (1 + np.exp(-x)) - 1,
    "relu": lambda x: x * (x > 0),
    "relie": lambda x: np.where(x > 0, x, 0.01 * x),
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "linear": lambda x: x,
    "tanh": lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1),
    "plse": lambda x: np.where(x < -4, 0.01 * (x + 4), np.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)),
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "elu": lambda x: (x >= 0) * x + (x < 0) * (np.exp(x) - 1),
    "stair": stair,
    "hardtan": lambda x: np.clip(x, -1, 1),
    "lhtan": lambda x: np.where(x < 0, 0.001 * x, np.where(x > 1, 0.001 * (x - 1) + 1, x)),
    "selu": lambda x: (x >= 0) * 1.0507 * x + (x < 0) * 1.0507 * 1.6732 * (np.exp(x) - 1),
    "relu6": lambda x: np.clip(x, 0, 6),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "hard_mish": lambda x: np.where(x > 0, x, np.where(x > -2, x * x / 2 + x, 0)),
    "swish": lambda x: x * logistic(x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(0.797885 * x + 0.035677 * x**3)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(tmp_path: Path, name: str) -> None:
    x = np.concatenate([X, X * 5]).astype(np.float32)
    model = convert(tmp_path, f"{NET}[activation]\nactivation={name}\n")
    np.testing.assert_allclose(result(model, x), ACTIVATIONS[name](x.astype(np.float64)), rtol=1e-4, atol=1e-5)


def correlate(
    x: Array, w: Array, step: tuple[int, int] = (1, 1), pad: int = 0, dilation: int = 1, groups: int = 1
) -> Array:
    """Convolution by a loop over the taps."""
    n, c, k = w.shape[0], x.shape[1] // groups, w.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    reach = dilation * (k - 1) + 1
    high, wide = (x.shape[2] - reach) // step[0] + 1, (x.shape[3] - reach) // step[1] + 1
    y = np.zeros((x.shape[0], n, high, wide))
    for g in range(groups):
        rows = slice(g * n // groups, (g + 1) * n // groups)
        for i in range(k):
            for j in range(k):
                part = x[:, g * c : (g + 1) * c, i * dilation :: step[0], j * dilation :: step[1]][..., :high, :wide]
                y[:, rows] += np.einsum("bchw,nc->bnhw", part, w[rows, :, i, j])
    return y


CONVOLUTIONS = {
    "stride-x-and-y": ("filters=3\nsize=3\npad=1\nstride_x=2\nstride_y=1", {"step": (1, 2), "pad": 1}, (3, 4, 3, 3)),
    "stride-x-alone": ("filters=3\nsize=3\npad=1\nstride=1\nstride_x=3", {"step": (1, 3), "pad": 1}, (3, 4, 3, 3)),
    "dilation": ("filters=3\nsize=3\npad=1\ndilation=2", {"pad": 2, "dilation": 2}, (3, 4, 3, 3)),
    "dilation-of-1x1": ("filters=3\nsize=1\ndilation=4", {}, (3, 4, 1, 1)),
    "padding": ("filters=3\nsize=3\npadding=2", {"pad": 2}, (3, 4, 3, 3)),
    "groups": ("filters=6\nsize=3\npad=1\ngroups=2", {"pad": 1, "groups": 2}, (6, 2, 3, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(tmp_path: Path, name: str) -> None:
    settings, how, shape = CONVOLUTIONS[name]
    w, bias = normal(*shape), normal(shape[0])
    model = convert(tmp_path, f"{NET}[convolutional]\n{settings}\nactivation=linear\n", [bias, w])
    close(result(model, X), correlate(X, w, **how) + bias[:, None, None])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("flag", ["flipped", "binary", "xnor"])
def test_convolution_flags(tmp_path: Path, flag: str) -> None:
    w, bias = normal(3, 4, 3, 3), normal(3)
    stored, x = w, X
    want = w
    if flag == "flipped":
        stored = w.reshape(3, 36).T
    else:
        means = np.abs(w).mean((1, 2, 3), keepdims=True)
        want = np.where(w > 0, means, -means)
        x = np.where(X > 0, 1, -1) if flag == "xnor" else X
    cfg = f"{NET}[convolutional]\nfilters=3\nsize=3\npad=1\n{flag}=1\nactivation=linear\n"
    close(result(convert(tmp_path, cfg, [bias, stored]), X), correlate(x, want, pad=1) + bias[:, None, None])


@pytest.mark.parametrize("header", [(0, 1, 0), (0, 2, 0), (1, 0, 3), (0, 2, 5), (0, 1001, 0), (1001, 0, 0)], ids=str)
def test_header_versions(tmp_path: Path, header: tuple[int, int, int]) -> None:
    w, bias = normal(5, 192), normal(5)
    stored = w.T if max(header[:2]) > 1000 else w
    model = convert(tmp_path, f"{NET}[connected]\noutput=5\nactivation=linear\n", [bias, stored], header=header)
    close(result(model, X), (X.reshape(2, -1) @ w.T + bias).reshape(2, 5, 1, 1))
    assert model.source.version == ".".join(map(str, header))


def test_connected_with_batch_normalisation(tmp_path: Path) -> None:
    w, bias, scale, mean = normal(5, 192), normal(5), normal(5, 1)[:, 0], normal(1, 5)[0]
    variance = np.array([0, 1e-10, 1e-4, 1, 9], np.float32)
    cfg = f"{NET}[connected]\noutput=5\nbatch_normalize=1\nactivation=linear\n"
    got = result(convert(tmp_path, cfg, [bias, w, scale, mean, variance]), X)
    y = (X.reshape(2, -1).astype(np.float64) @ w.T - mean) / (np.sqrt(variance.astype(np.float64)) + 1e-6)
    np.testing.assert_allclose(got.reshape(2, 5), y * scale + bias, rtol=1e-3)


@pytest.mark.parametrize("normalised", [False, True])
def test_deconvolution(tmp_path: Path, normalised: bool) -> None:
    w, bias, scale, mean, variance = normal(4, 3, 4, 4), normal(3), normal(3, 1)[:, 0], normal(1, 3)[0], normal(3) ** 2
    y = np.zeros((2, 3, 6 * 2 + 2, 8 * 2 + 2))
    for i in range(6):
        for j in range(8):
            y[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("bc,cnij->bnij", X[:, :, i, j], w)
    y = y[:, :, 1:-1, 1:-1]
    arrays = [bias, w]
    if normalised:
        arrays = [bias, scale, mean, variance, w]
        y = (y - mean[:, None, None]) / (np.sqrt(variance) + 1e-6)[:, None, None] * scale[:, None, None]
    cfg = f"{NET}[deconvolutional]\nfilters=3\nsize=4\nstride=2\npadding=1\nactivation=linear\n"
    cfg += f"batch_normalize={int(normalised)}\n"
    np.testing.assert_allclose(result(convert(tmp_path, cfg, arrays), X), y + bias[:, None, None], rtol=1e-3, atol=1e-4)


def test_local_with_a_stride(tmp_path: Path) -> None:
    w, bias = normal(6, 3, 36), normal(3, 2, 3)
    want = np.zeros((2, 3, 2, 3))
    for i in range(2):
        for j in range(3):
            want[:, :, i, j] = X[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].reshape(2, -1) @ w[i * 3 + j].T
    cfg = f"{NET}[local]\nfilters=3\nsize=3\nstride=2\nactivation=linear\n"
    close(result(convert(tmp_path, cfg, [bias, w]), X), want + bias)


def lrn(x: Array, size: int, alpha: float, beta: float, kappa: float) -> Array:
    """normalization_layer.c, with its sums as it slides them."""
    squared, norms = x**2, np.full_like(x, kappa)
    for k in range(size // 2):
        norms[:, 0] += alpha * squared[:, k]
    for k in range(1, x.shape[1]):
        norms[:, k] = norms[:, k - 1]
        before, after = k - (size - 1) // 2 - 1, k + size // 2
        if before >= 0:
            norms[:, k] -= alpha * squared[:, before]
        if after < x.shape[1]:
            norms[:, k] += alpha * squared[:, after]
    return x * norms**-beta


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_local_response_normalisation(tmp_path: Path, size: int) -> None:
    model = convert(tmp_path, f"{NET}[normalization]\nsize={size}\nalpha=.01\nbeta=.75\nkappa=2\n")
    close(result(model, X), lrn(X.astype(np.float64), size, 0.01, 0.75, 2))


def pooled(x: Array, size: int, step: tuple[int, int], padding: int) -> Array:
    """maxpool_layer.c: a loop with its offsets."""
    high, wide = ((d + padding - size) // s + 1 for d, s in zip(x.shape[2:], step, strict=True))
    y = np.full((*x.shape[:2], high, wide), np.finfo(np.float32).min, np.float32)
    for i in range(high):
        for j in range(wide):
            for n in range(size):
                for m in range(size):
                    r, c = -(padding // 2) + i * step[0] + n, -(padding // 2) + j * step[1] + m
                    if 0 <= r < x.shape[2] and 0 <= c < x.shape[3]:
                        y[:, :, i, j] = np.maximum(y[:, :, i, j], x[:, :, r, c])
    return y


@pytest.mark.parametrize(
    ("settings", "size", "step", "padding"),
    [
        pytest.param("size=2\nstride=2", 2, (2, 2), 1, id="usual"),
        pytest.param("size=2\nstride=2\npadding=5", 2, (2, 2), 5, id="empty-windows"),
        pytest.param("size=3\nstride_x=2\nstride_y=3", 3, (3, 2), 2, id="strides-apart"),
        pytest.param("stride=3", 3, (3, 3), 2, id="size-left-out"),
        pytest.param("size=1\nstride=4", 1, (4, 4), 0, id="stride-over-size"),
    ],
)
def test_maxpool(tmp_path: Path, settings: str, size: int, step: tuple[int, int], padding: int) -> None:
    close(result(convert(tmp_path, f"{NET}[maxpool]\n{settings}\n"), X), pooled(X, size, step, padding))


def added(out: Array, add: Array, alpha: float = 1, beta: float = 1) -> Array:
    """shortcut_cpu: a loop over the common part."""
    out = out.copy()
    (c1, h1, w1), (c2, h2, w2) = add.shape[1:], out.shape[1:]
    stride, sample = max(w1 // w2, 1), max(w2 // w1, 1)
    for k in range(min(c1, c2)):
        for j in range(min(h1, h2)):
            for i in range(min(w1, w2)):
                if j * sample < h2 and i * sample < w2 and j * stride < h1 and i * stride < w1:
                    here = out[:, k, j * sample, i * sample]
                    out[:, k, j * sample, i * sample] = alpha * here + beta * add[:, k, j * stride, i * stride]
    return out


@pytest.mark.parametrize(
    ("between", "make"),
    [
        pytest.param("[maxpool]\nsize=2\nstride=2\n", lambda x: pooled(x, 2, (2, 2), 1), id="source-larger"),
        pytest.param("[upsample]\nstride=3\n", lambda x: x.repeat(3, 2).repeat(3, 3), id="source-smaller"),
        pytest.param("[crop]\ncrop_height=5\ncrop_width=6\nnoadjust=1\n", lambda x: x[:, :, :5, 1:7], id="common-part"),
        pytest.param("[route]\nlayers=0,0\n", lambda x: np.concatenate([x, x], 1), id="fewer-channels"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scales", [(1, 1), (2, 3)], ids=["plain", "alpha-beta"])
def test_shortcut_between_sizes(tmp_path: Path, between: str, make: Callable, scales: tuple[int, int]) -> None:
    cfg = f"{NET}[activation]\nactivation=linear\n{between}[shortcut]\nfrom=0\nalpha={scales[0]}\nbeta={scales[1]}\n"
    close(result(convert(tmp_path, cfg + "activation=linear\n"), X), added(make(X), X, *scales))


@pytest.mark.parametrize("how", ["none", "relu", "softmax"])
def test_shortcut_of_several_sources(tmp_path: Path, how: str) -> None:
    first, second = "[activation]\nactivation=leaky\n", "[activation]\nactivation=tanh\n"
    a = ACTIVATIONS["leaky"](X)
    c = np.tanh(a)
    if how == "none":
        cfg, arrays, want = "from=-2,0\nactivation=leaky\n", None, ACTIVATIONS["leaky"](c + a + a)
        model = convert(tmp_path, f"{NET}{first}{second}[shortcut]\n{cfg}", arrays)
    else:
        w = np.array([0.5, -1.0], np.float32)
        f = np.maximum(w, 0) / (np.maximum(w, 0).sum() + 1e-4) if how == "relu" else np.exp(w) / np.exp(w).sum()
        cfg = f"from=-2\nweights_type=per_feature\nweights_normalization={how}\nactivation=linear\n"
        model, want = convert(tmp_path, f"{NET}{first}{second}[shortcut]\n{cfg}", [w]), c * f[0] + a * f[1]
    close(result(model, X), want)


def reorg_memory(x: Array, step: int, forward: bool) -> Array:
    """reorg_cpu, index by index."""
    b, c, h, w = x.shape
    out_c = c // step**2
    flat, out = x.ravel(), np.zeros(x.size, x.dtype)
    for n in range(b):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    inner = i + w * (j + h * (k + c * n))
                    offset = k // out_c
                    w2, h2 = i * step + offset % step, j * step + offset // step
                    outer = w2 + w * step * (h2 + h * step * (k % out_c + out_c * n))
                    if forward:
                        out[outer] = flat[inner]
                    else:
                        out[inner] = flat[outer]
    return out.reshape((b, out_c, h * step, w * step) if forward else (b, c * step**2, h // step, w // step))


RESHAPED = {
    "reorg": ("[reorg]\nstride=2", lambda x: reorg_memory(x, 2, False)),
    "reorg-reverse": ("[reorg]\nstride=2\nreverse=1", lambda x: reorg_memory(x, 2, True)),
    "reorg-flatten": ("[reorg]\nflatten=1", lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape)),
    "upsample-scale": ("[upsample]\nstride=2\nscale=.5", lambda x: x.repeat(2, 2).repeat(2, 3) * 0.5),
    "downsample": ("[upsample]\nstride=-2", lambda x: x.reshape(2, 4, 3, 2, 4, 2).sum((3, 5))),
    "crop-plain": ("[crop]\ncrop_height=3\ncrop_width=4\nnoadjust=1", lambda x: x[:, :, 1:4, 2:6]),
    "route-group": ("[activation]\n[route]\nlayers=-1\ngroups=2\ngroup_id=1", lambda x: x[:, 2:]),
    "route-unlike": (
        "[activation]\n[maxpool]\nsize=2\nstride=2\n[route]\nlayers=0,1",
        lambda x: np.concatenate([x.reshape(2, -1), pooled(x, 2, (2, 2), 1).reshape(2, -1)], 1),
    ),
    "softmax-spatial": ("[softmax]\nspatial=1", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "softmax-of-a-map": ("[softmax]", lambda x: np.exp(x) / np.exp(x).sum((1, 2, 3), keepdims=True)),
    "scale-channels": (
        "[activation]\n[avgpool]\n[scale_channels]\nfrom=0\nactivation=linear",
        lambda x: x * x.mean((2, 3), keepdims=True),
    ),
    "sam": ("[activation]\n[logistic]\n[sam]\nfrom=0", lambda x: x * logistic(x)),
    "local-average": (
        "[local_avgpool]\nsize=2\nstride=2\npadding=0",
        lambda x: x.reshape(2, 4, 3, 2, 4, 2).mean((3, 5)),
    ),
    "cost": ("[logistic]\n[cost]\ntype=sse", logistic),
    "dropout": ("[dropout]\nprobability=.9", lambda x: x),
}


@pytest.mark.parametrize("name", RESHAPED)
def test_without_parameters(tmp_path: Path, name: str) -> None:
    cfg, want = RESHAPED[name]
    close(result(convert(tmp_path, f"{NET}{cfg}\n"), X), want(X))


def test_batchnorm_of_both_writers(tmp_path: Path) -> None:
    bias, scale, mean, variance = normal(4), normal(4, 1)[:, 0], normal(1, 4)[0], normal(2, 4)[0] ** 2
    y = (X - mean[:, None, None]) / (np.sqrt(variance) + 1e-6)[:, None, None] * scale[:, None, None]
    close(result(convert(tmp_path, f"{NET}[batchnorm]\n", [scale, mean, variance]), X), y)
    model = convert(tmp_path, f"{NET}[batchnorm]\n", [bias, scale, mean, variance], header=(0, 2, 5))
    close(result(model, X), y + bias[:, None, None])


def test_share_index(tmp_path: Path) -> None:
    w, bias = normal(4, 4, 3, 3), normal(4)
    one = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
    model = convert(tmp_path, f"{NET}{one}{one}share_index=-1\n", [bias, w])
    y = X
    for _ in range(2):
        y = ACTIVATIONS["leaky"](correlate(y, w, pad=1) + bias[:, None, None])
    np.testing.assert_allclose(result(model, X), y, rtol=1e-4, atol=1e-3)
    assert len(model.parameters()) == 2


def test_dead_sections_are_dropped_and_said(tmp_path: Path) -> None:
    one = "[convolutional]\nfilters=2\nsize=1\nactivation=linear\n"
    arrays = [normal(2), normal(2, 4), normal(1, 2)[0], normal(2, 4)[::-1]]
    model = convert(tmp_path, f"{NET}[activation]\n{one}[route]\nlayers=0\n{one}", arrays)
    assert [n.layer for n in model.notes if n.kind == "dropped"] == ["layer_1"]
    close(result(model, X), correlate(X, arrays[3].reshape(2, 4, 1, 1)) + arrays[2][:, None, None])
    assert [row.name for row in model.layers] == ["data", "layer_0", "layer_2", "layer_3"]
