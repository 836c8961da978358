"""Losses and accuracy in nets whose label is a real input; nets fed by data layers lose them on the way in.

Rules: softmax_loss_layer.cpp, sigmoid_cross_entropy_loss_layer.cpp, euclidean_loss_layer.cpp, hinge_loss_layer.cpp,
multinomial_logistic_loss_layer.cpp, infogain_loss_layer.cpp, contrastive_loss_layer.cpp and accuracy_layer.cpp of BVLC
Caffe. ``loss_weight`` scales gradients, not tops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, NeedsFixedBatch, layer
from netferry.converters.caffe.windows import axis_of
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

_MODES = ("FULL", "VALID", "BATCH_SIZE", "NONE")
_TINY = float(np.finfo(np.float32).tiny)
_INT = ir.DataType.INT64


@layer("SoftmaxWithLoss", "SoftmaxLoss")
def softmax_with_loss(b: Builder, l: Layer, x: ir.Value, *label: ir.Value) -> ir.Value | tuple[ir.Value, ...]:
    """Cross entropy of the softmax; a second top is the softmax. Without labels it is the softmax alone."""
    axis = axis_of(l, x, l.param("softmax_param").int("axis", 1))
    prob = b.op("Softmax", x, axis=axis)
    p = l.param("loss_param")
    mode, ignored = _normalization(p, "VALID")
    if not label:
        return prob
    losses, valid = _entropy(b, l, prob, label, axis, _TINY, ignored)
    loss = _normalized(b, losses, valid, mode)
    return (loss, prob) if len(l.tops) > 1 else loss


@layer("MultinomialLogisticLoss")
def multinomial_logistic_loss(b: Builder, l: Layer, prob: ir.Value, label: ir.Value) -> ir.Value:
    """Cross entropy of probabilities, per item of the batch."""
    l.param("loss_param").ignore("normalization", "normalize", "ignore_label")
    if len(shape_of(prob)) != 2:
        prob = b.op("Flatten", prob, axis=1)
    losses, _ = _entropy(b, l, prob, (label,), 1, 1e-20, None)
    return _normalized(b, losses, None, "BATCH_SIZE")


@layer("InfogainLoss")
def infogain_loss(
    b: Builder, l: Layer, x: ir.Value, label: ir.Value, *matrix: ir.Value
) -> ir.Value | tuple[ir.Value, ...]:
    """Cross entropy of the softmax, weighted by the label's row of a third bottom (classes x classes)."""
    if len(matrix) != 1:
        raise UnsupportedOption("the matrix is read from a third bottom only, not from a file", layer=l.name)
    gain = matrix[0]
    axis = axis_of(l, x, l.param("infogain_loss_param").int("axis", 1))
    mode, ignored = _normalization(l.param("loss_param"), "VALID")
    prob = b.op("Softmax", x, axis=axis)
    scores, wanted = _classes(b, l, prob, label, axis)
    classes = l.fixed(scores, 1, "InfogainLoss")
    _same_count(l, (classes, classes), shape_of(gain))
    index, valid = _usable(b, wanted, ignored)
    log = b.op("Log", b.op("Max", scores, 1e-20))
    rows = b.op("Gather", b.reshape(gain, [classes, classes]), b.op("Squeeze", index, [1]))
    weighted = b.op("Mul", b.op("Transpose", rows, perm=[0, 2, 1]), log)
    losses = b.op("Neg", b.op("ReduceSum", weighted, [1], keepdims=1))
    loss = _normalized(b, losses if valid is None else b.op("Mul", losses, valid), valid, mode)
    return (loss, prob) if len(l.tops) > 1 else loss


def _normalization(p: Params, default: str) -> tuple[str, int | None]:
    """How the sum is divided, and the label that does not count."""
    mode = p.enum("normalization", _MODES, default)
    if p.has("normalize") and not p.has("normalization"):
        mode = "VALID" if p.bool("normalize", False) else "BATCH_SIZE"
    p.ignore("normalize")
    return mode, p.int("ignore_label") if p.has("ignore_label") else None


def _entropy(
    b: Builder, l: Layer, prob: ir.Value, label: Sequence[ir.Value], axis: int, least: float, ignored: int | None
) -> tuple[ir.Value, ir.Value | None]:
    """-log of the label's probability as (outer, inner), 0 where ignored; and which count (None: all do)."""
    if len(label) > 1:
        raise MalformedFile(f"takes 2 bottoms, not {1 + len(label)}", layer=l.name)
    prob, wanted = _classes(b, l, prob, label[0], axis)
    log = b.op("Log", b.op("Max", prob, least))
    index, valid = _usable(b, wanted, ignored)
    picked = b.op("Neg", b.op("GatherElements", log, index, axis=1))
    return (picked if valid is None else b.op("Mul", picked, valid)), valid


def _classes(b: Builder, l: Layer, x: ir.Value, label: ir.Value, axis: int) -> tuple[ir.Value, ir.Value]:
    """Scores as (outer, classes, inner) and whole labels as (outer, 1, inner)."""
    shape, given = shape_of(x), shape_of(label)
    _same_count(l, (*shape[:axis], *shape[axis + 1 :]), given)
    classes = l.fixed(x, axis, "a loss over classes")
    inner = math.prod(l.fixed(x, i, "a loss over positions") for i in range(axis + 1, len(shape)))
    if len(shape) != 3 or axis != 1:
        x = b.reshape(x, [0 if axis == 1 else -1, classes, inner])
    return x, b.reshape(b.op("Cast", label, to=_INT), [-1, 1, inner])


def _same_count(l: Layer, want: Sequence[Dim], have: Sequence[Dim]) -> None:
    """Check that labels and items are equally many, for every batch size."""
    sizes = [math.prod(d for d in dims if isinstance(d, int)) for dims in (want, have)]
    names = [sorted(str(d) for d in dims if not isinstance(d, int)) for dims in (want, have)]
    if names[0] != names[1]:
        raise NeedsFixedBatch(f"labels of shape {tuple(have)} for {tuple(want)}", layer=l.name)
    if sizes[0] != sizes[1]:
        raise MalformedFile(f"labels of shape {tuple(have)} do not fit {tuple(want)}", layer=l.name)


def _usable(b: Builder, label: ir.Value, ignored: int | None) -> tuple[ir.Value, ir.Value | None]:
    """Labels that may be looked up, and 1.0 where they count."""
    if ignored is None:
        return label, None
    counts = b.op("Not", b.op("Equal", label, b.const(ignored, "ignored")))
    index = b.op("Where", counts, label, b.const(0, "any_class"))
    return index, b.op("Cast", counts, to=ir.DataType.FLOAT)


def _normalized(b: Builder, losses: ir.Value, valid: ir.Value | None, mode: str) -> ir.Value:
    """Sum of ``losses`` (batch first) divided as the mode says, by at least 1."""
    if mode == "VALID" and valid is not None:
        return b.op("Div", b.op("ReduceSum", losses, keepdims=0), _at_least_one(b, valid))
    if mode in ("VALID", "FULL"):
        return b.op("ReduceMean", losses, keepdims=0)
    if mode == "NONE":
        return b.op("ReduceSum", losses, keepdims=0)
    each = b.op("ReduceSum", losses, list(range(1, len(shape_of(losses)))), keepdims=0)
    return b.op("ReduceMean", each, keepdims=0)


def _at_least_one(b: Builder, valid: ir.Value) -> ir.Value:
    return b.op("Max", b.op("ReduceSum", valid, keepdims=0), 1.0)


@layer("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy_loss(b: Builder, l: Layer, x: ir.Value, *target: ir.Value) -> ir.Value:
    """Cross entropy of a sigmoid with targets in 0 .. 1; without targets it is the sigmoid alone."""
    mode, ignored = _normalization(l.param("loss_param"), "BATCH_SIZE")
    if not target:
        return b.op("Sigmoid", x)
    x, t = _alike(b, l, x, target[0])
    losses = b.op("Sub", b.op("Softplus", x), b.op("Mul", x, t))
    if ignored is None:
        return _normalized(b, losses, None, mode)
    _, valid = _usable(b, b.op("Cast", t, to=_INT), ignored)
    return _normalized(b, losses if valid is None else b.op("Mul", losses, valid), valid, mode)


@layer("EuclideanLoss")
def euclidean_loss(b: Builder, l: Layer, x: ir.Value, y: ir.Value) -> ir.Value:
    """Half the squared distance, per item of the batch."""
    l.param("loss_param").ignore("normalization", "normalize", "ignore_label")
    x, y = _alike(b, l, x, y)
    each = b.op("ReduceSumSquare", b.op("Sub", x, y), [1], keepdims=0)
    return b.op("Mul", b.op("ReduceMean", each, keepdims=0), 0.5)


@layer("ContrastiveLoss")
def contrastive_loss(b: Builder, l: Layer, x: ir.Value, y: ir.Value, similar: ir.Value) -> ir.Value:
    """Squared distance d of pairs that are similar, max(0, margin - d) squared of others; half, per item."""
    p = l.param("contrastive_loss_param")
    margin, legacy = p.float("margin", 1.0), p.bool("legacy_version", False)
    l.param("loss_param").ignore("normalization", "normalize", "ignore_label")
    x, y = _alike(b, l, x, y)
    _same_count(l, shape_of(x)[:1], shape_of(similar))
    squared = b.op("ReduceSumSquare", b.op("Sub", x, y), [1], keepdims=0)
    near = b.op("Cast", b.op("Cast", b.reshape(similar, [-1]), to=_INT), to=ir.DataType.BOOL)
    if legacy:
        apart = b.op("Relu", b.op("Sub", margin, squared))
    else:
        short = b.op("Relu", b.op("Sub", margin, b.op("Sqrt", squared)))
        apart = b.op("Mul", short, short)
    return b.op("Mul", b.op("ReduceMean", b.op("Where", near, squared, apart), keepdims=0), 0.5)


def _alike(b: Builder, l: Layer, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Both bottoms as (batch, values)."""
    shapes = shape_of(x), shape_of(y)
    if any(not s for s in shapes):
        raise MalformedFile("a loss needs a batch axis, a bottom is a scalar", layer=l.name)
    _same_count(l, shapes[0][:1], shapes[1][:1])
    _same_count(l, shapes[0], shapes[1])
    flat = [v if len(shape_of(v)) == 2 else b.op("Flatten", v, axis=1) for v in (x, y)]
    return flat[0], flat[1]


@layer("HingeLoss")
def hinge_loss(b: Builder, l: Layer, x: ir.Value, label: ir.Value) -> ir.Value:
    """One against all: max(0, 1 -+ score), summed (L1) or squared (L2), per item of the batch."""
    norm = l.param("hinge_loss_param").enum("norm", {"L1": 1, "L2": 2}, "L1")
    l.param("loss_param").ignore("normalization", "normalize", "ignore_label")
    if not shape_of(x):
        raise MalformedFile("HingeLoss needs a batch axis, the bottom is a scalar", layer=l.name)
    if len(shape_of(x)) != 2:
        x = b.op("Flatten", x, axis=1)
    _same_count(l, shape_of(x)[:1], shape_of(label))
    classes = l.fixed(x, 1, "HingeLoss")
    flat = b.reshape(b.op("Cast", label, to=_INT), [-1])
    values = b.const(np.array([1, -1], np.float32), "off_on")
    sign = b.op("OneHot", flat, b.const(classes, "classes"), values, axis=-1)
    margin = b.op("Relu", b.op("Add", b.op("Mul", x, sign), 1.0))
    each = b.op("ReduceSum" if norm == "L1" else "ReduceSumSquare", margin, [1], keepdims=0)
    return b.op("ReduceMean", each, keepdims=0)


@layer("Accuracy")
def accuracy(b: Builder, l: Layer, x: ir.Value, label: ir.Value) -> ir.Value | tuple[ir.Value, ...]:
    """Share of labels among the ``top_k`` scores; a tie counts against. A second top gives it per class."""
    p = l.param("accuracy_param")
    axis, k = axis_of(l, x, p.int("axis", 1)), p.int("top_k", 1, least=1)
    ignored = p.int("ignore_label") if p.has("ignore_label") else None
    classes = l.fixed(x, axis, "Accuracy")
    if k > classes:
        raise MalformedFile(f"accuracy_param.top_k: {k} of {classes} classes", layer=l.name)
    x, wanted = _classes(b, l, x, label, axis)
    index, valid = _usable(b, wanted, ignored)
    own = b.op("GatherElements", x, index, axis=1)
    as_good = b.op("Cast", b.op("GreaterOrEqual", x, own), to=ir.DataType.FLOAT)
    hit = b.op("LessOrEqual", b.op("ReduceSum", as_good, [1], keepdims=1), float(k))
    hits = b.op("Cast", hit, to=ir.DataType.FLOAT)
    if valid is not None:
        hits = b.op("Mul", hits, valid)
    whole = _normalized(b, hits, valid, "VALID")
    if len(l.tops) < 2:
        return whole
    one_hot = b.op("OneHot", b.reshape(index, [-1]), b.const(classes, "classes"), np.array([0, 1], np.float32), axis=-1)
    if valid is not None:
        one_hot = b.op("Mul", one_hot, b.reshape(valid, [-1, 1]))
    right = b.op("ReduceSum", b.op("Mul", one_hot, b.reshape(hits, [-1, 1])), [0], keepdims=0)
    seen = b.op("Max", b.op("ReduceSum", one_hot, [0], keepdims=0), 1.0)
    return whole, b.op("Div", right, seen)
