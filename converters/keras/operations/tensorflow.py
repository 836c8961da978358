"""TensorFlow's functions that Keras 3 has no operation for."""

from __future__ import annotations

import math

from netferry.converters.keras.layout import KT, channels_first, flatten
from netferry.converters.keras.operations.call import Op, Slice, operation
from netferry.converters.keras.operations.selection import taken


@operation("tf.keras.backend.batch_flatten")
def batch_flatten(op: Op) -> KT:
    """All axes behind the batch in one."""
    return flatten(op.b, op.plain(op.tensor("x")))


@operation("tf.clip_by_norm")
def clip_by_norm(op: Op) -> KT:
    """Scaled down to a length where it is longer."""
    x, b = op.floating(op.plain(op.tensor("t"))), op.b
    most = b.const(op.number("clip_norm", 1), "clip_norm")
    places = b.const(sorted(x.axis(a) for a in op.axes(x, "axes", 2)), "axes")
    length = b.op("ReduceL2", x.value, places, keepdims=1)
    return x.like(b.op("Div", b.op("Mul", x.value, most), b.op("Max", length, most)))


@operation("tf.image.per_image_standardization")
def standardized(op: Op) -> KT:
    """Mean 0 and deviation 1 for each picture; the deviation counts as at least 1 / sqrt(number of elements)."""
    x, b = op.floating(op.plain(op.tensor("image"))), op.b
    axes = list(range(x.rank - 3, x.rank))
    count = math.prod(op.l.dim(x, a, "the size of the picture") for a in axes)
    places = b.const(sorted(x.axis(a) for a in axes), "axes")
    centred = b.op("Sub", x.value, b.op("ReduceMean", x.value, places, keepdims=1))
    spread = b.op("Sqrt", b.op("ReduceMean", b.op("Mul", centred, centred), places, keepdims=1))
    return x.like(b.op("Div", centred, b.op("Max", spread, b.const(1 / math.sqrt(count), "least"))))


@operation("tf.image.central_crop")
def central_crop(op: Op) -> KT:
    """The middle of a picture, a share of its height and width."""
    x, share = op.plain(op.tensor("image")), op.number("central_fraction", 1)
    if not 0 < share <= 1:
        raise op.bad("central_fraction", share, "a number between 0 and 1")
    parts: list[tuple[int, Slice]] = []
    for axis in (x.rank - 3, x.rank - 2):
        size = op.l.dim(x, axis, "the size of the picture")
        start = int((size - size * share) / 2)
        parts.append((axis, Slice(start, size - start, None)))
    return taken(op, x, parts)


@operation("tf.nn.local_response_normalization", "tf.nn.lrn")
def local_response_normalization(op: Op) -> KT:
    """x / (bias + alpha * sum of squares of the neighbouring channels) ^ beta."""
    x = op.floating(op.plain(op.tensor("input")))
    if x.rank != 4:
        raise op.unsupported(f"a tensor of rank {x.rank}")
    size = 2 * op.integer("depth_radius", 1, 5) + 1
    alpha, beta = op.number("alpha", 3, 1.0) * size, op.number("beta", 4, 0.5)  # ONNX divides alpha by the size
    order = channels_first(4)
    made = op.b.op("LRN", x.to(op.b, order), size=size, bias=op.number("bias", 2, 1.0), alpha=alpha, beta=beta)
    return KT(made, order)
