"""Pictures cropped, bordered, cut into patches, in other colours, blurred, their edges; diagonals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.keras.layers.padding import padding_of
from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.call import Op, Slice, operation
from netferry.converters.keras.operations.selection import taken
from netferry.converters.keras.operations.vision import data_format_of, picture, space_of
from netferry.schemas.graph import shape_of
from netferry.schemas.ir import ir

_FLOAT = ir.DataType.FLOAT


def _sides(op: Op, x: KT, what: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Axes of height and width, and what is cut or added on both sides; one of three numbers may be missing."""
    first = data_format_of(op) == "channels_first"
    axes = [x.rank - 2, x.rank - 1] if first else [x.rank - 3, x.rank - 2]
    found: list[tuple[int, int]] = []
    for axis, (before, behind, target) in zip(
        axes, (("top", "bottom", "height"), ("left", "right", "width")), strict=True
    ):
        low, high = op.take(f"{before}_{what}", None, None), op.take(f"{behind}_{what}", None, None)
        wanted = op.take(f"target_{target}", None, None)
        if wanted is not None and (low is None or high is None):
            size = op.l.dim(x, axis, f"the {target}")
            rest = size - int(wanted) if what == "cropping" else int(wanted) - size
            low = rest - int(high or 0) if low is None else low
            high = rest - int(low) if high is None else high
        low, high = (op.as_integers(v, f"{before}_{what}") for v in (low, high))
        if not low or not high or low[0] < 0 or high[0] < 0:
            raise op.bad(f"{before}_{what}", low, "a size of at least 0")
        found.append((low[0], high[0]))
    return axes, found


@operation("ops:CropImages")
def crop(op: Op) -> KT:
    """Borders cut off."""
    x = op.plain(op.tensor("images"))
    axes, sides = _sides(op, x, "cropping")
    ends = [Slice(low, -high if high else None, None) for low, high in sides]
    return taken(op, x, list(zip(axes, ends, strict=True)))


@operation("ops:PadImages")
def border(op: Op) -> KT:
    """Borders of zeros."""
    x = op.plain(op.tensor("images"))
    axes, sides = _sides(op, x, "padding")
    pads = [0] * (2 * x.rank)
    for axis, (low, high) in zip(axes, sides, strict=True):
        pads[x.axis(axis)], pads[x.rank + x.axis(axis)] = low, high
    return x.like(op.b.op("Pad", x.value, op.b.const(pads, "pads"))) if any(pads) else x


@operation("ops:ExtractPatches")
def patches(op: Op) -> KT:
    """Windows of a picture, the elements of each along the channels."""
    x, rank, data_format, order = picture(op, "images")
    if rank != 2:
        raise op.unsupported(f"a tensor of rank {rank + 2}")
    size = space_of(op, op.take("size", 1), rank, data_format, "size")
    given = op.take("strides", 2, None)
    strides = size if given is None else space_of(op, given, rank, data_format, "strides")
    dilation = space_of(op, op.take("dilation_rate", 3, 1), rank, data_format, "dilation_rate")
    channels, value = op.l.dim(x, order[1]), x.to(op.b, order)
    count = size[0] * size[1] * channels
    if count > 4096:
        raise op.unsupported(f"patches of {count} numbers")
    kernel = np.eye(count, dtype=np.float32).reshape(count, *size, channels).transpose(0, 3, 1, 2)
    kind = str(op.take("padding", 4, "valid")).lower()
    padding = padding_of("same" if kind == "same" else "valid", shape_of(value)[2:], size, strides, dilation)
    made = op.b.op("Conv", value, op.b.const(np.ascontiguousarray(kernel), "patches"), kernel_shape=size,
                   strides=strides, dilations=dilation, **padding.attributes)  # fmt: skip
    return KT(made, order)


def _channels(op: Op, x: KT) -> tuple[list[ir.Value], int]:
    """The three channels, each with an axis of size 1, and where that axis lies."""
    axis = x.rank - 3 if data_format_of(op) == "channels_first" else x.rank - 1
    if op.l.dim(x, axis) != 3:
        raise op.unsupported("other than three channels")
    return list(op.b.op("Split", x.value, outputs=3, num_outputs=3, axis=x.axis(axis))), x.axis(axis)


@operation("ops:RGBToHSV", "tf.image.rgb_to_hsv")
def rgb_to_hsv(op: Op) -> KT:
    """Hue, saturation and value of red, green and blue from 0 to 1."""
    x, b = op.floating(op.plain(op.tensor("images"))), op.b
    (red, green, blue), place = _channels(op, x)
    zero, one = b.const(0.0, "zero"), b.const(1.0, "one")
    value = b.op("Max", red, green, blue)
    spread = b.op("Sub", value, b.op("Min", red, green, blue))
    gray = b.op("Equal", spread, zero)
    black = b.op("Equal", value, zero)
    saturation = b.op("Where", black, zero, b.op("Div", spread, b.op("Where", black, one, value)))
    sixth = b.op("Div", b.const(1 / 6, "sixth"), b.op("Where", gray, one, spread))

    def hue(first: ir.Value, second: ir.Value, start: float) -> ir.Value:
        return b.op("Add", b.op("Mul", sixth, b.op("Sub", first, second)), b.const(start, "start"))

    found = b.op("Where", b.op("Equal", green, value), hue(blue, red, 2 / 6), hue(red, green, 4 / 6))
    found = b.op("Where", b.op("Equal", red, value), hue(green, blue, 0.0), found)
    found = b.op("Where", gray, zero, found)
    found = b.op("Where", b.op("Less", found, zero), b.op("Add", found, one), found)
    return KT(b.op("Concat", found, saturation, value, axis=place), x.order)


@operation("ops:HSVToRGB", "tf.image.hsv_to_rgb")
def hsv_to_rgb(op: Op) -> KT:
    """Red, green and blue of hue, saturation and value from 0 to 1."""
    x, b = op.floating(op.plain(op.tensor("images"))), op.b
    (hue, saturation, value), place = _channels(op, x)
    one, zero = b.const(1.0, "one"), b.const(0.0, "zero")
    sixfold = b.op("Mul", hue, b.const(6.0, "six"))

    def from_centre(centre: float) -> ir.Value:
        return b.op("Abs", b.op("Sub", sixfold, b.const(centre, "centre")))

    two = b.const(2.0, "two")
    parts = [b.op("Sub", from_centre(3.0), one), b.op("Sub", two, from_centre(2.0)), b.op("Sub", two, from_centre(4.0))]
    base = b.op("Sub", one, saturation)
    colours = [
        b.op("Mul", b.op("Add", base, b.op("Mul", saturation, b.op("Clip", part, zero, one))), value) for part in parts
    ]
    return KT(b.op("Concat", *colours, axis=place), x.order)


def _depthwise(op: Op, x: KT, order: Sequence[int], kernels: np.ndarray, pads: list[int]) -> ir.Value:
    """Convolve each channel with each of the (n, height, width) kernels."""
    channels = op.l.dim(x, order[1])
    weight = np.tile(kernels[:, None], (channels, 1, 1, 1)).astype(np.float32)
    return op.b.op("Conv", x.to(op.b, order), op.b.const(weight, "kernel"), kernel_shape=list(kernels.shape[1:]),
                   group=channels, pads=pads)  # fmt: skip


@operation("ops:GaussianBlur")
def blur(op: Op) -> KT:
    """Each channel convolved with a normal distribution, zeros around."""
    x, rank, data_format, order = picture(op, "images")
    if rank != 2:
        raise op.unsupported(f"a tensor of rank {rank + 2}")
    size = space_of(op, op.take("kernel_size", 1, 3), rank, data_format, "kernel_size")
    width = np.broadcast_to(op.array(op.take("sigma", 2, 1.0), "sigma", _FLOAT), 2)
    bells = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / s) ** 2) for n, s in zip(size, width, strict=True)]
    first, second = (bell / bell.sum() for bell in bells)
    # Keras's product has the second along the rows, and names its axes by kernel_size all the same
    kernel = np.outer(second, first).reshape(1, *size)
    pads = [(n - 1) // 2 for n in size] + [n - 1 - (n - 1) // 2 for n in size]
    return KT(_depthwise(op, x, order, kernel, pads), order)


@operation("ops:SobelEdges", "tf.image.sobel_edges")
def sobel(op: Op) -> KT:
    """Slopes down and to the right along a new last axis, the picture mirrored around."""
    name = "images" if op.keras3 else "image"
    x, rank, _, order = picture(op, name)
    if rank != 2:
        raise op.unsupported(f"a tensor of rank {rank + 2}")
    down = np.asarray([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float32)
    around = op.b.op("Pad", x.to(op.b, order), op.b.const([0, 0, 1, 1, 0, 0, 1, 1], "pads"), mode="reflect")
    edges = _depthwise(op, KT(around, tuple(order)), order, np.stack([down, down.T]), [0] * 4)
    dims, channels = shape_of(edges), op.l.dim(x, order[1])
    if any(not isinstance(d, int) for d in dims[2:]):
        raise op.unsupported("pictures of dynamic size")
    split = op.b.reshape(edges, [0, channels, 2, *(int(d or 0) for d in dims[2:])])
    return KT(split, (0, order[1], 4, *order[2:]))


@operation("ops:Diagonal", "ops:Diag", "ops:Diagflat", "tf.linalg.diag_part")
def diagonal(op: Op) -> KT:
    """The elements of a diagonal along a new last axis; or a matrix of zeros with a vector on one."""
    name = next((n for n in ("x", "input") if n in op.l.kwargs), "x")
    x = op.plain(op.tensor(name))
    offset = op.integer("offset" if op.l.type == "ops:Diagonal" else "k", 1, 0)
    if op.l.type == "ops:Diagflat":
        x = KT.of(op.b.reshape(x.logical(op.b), [-1])) if x.rank != 1 else x
    if x.rank == 1:
        return _on_diagonal(op, x, offset)
    last = [0, 1] if op.keras3 else [-2, -1]
    axes = [op.integer(n, 2 + i, last[i]) if op.keras3 else last[i] for i, n in enumerate(("axis1", "axis2"))]
    rows, columns = op.axes_of(x.rank, axes)
    height, width = op.l.dim(x, rows, "the height"), op.l.dim(x, columns, "the width")
    rest = [a for a in range(x.rank) if a not in (rows, columns)]
    down, right = max(-offset, 0), max(offset, 0)
    places = np.arange(max(min(height - down, width - right), 0))
    if not places.size:
        raise op.bad("offset", offset, f"a diagonal of a {height} x {width} matrix")
    value = x.to(op.b, (*rest, rows, columns))
    flat = op.b.reshape(value, [*[0] * len(rest), height * width])
    picked = (places + down) * width + places + right
    return KT.of(op.b.op("Gather", flat, op.b.const(picked, "diagonal"), axis=-1))


def _on_diagonal(op: Op, x: KT, offset: int) -> KT:
    size = x.shape[0]
    if not isinstance(size, int):
        raise op.unsupported("a vector of dynamic size")
    side = size + abs(offset)
    if side > 1000:
        raise op.unsupported(f"a matrix of {side} x {side}")
    where = np.eye(side, k=offset, dtype=bool)
    padded = op.b.op("Pad", x.logical(op.b), op.b.const([max(offset, 0), max(-offset, 0)], "pads"))
    zero = op.b.const(np.zeros((), x.dtype.numpy()), "zero")
    return KT.of(op.b.op("Where", op.b.const(where, "diagonal"), padded, zero))
