"""Losses and accuracy against loops in NumPy by Caffe's rules, at two batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from tests.converters.caffe.conformance import Arrays, Runner
from tests.converters.caffe.single import convert, seeded
from tests.converters.caffe.test_elementwise import layer

Loss = Callable[[np.ndarray, np.ndarray], float]


def at_two_batches(folder: Path, text: str, feeds: Arrays) -> list[tuple[Arrays, Arrays]]:
    """(inputs, outputs) at the declared batch and at a longer one."""
    runner = Runner(convert(folder, text, feeds))
    assert all(dims[0] == "batch" for dims in runner.dims.values())
    longer = {k: np.concatenate([v, v[::-1], v[:1]]) for k, v in feeds.items()}
    return [(f, runner.run(f)) for f in (feeds, longer)]


def divisor(mode: str, full: int, valid: int, outer: int) -> float:
    return max(1.0, {"FULL": full, "VALID": valid, "BATCH_SIZE": outer, "NONE": 1}[mode])


def softmax_loss(x: np.ndarray, label: np.ndarray, mode: str, ignored: int | None, axis: int = 1) -> float:
    """softmax_loss_layer.cpp: -log max(p, smallest normal float), summed over the labels that count."""
    x = x.astype(np.float64)
    e = np.exp(x - x.max(axis, keepdims=True))
    p = e / e.sum(axis, keepdims=True)
    outer = int(np.prod(x.shape[:axis]))
    p = p.reshape(outer, x.shape[axis], -1)
    loss, valid = 0.0, 0
    for (i, j), value in np.ndenumerate(label.reshape(outer, -1)):
        if int(value) == ignored:
            continue
        loss -= np.log(max(p[i, int(value), j], np.finfo(np.float32).tiny))
        valid += 1
    return loss / divisor(mode, label.size, valid, outer)


@pytest.mark.parametrize("mode", ["FULL", "VALID", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignored", [None, 1, 255])
@pytest.mark.parametrize(
    ("shape", "label_shape"),
    [((3, 5), (3,)), ((3, 5), (3, 1)), ((3, 5, 2, 4), (3, 1, 2, 4)), ((3, 5, 4), (3, 4))],
    ids=str,
)
def test_softmax_with_loss(
    tmp_path: Path, shape: tuple[int, ...], label_shape: tuple[int, ...], ignored: int | None, mode: str
) -> None:
    label = np.random.default_rng(1).integers(0, 5, label_shape).astype(np.float32)
    if ignored == 255:
        label.flat[::2] = 255
    skip = "" if ignored is None else f"ignore_label: {ignored}"
    text = layer("SoftmaxWithLoss", f"loss_param {{ normalization: {mode} {skip} }} loss_weight: 3", "x t", "y p")
    for feeds, got in at_two_batches(tmp_path, text, {"x": seeded(*shape) * 3, "t": label}):
        want = softmax_loss(feeds["x"], feeds["t"], mode, ignored)
        assert got["y"].shape == ()
        np.testing.assert_allclose(got["y"], want, rtol=1e-4)
        assert got["p"].shape == feeds["x"].shape


@pytest.mark.parametrize(
    ("settings", "mode"),
    [("", "VALID"), ("normalize: true", "VALID"), ("normalize: false", "BATCH_SIZE"), ("normalization: 3", "NONE")],
)
def test_which_normalization(tmp_path: Path, settings: str, mode: str) -> None:
    label = np.array([[0, 2, 1], [1, 1, 0]], np.float32)
    text = layer("SoftmaxWithLoss", f"loss_param {{ {settings} }}", "x t")
    for feeds, got in at_two_batches(tmp_path, text, {"x": seeded(2, 4, 3), "t": label}):
        np.testing.assert_allclose(got["y"], softmax_loss(feeds["x"], feeds["t"], mode, None), rtol=1e-4)


def test_softmax_with_loss_along_the_last_axis(tmp_path: Path) -> None:
    label = np.random.default_rng(1).integers(0, 5, (3, 4)).astype(np.float32)
    text = layer("SoftmaxWithLoss", "softmax_param { axis: -1 } loss_param { normalization: BATCH_SIZE }", "x t")
    x = seeded(3, 4, 5)
    got = Runner(convert(tmp_path, text, {"x": x, "t": label})).run({"x": x, "t": label})["y"]
    np.testing.assert_allclose(got, softmax_loss(x, label, "BATCH_SIZE", None, 2), rtol=1e-4)


def test_impossible_classes_cost_no_more_than_the_smallest_float(tmp_path: Path) -> None:
    x, label = np.array([[500, 0.0], [500, 0]], np.float32), np.array([1, 0], np.float32)
    for feeds, got in at_two_batches(tmp_path, layer("SoftmaxWithLoss", "", "x t"), {"x": x, "t": label}):
        np.testing.assert_allclose(got["y"], softmax_loss(feeds["x"], feeds["t"], "VALID", None), rtol=1e-5)


def test_nothing_but_ignored_labels(tmp_path: Path) -> None:
    feeds = {"x": seeded(2, 3), "t": np.full(2, 255, np.float32)}
    settings = "loss_param { ignore_label: 255 } accuracy_param { ignore_label: 255 }"
    for kind in ("SoftmaxWithLoss", "Accuracy"):
        assert Runner(convert(tmp_path, layer(kind, settings, "x t"), feeds)).run(feeds)["y"] == 0


def sigmoid_loss(x: np.ndarray, t: np.ndarray, mode: str, ignored: int | None) -> float:
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    each = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    counts = np.ones(t.shape, bool) if ignored is None else t.astype(int) != ignored
    return float(each[counts].sum()) / divisor(mode, t.size, int(counts.sum()), len(x))


@pytest.mark.parametrize(
    ("settings", "mode", "ignored"),
    [
        pytest.param("", "BATCH_SIZE", None, id="default"),
        pytest.param("normalize: true", "VALID", None, id="normalize"),
        pytest.param("normalization: FULL ignore_label: -1", "FULL", -1, id="full"),
        pytest.param("normalization: VALID ignore_label: -1", "VALID", -1, id="valid"),
        pytest.param("normalization: NONE", "NONE", None, id="none"),
        pytest.param("ignore_label: 1", "BATCH_SIZE", 1, id="ignore-ones"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2, 3)], ids=str)
def test_sigmoid_cross_entropy(
    tmp_path: Path, shape: tuple[int, ...], settings: str, mode: str, ignored: int | None
) -> None:
    t = np.random.default_rng(2).choice(np.array([0, 1, 0.3], np.float32), shape)
    if ignored == -1:
        t.flat[::3] = -1
    text = layer("SigmoidCrossEntropyLoss", f"loss_param {{ {settings} }}", "x t")
    for feeds, got in at_two_batches(tmp_path, text, {"x": seeded(*shape) * 2, "t": t}):
        np.testing.assert_allclose(got["y"], sigmoid_loss(feeds["x"], feeds["t"], mode, ignored), rtol=1e-4)


def hinge(squared: bool) -> Loss:
    def loss(x: np.ndarray, t: np.ndarray) -> float:
        sign = np.ones((len(x), x[0].size))
        sign[np.arange(len(x)), t.ravel().astype(int)] = -1
        margin = np.maximum(0, 1 + sign * x.reshape(len(x), -1))
        return float((margin**2 if squared else margin).sum() / len(x))

    return loss


def multinomial(x: np.ndarray, t: np.ndarray) -> float:
    p = np.maximum(x.reshape(len(x), -1)[np.arange(len(x)), t.ravel().astype(int)], 1e-20)
    return float(-np.log(p).mean())


LABEL = np.array([1, 0, 3], np.float32)


@pytest.mark.parametrize(
    ("text", "x", "t", "loss"),
    [
        pytest.param(
            layer("EuclideanLoss", "", "x t"),
            seeded(3, 4, 2),
            seeded(3, 4, 2, seed=1),
            lambda x, t: ((x - t) ** 2).sum() / len(x) / 2,
            id="euclidean",
        ),
        pytest.param(
            layer("EuclideanLoss", "", "x t"),
            seeded(3),
            seeded(3, 1, seed=1),
            lambda x, t: ((x - t[:, 0]) ** 2).sum() / len(x) / 2,
            id="euclidean-of-vectors",
        ),
        pytest.param(layer("HingeLoss", "", "x t"), seeded(3, 4), LABEL, hinge(False), id="hinge"),
        pytest.param(
            layer("HingeLoss", "hinge_loss_param { norm: L2 }", "x t"),
            seeded(3, 4, 1, 1),
            LABEL.reshape(3, 1, 1, 1),
            hinge(True),
            id="hinge-squared",
        ),
        pytest.param(
            layer("MultinomialLogisticLoss", "", "x t"),
            np.maximum(seeded(3, 4), 0),
            LABEL,
            multinomial,
            id="multinomial",
        ),
    ],
)
def test_losses(tmp_path: Path, text: str, x: np.ndarray, t: np.ndarray, loss: Loss) -> None:
    for feeds, got in at_two_batches(tmp_path, text, {"x": x, "t": t}):
        assert got["y"].shape == ()
        np.testing.assert_allclose(got["y"], loss(feeds["x"], feeds["t"]), rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "margin", "legacy"),
    [("", 1, False), ("margin: 3", 3, False), ("margin: 5 legacy_version: true", 5, True)],
)
def test_contrastive(tmp_path: Path, settings: str, margin: float, legacy: bool) -> None:
    feeds = {"a": seeded(4, 3, 1, 1), "b": seeded(4, 3, 1, 1, seed=1), "s": np.array([1, 0, 0, 1], np.float32)}
    text = layer("ContrastiveLoss", f"contrastive_loss_param {{ {settings} }}", "a b s")
    for given, got in at_two_batches(tmp_path, text, feeds):
        squared = ((given["a"] - given["b"]) ** 2).sum((1, 2, 3))
        apart = np.maximum(margin - squared, 0) if legacy else np.maximum(margin - np.sqrt(squared), 0) ** 2
        want = np.where(given["s"] != 0, squared, apart).mean() / 2
        np.testing.assert_allclose(got["y"], want, rtol=1e-5)


@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2, 5)], ids=str)
def test_infogain(tmp_path: Path, shape: tuple[int, ...], ignored: int | None) -> None:
    gain = np.abs(seeded(1, 1, 4, 4, seed=2))
    label = np.random.default_rng(3).integers(0, 4, (3, *shape[2:])).astype(np.float32)
    skip = "" if ignored is None else f"ignore_label: {ignored}"
    text = layer("InfogainLoss", f"loss_param {{ {skip} }}", "x t h")
    x = seeded(*shape)
    p = np.exp(x.astype(np.float64))
    p = (p / p.sum(1, keepdims=True)).reshape(3, 4, -1)
    loss, valid = 0.0, 0
    for (i, j), value in np.ndenumerate(label.reshape(3, -1).astype(int)):
        if value != ignored:
            loss -= gain[0, 0, value] @ np.log(p[i, :, j])
            valid += 1
    runner = Runner(convert(tmp_path, text, {"x": x, "t": label, "h": gain}))
    got = runner.run({"x": x, "t": label, "h": gain})["y"]
    np.testing.assert_allclose(got, loss / valid, rtol=1e-5)


def accuracy(x: np.ndarray, t: np.ndarray, k: int, ignored: int | None) -> tuple[float, np.ndarray]:
    """accuracy_layer.cpp: right where fewer than k other scores are at least that of the label."""
    classes = x.shape[1]
    x, t = x.reshape(len(x), classes, -1), t.reshape(len(x), -1).astype(int)
    right, seen = np.zeros(classes), np.zeros(classes)
    for (i, j), label in np.ndenumerate(t):
        if label == ignored:
            continue
        seen[label] += 1
        right[label] += (x[i, :, j] >= x[i, label, j]).sum() - 1 < k
    total = right.sum() / seen.sum() if seen.any() else 0.0
    return total, np.divide(right, seen, out=np.zeros(classes), where=seen > 0)


@pytest.mark.parametrize(("k", "ignored"), [(1, None), (2, None), (3, 2), (1, 255)], ids=str)
@pytest.mark.parametrize(
    ("shape", "label_shape"), [((6, 4), (6,)), ((6, 4, 1, 1), (6, 1, 1, 1)), ((6, 4, 3, 2), (6, 3, 2))], ids=str
)
@pytest.mark.parametrize("tops", ["y", "y each"])
def test_accuracy(
    tmp_path: Path, shape: tuple[int, ...], label_shape: tuple[int, ...], k: int, ignored: int | None, tops: str
) -> None:
    x = np.round(seeded(*shape) * 2)  # ties
    t = np.random.default_rng(5).integers(0, 3, label_shape).astype(np.float32)
    if ignored == 255:
        t.flat[::2] = 255
    skip = "" if ignored is None else f"ignore_label: {ignored}"
    text = layer("Accuracy", f"accuracy_param {{ top_k: {k} {skip} }}", "x t", tops)
    for feeds, got in at_two_batches(tmp_path, text, {"x": x, "t": t}):
        total, each = accuracy(feeds["x"], feeds["t"], k, ignored)
        np.testing.assert_allclose(got["y"], total, rtol=1e-6)
        if "each" in tops:
            np.testing.assert_allclose(got["each"], each, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "function"),
    [("SoftmaxWithLoss", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)), ("SigmoidCrossEntropyLoss", None)],
)
def test_a_loss_without_labels_is_what_it_is_built_on(tmp_path: Path, kind: str, function: Loss | None) -> None:
    x = seeded(2, 3)
    (got,) = Runner(convert(tmp_path, layer(kind), {"x": x})).run({"x": x}).values()
    np.testing.assert_allclose(
        got, np.exp(x) / np.exp(x).sum(1, keepdims=True) if function else 1 / (1 + np.exp(-x)), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        pytest.param(layer("SoftmaxWithLoss", "", "a b"), [(2, 3), (3,)], id="too-many-labels"),
        pytest.param(layer("SoftmaxWithLoss", "", "a b c"), [(2, 3), (2,), (2,)], id="three-bottoms"),
        pytest.param(layer("SoftmaxWithLoss", "softmax_param { axis: 2 }", "a b"), [(2, 3), (2,)], id="axis"),
        pytest.param(
            layer("SoftmaxWithLoss", "loss_param { normalization: MEAN }", "a b"), [(2, 3), (2,)], id="normalization"
        ),
        pytest.param(layer("SigmoidCrossEntropyLoss", "", "a b"), [(2, 3), (2, 4)], id="sigmoid-unlike"),
        pytest.param(layer("EuclideanLoss", "", "a b"), [(2, 3), (2, 4)], id="euclidean-unlike"),
        pytest.param(layer("EuclideanLoss", "", "a b"), [(2, 6), (3, 4)], id="euclidean-batches"),
        pytest.param(layer("InfogainLoss", "", "a b"), [(2, 3), (2,)], id="infogain-by-file"),
        pytest.param(layer("InfogainLoss", "", "a b c"), [(2, 3), (2,), (4, 3)], id="infogain-shape"),
        pytest.param(layer("HingeLoss", "", "a b"), [(2, 3), (2, 3)], id="hinge-labels"),
        pytest.param(layer("HingeLoss", "hinge_loss_param { norm: 3 }", "a b"), [(2, 3), (2,)], id="hinge-norm"),
        pytest.param(layer("Accuracy", "accuracy_param { top_k: 4 }", "a b"), [(2, 3), (2,)], id="top-k"),
        pytest.param(layer("Accuracy", "accuracy_param { top_k: 0 }", "a b"), [(2, 3), (2,)], id="top-none"),
    ],
)
def test_refuses(tmp_path: Path, text: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, text, {n: seeded(*s) for n, s in zip("abc", shapes, strict=False)})
    assert caught.value.layer == "y"
