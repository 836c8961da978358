"""Trees of classes, crnn, iseg, and what AlexeyAB's fork adds, against loops written from the sources; refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry.errors import (
    InputError,
    LimitExceeded,
    MalformedFile,
    UnsafeFile,
    UnsupportedLayer,
    UnsupportedOption,
)
from tests.converters.darknet.running import convert, result

RNG = np.random.default_rng(3)
Array = np.ndarray
TREE = "a -1\nb -1\nc -1\nd 0\ne 0\nf 1\ng 3\nh 3\ni 3\nj 3\n"
GROUPS = [3, 2, 1, 4]


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def by_group(x: Array, axis: int) -> Array:
    return np.concatenate([softmax(p, axis) for p in np.split(x, np.cumsum(GROUPS)[:-1], axis)], axis)


@pytest.mark.parametrize("name", ["data/my.tree", "my.tree"])
def test_softmax_of_a_tree(tmp_path: Path, name: str) -> None:
    (tmp_path / "my.tree").write_text(TREE)
    x = RNG.standard_normal((3, 10, 1, 1)).astype(np.float32) * 4
    model = convert(tmp_path, f"[net]\nheight=1\nwidth=1\nchannels=10\n[softmax]\ntree={name}\ntemperature=2\n")
    np.testing.assert_allclose(result(model, x), by_group(x / 2, 1), rtol=1e-5, atol=1e-6)


def test_one_group_is_a_plain_softmax(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a -1\nb -1\n")
    x = RNG.standard_normal((2, 2, 1, 1)).astype(np.float32)
    got = result(convert(tmp_path, "[net]\nheight=1\nwidth=1\nchannels=2\n[softmax]\ntree=t\n"), x)
    np.testing.assert_allclose(got, softmax(x, 1), rtol=1e-5)


def test_region_of_a_tree(tmp_path: Path) -> None:
    """YOLO9000's head: softmax by group for every anchor and cell."""
    (tmp_path / "9k.tree").write_text(TREE)
    x = RNG.standard_normal((2, 2 * 15, 3, 4)).astype(np.float32)
    cfg = "[net]\nheight=3\nwidth=4\nchannels=30\n[region]\nanchors=1,1,2,2\nclasses=10\nnum=2\nsoftmax=1\n"
    cfg += "tree=data/9k.tree\nmap=data/coco9k.map\n"
    y = x.reshape(2, 2, 15, 12).astype(np.float64)
    sure = 1 / (1 + np.exp(-y[:, :, [0, 1, 4]]))
    want = np.concatenate([sure[:, :, :2], y[:, :, 2:4], sure[:, :, 2:], by_group(y[:, :, 5:], 2)], 2)
    model = convert(tmp_path, cfg)
    np.testing.assert_allclose(result(model, x), want.reshape(x.shape), rtol=1e-4, atol=1e-5)
    assert not [n for n in model.notes if n.kind == "ignored"]
    with pytest.raises(UnsupportedOption, match="tree"):
        convert(tmp_path, cfg, decode_boxes=True)


@pytest.mark.parametrize("soft", [0, 1])
def test_region_with_a_background_class(tmp_path: Path, soft: int) -> None:
    """region_layer.c: no logistic on objectness; with softmax it is one of the classes."""
    x = RNG.standard_normal((2, 2 * 8, 3, 4)).astype(np.float32)
    cfg = "[net]\nheight=3\nwidth=4\nchannels=16\n[region]\nanchors=1,1,2,2\nclasses=3\nnum=2\nbackground=1\n"
    cfg += f"softmax={soft}\n"
    y = x.reshape(2, 2, 8, 12).astype(np.float64)
    rest = softmax(y[:, :, 4:], 2) if soft else np.concatenate([y[:, :, 4:5], 1 / (1 + np.exp(-y[:, :, 5:]))], 2)
    want = np.concatenate([1 / (1 + np.exp(-y[:, :, :2])), y[:, :, 2:4], rest], 2)
    np.testing.assert_allclose(result(convert(tmp_path, cfg), x), want.reshape(x.shape), rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedOption, match="objectness"):
        convert(tmp_path, cfg, decode_boxes=True)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param("a -1\nb 5\n", MalformedFile, id="parent-behind"),
        pytest.param("a -1\nb 1\n", MalformedFile, id="own-parent"),
        pytest.param("a -1\nb x\n", MalformedFile, id="no-number"),
        pytest.param("", MalformedFile, id="empty"),
        pytest.param("a -1\n", MalformedFile, id="too-few"),
        pytest.param("a -1\n" * (4 << 20), LimitExceeded, id="too-large"),
        pytest.param(None, InputError, id="not-there"),
    ],
)
def test_trees_that_are_none(tmp_path: Path, content: str | None, error: type[Exception]) -> None:
    if content is not None:
        (tmp_path / "t").write_text(content)
    with pytest.raises(error):
        convert(tmp_path, "[net]\nheight=1\nwidth=1\nchannels=2\n[softmax]\ntree=t\n")


def test_a_tree_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a -1\nb -1\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link").symlink_to(tmp_path / "t")
    for name in ("../t", str(tmp_path / "t"), "link"):
        with pytest.raises(UnsafeFile):
            convert(inner, f"[net]\nheight=1\nwidth=1\nchannels=2\n[softmax]\ntree={name}\n")


def conv3(x: Array, w: Array) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(w), *x.shape[2:]))
    for i in range(3):
        for j in range(3):
            out += np.einsum("ncyx,kc->nkyx", padded[:, :, i : i + x.shape[2], j : j + x.shape[3]], w[:, :, i, j])
    return out


@pytest.mark.parametrize("normalised", [False, True], ids=["bias", "normalised"])
@pytest.mark.parametrize(("steps", "shortcut"), [(1, 0), (3, 0), (3, 1)])
def test_crnn(tmp_path: Path, steps: int, shortcut: int, normalised: bool) -> None:
    """Loop by loop as crnn_layer.c: for each step input, state and output convolutions."""
    c, hidden, out, batch = 2, 3, 4, 2
    arrays: list[Array] = []
    parts = []
    for inputs, filters in ((c, hidden), (hidden, hidden), (hidden, out)):
        numbers = [RNG.standard_normal(filters)]
        if normalised:
            numbers += [RNG.standard_normal(filters), RNG.standard_normal(filters), RNG.uniform(0.5, 2, filters)]
        weights = RNG.standard_normal((filters, inputs, 3, 3)) * 0.3
        arrays += [*numbers, weights]
        parts.append((numbers, weights))

    def apply(x: Array, which: int) -> Array:
        numbers, weights = parts[which]
        y = conv3(x, weights)
        if normalised:
            bias, scale, mean, variance = (n[None, :, None, None] for n in numbers)
            y = (y - mean) / (np.sqrt(variance) + 1e-6) * scale + bias
        else:
            y = y + numbers[0][None, :, None, None]
        return np.where(y > 0, y, 0.1 * y)

    x = RNG.standard_normal((steps * batch, c, 4, 5)).astype(np.float32)
    state, outputs = np.zeros((batch, hidden, 4, 5)), []
    for step in range(steps):
        now = x[step * batch : (step + 1) * batch].astype(np.float64)
        state = apply(now, 0) + apply(state, 1) + (state if shortcut else 0)
        outputs.append(apply(state, 2))
    cfg = (
        f"[net]\nheight=4\nwidth=5\nchannels={c}\ntime_steps={steps}\n[crnn]\nhidden_filters={hidden}\n"
        f"output_filters={out}\nactivation=leaky\nshortcut={shortcut}\nbatch_normalize={int(normalised)}\n"
    )
    got = result(convert(tmp_path, cfg, arrays), x)
    np.testing.assert_allclose(got, np.concatenate(outputs), rtol=1e-3, atol=1e-4)


def test_iseg(tmp_path: Path) -> None:
    x = RNG.standard_normal((2, 5, 3, 4)).astype(np.float32)
    got = result(convert(tmp_path, "[net]\nheight=3\nwidth=4\nchannels=5\n[iseg]\nclasses=2\nids=3\n"), x)
    np.testing.assert_allclose(got, np.concatenate([1 / (1 + np.exp(-x[:, :2])), x[:, 2:]], 1), rtol=1e-5, atol=1e-6)
    with pytest.raises(MalformedFile):
        convert(tmp_path, "[net]\nheight=3\nwidth=4\nchannels=5\n[iseg]\nclasses=2\nids=2\n")


@pytest.mark.parametrize("out", [1, 2, 3, 4])
def test_maxpool_over_channels(tmp_path: Path, out: int) -> None:
    """Channel g is the largest of g, g + out, g + 2 out …"""
    x = RNG.standard_normal((2, 4, 3, 5)).astype(np.float32)
    cfg = f"[net]\nheight=3\nwidth=5\nchannels=4\n[maxpool]\nmaxpool_depth=1\nout_channels={out}\nsize=1\nstride=1\n"
    want = np.stack([x[:, g::out].max(1) for g in range(out)], 1)
    np.testing.assert_array_equal(result(convert(tmp_path, cfg), x), want)


@pytest.mark.parametrize(
    "name", ["normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval"]
)
def test_activations_over_channels(tmp_path: Path, name: str) -> None:
    x = RNG.standard_normal((2, 4, 3, 5)).astype(np.float32)
    got = result(convert(tmp_path, f"[net]\nheight=3\nwidth=5\nchannels=4\n[activation]\nactivation={name}\n"), x)
    want = np.zeros_like(x, dtype=np.float64)
    for n, i, j in np.ndindex(2, 3, 5):
        v = x[n, :, i, j].astype(np.float64)
        if name == "normalize_channels":
            want[n, :, i, j] = np.where(v > 0, v / (0.0001 + v[v > 0].sum()), 0)
        else:
            e = np.exp(v - (v.max() if name.endswith("maxval") else 0))
            want[n, :, i, j] = e / (0.0001 + e.sum())
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["conv_lstm", "Gaussian_yolo", "reorg3d", "contrastive", "history", "nobody"])
def test_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UnsupportedLayer, match=kind) as caught:
        convert(tmp_path, f"[net]\nheight=3\nwidth=4\nchannels=5\n[{kind}]\nsize=1\n", [np.zeros(3)])
    assert ("no reader" in str(caught.value)) == (kind == "nobody")
