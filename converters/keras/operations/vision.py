"""Convolutions, poolings, resizing and normalisation as raw operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layers.padding import padding_of
from netferry.converters.keras.layers.pooling import adaptive
from netferry.converters.keras.layers.resizing import METHODS, cropped, interpolated, resized, window
from netferry.converters.keras.layout import (
    KT,
    Order,
    channels_first,
    channels_last_to_first,
    depthwise_to_first,
    identity,
)
from netferry.converters.keras.operations.broadcast import placed
from netferry.converters.keras.operations.call import Op, operation
from netferry.schemas.graph import shape_of
from netferry.schemas.ir import ir


def data_format_of(op: Op) -> str:
    """channels_last or channels_first, as TensorFlow or Keras spells it."""
    value = op.take("data_format", None, None)
    return "channels_first" if value in ("channels_first", "NCHW", "NCW", "NCDHW") else "channels_last"


def space_of(op: Op, value: Any, rank: int, data_format: str, name: str) -> list[int]:
    """Sizes along space; TensorFlow also gives them for all axes."""
    found = op.as_integers(1 if value is None else value, name) or [1]
    if len(found) == rank + 2:
        found = found[2:] if data_format == "channels_first" else found[1:-1]
    found = found * rank if len(found) == 1 else found
    if len(found) != rank or min(found) < 1:
        raise op.bad(name, value, f"{rank} sizes of at least 1")
    return found


def picture(op: Op, *names: str) -> tuple[KT, int, str, Order]:
    name = next((n for n in names if n in op.l.kwargs), names[0])
    x = op.floating(op.plain(op.tensor(name)))
    if x.rank not in (3, 4, 5):
        raise op.unsupported(f"a tensor of rank {x.rank}")
    data_format = data_format_of(op)
    return x, x.rank - 2, data_format, channels_first(x.rank, data_format)


def constant_kernel(op: Op, *names: str) -> np.ndarray:
    name = next((n for n in names if n in op.l.kwargs), names[0])
    value = op.take(name, 1)
    if isinstance(value, KT):
        found = value.value.const_value
        if found is None:
            raise op.unsupported("a kernel that is computed")
        value = found.numpy()
    return op.array(value, name, ir.DataType.FLOAT)


def _padding(
    op: Op, x: ir.Value, size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> dict[str, Any]:
    kind = op.take("padding", 3, "valid")
    if not isinstance(kind, str) or kind.lower() not in ("same", "valid"):
        raise op.unsupported("padding other than SAME and VALID")
    return padding_of(kind.lower(), shape_of(x)[2:], size, strides, dilation).attributes


@operation("ops:Conv", "tf.nn.conv2d", "tf.nn.conv1d", "tf.nn.conv3d", "tf.nn.convolution", "ops:DepthwiseConv",
           "tf.nn.depthwise_conv2d", "tf.nn.depthwise_conv2d_native")  # fmt: skip
def conv(op: Op) -> KT:
    """Convolution by a constant kernel, ordinary or depthwise."""
    x, rank, data_format, order = picture(op, "inputs" if op.keras3 else "input", "value", "inputs")
    kernel = constant_kernel(op, "kernel" if op.keras3 else "filters", "filter")
    if kernel.ndim != rank + 2:
        raise op.bad("kernel", kernel.shape, f"an array of rank {rank + 2}")
    strides = space_of(
        op, op.take("strides" if "stride" not in op.l.kwargs else "stride", 2, 1), rank, data_format, "strides"
    )
    name = "dilation_rate" if op.keras3 else "dilations"
    dilation = space_of(op, op.take(name, None, 1), rank, data_format, name)
    value = x.to(op.b, order)
    channels = op.l.dim(x, order[1])
    depthwise = "epthwise" in op.l.type
    weight = depthwise_to_first(kernel) if depthwise else channels_last_to_first(kernel)
    each = 1 if depthwise else kernel.shape[-2]
    if (depthwise and kernel.shape[-2] != channels) or channels % each:
        raise op.bad("kernel", kernel.shape, f"a kernel for {channels} channels")
    size = kernel.shape[:rank]
    made = op.b.op(
        "Conv", value, op.b.const(np.ascontiguousarray(weight), "kernel"), kernel_shape=list(size),
        strides=strides if any(s != 1 for s in strides) else None,
        dilations=dilation if any(d != 1 for d in dilation) else None,
        group=channels // each if channels != each else None, **_padding(op, value, size, strides, dilation),
    )  # fmt: skip
    return KT(made, order)


@operation("ops:MaxPool", "ops:AveragePool", "tf.nn.max_pool2d", "tf.nn.max_pool", "tf.nn.max_pool1d",
           "tf.nn.max_pool3d", "tf.nn.avg_pool2d", "tf.nn.avg_pool", "tf.nn.avg_pool1d", "tf.nn.avg_pool3d",
           "tf.nn.max_pool_v2", "tf.nn.avg_pool_v2")  # fmt: skip
def pool(op: Op) -> KT:
    """Largest or mean of each window."""
    x, rank, data_format, order = picture(op, "inputs" if op.keras3 else "input", "value")
    name = "pool_size" if op.keras3 else "ksize"
    size = space_of(op, op.take(name, 1), rank, data_format, name)
    given = op.take("strides", 2, None)
    strides = size if given is None else space_of(op, given, rank, data_format, "strides")
    value = x.to(op.b, order)
    operator = "MaxPool" if "max" in op.l.type.lower() else "AveragePool"
    made = op.b.op(operator, value, kernel_shape=size, strides=strides if any(s != 1 for s in strides) else None,
                   **_padding(op, value, size, strides, [1] * rank))  # fmt: skip
    return KT(made, order)


@operation("ops:AdaptiveAveragePool", "ops:AdaptiveMaxPool")
def adaptive_pool(op: Op) -> KT:
    """Mean or largest of ``output_size`` windows that cover all of space."""
    x, rank, data_format, order = picture(op, "inputs")
    target = space_of(op, op.take("output_size", 1), rank, data_format, "output_size")
    sizes = [op.l.dim(x, a, "the size of space") for a in order[2:]]
    return KT(adaptive(op.b, x.to(op.b, order), sizes, target, "Max" if "Max" in op.l.type else "Mean"), order)


@operation("ops:SeparableConv")
def separable_conv(op: Op) -> KT:
    """A depthwise convolution by a constant kernel, then one of size 1."""
    x, rank, data_format, order = picture(op, "inputs")
    depthwise = op.array(op.take("depthwise_kernel", 1), "depthwise_kernel", ir.DataType.FLOAT)
    pointwise = op.array(op.take("pointwise_kernel", 2), "pointwise_kernel", ir.DataType.FLOAT)
    strides = space_of(op, op.take("strides", 3, 1), rank, data_format, "strides")
    dilation = space_of(op, op.take("dilation_rate", None, 1), rank, data_format, "dilation_rate")
    channels = op.l.dim(x, order[1])
    if depthwise.ndim != rank + 2 or pointwise.ndim != rank + 2 or depthwise.shape[-2] != channels:
        raise op.bad("depthwise_kernel", depthwise.shape, f"a kernel for {channels} channels")
    value, size = x.to(op.b, order), depthwise.shape[:rank]
    first = op.b.const(np.ascontiguousarray(depthwise_to_first(depthwise)), "depthwise")
    second = op.b.const(np.ascontiguousarray(channels_last_to_first(pointwise)), "pointwise")
    middle = op.b.op("Conv", value, first, kernel_shape=list(size), strides=strides, dilations=dilation,
                     group=channels, **_padding(op, value, size, strides, dilation))  # fmt: skip
    return KT(op.b.op("Conv", middle, second, kernel_shape=[1] * rank), order)


@operation("tf.nn.bias_add")
def bias_add(op: Op) -> KT:
    """A vector added to the channels."""
    x = op.plain(op.tensor("value"))
    bias = op.take("bias", 1)
    axis = 1 if data_format_of(op) == "channels_first" else x.rank - 1
    vector = op.as_tensor(bias, "bias", ir.DataType.FLOAT).value
    behind = x.rank - 1 - x.axis(axis)
    if behind:
        vector = op.b.op("Unsqueeze", vector, op.b.const(list(range(1, behind + 1)), "axes"))
    return x.like(op.b.op("Add", x.value, vector))


@operation("ops:BatchNorm", "tf.nn.batch_normalization")
def batch_normalization(op: Op) -> KT:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset; statistics constant or computed."""
    x = op.floating(op.plain(op.tensor("x")))
    axis = op.axis(x, "axis", 3, -1) if op.keras3 else x.rank - 1
    epsilon = op.number("epsilon" if op.keras3 else "variance_epsilon", 6 if op.keras3 else 5, 1e-3)

    def part(name: str, place: int) -> ir.Value | None:
        value = op.take(name, place, None)
        if value is None:
            return None
        tensor = op.floating(op.as_tensor(value, name, ir.DataType.FLOAT))
        if tensor.rank == 1:
            behind = x.rank - 1 - x.axis(axis)
            axes = op.b.const(list(range(1, behind + 1)), "axes")
            return op.b.op("Unsqueeze", tensor.value, axes) if behind else tensor.value
        return tensor.to(op.b, x.order) if tensor.rank == x.rank else tensor.logical(op.b)

    mean, variance = part("mean", 1), part("variance", 2)
    offset = part("offset", 3)
    scale = part("scale", 4)
    spread = op.b.op("Sqrt", op.b.op("Add", variance, op.b.const(epsilon, "epsilon")))
    made = op.b.op("Div", op.b.op("Sub", x.value, mean), spread)
    made = made if scale is None else op.b.op("Mul", made, scale)
    return x.like(made if offset is None else op.b.op("Add", made, offset))


@operation("ops:Resize", "tf.image.resize", "tf.image.resize_bilinear", "tf.image.resize_nearest_neighbor",
           "tf.image.resize_bicubic", "tf.image.resize_images")  # fmt: skip
def resize(op: Op) -> KT:
    """Pictures of another size, as tensorflow resizes them."""
    x = op.plain(op.tensor("images"))
    if x.rank not in (3, 4):
        raise op.unsupported(f"a tensor of rank {x.rank}")
    size = op.integers("size", 1) or []
    if len(size) != 2 or min(size) < 1:
        raise op.bad("size", size, "a height and a width")
    target = (size[0], size[1])
    named = {"tf.image.resize_bilinear": "bilinear", "tf.image.resize_nearest_neighbor": "nearest",
             "tf.image.resize_bicubic": "bicubic"}.get(op.l.type)  # fmt: skip
    method = named or str(op.take("interpolation" if op.keras3 else "method", 2, "bilinear")).lower()
    if method not in METHODS:
        raise op.unsupported(f"method {method}")
    if op.flag("preserve_aspect_ratio", None, False) or op.flag("pad_to_aspect_ratio", None, False):
        raise op.unsupported("an aspect ratio kept by size or by padding")
    data_format = data_format_of(op)
    order = (
        channels_first(4, data_format) if x.rank == 4 else identity(3) if data_format == "channels_first" else (2, 0, 1)
    )
    antialias = op.flag("antialias", None, False)
    op.leave("fill_mode", "fill_value")
    if "compat.v1" in str(op.l.spec.config.get("function", "")) or named is not None:
        return _old_resize(op, x, target, method, order)
    kind = x.dtype
    if op.flag("crop_to_aspect_ratio", None, False):
        sizes = [op.l.dim(x, order[-2], "the height"), op.l.dim(x, order[-1], "the width")]
        starts, cut = window(sizes, target)
        x = cropped(op.b, x, order, starts, cut)
    made = resized(op.b, op.l, x, target, method, order, antialias=antialias)
    return op.cast(made, kind) if op.keras3 and kind != ir.DataType.FLOAT else made


def _old_resize(op: Op, x: KT, target: tuple[int, int], method: str, order: Order) -> KT:
    """TensorFlow 1's resize: corners of pixels aligned, or their corners' centres, unless half_pixel_centers."""
    if op.flag("half_pixel_centers", None, False):
        return resized(op.b, op.l, x, target, method, order)
    corners = op.flag("align_corners", 3, False)
    if method not in ("bilinear", "nearest"):
        raise op.unsupported(f"{method} of TensorFlow 1")
    value = (op.floating(x) if method == "bilinear" else x).to(op.b, order)
    if corners and not all(isinstance(x.shape[a], int) for a in order[-2:]):
        raise op.unsupported("align_corners with a dynamic height or width")
    made = interpolated(
        op.b, value, target, mode="linear" if method == "bilinear" else "nearest",
        coordinate_transformation_mode="align_corners" if corners else "asymmetric",
        nearest_mode=("round_prefer_ceil" if corners else "floor") if method == "nearest" else None,
    )  # fmt: skip
    return KT(made, order)


@operation("tf.nn.space_to_depth", "tf.nn.depth_to_space", "ops:SpaceToDepth", "ops:DepthToSpace")
def space_and_depth(op: Op) -> KT:
    """Blocks of pixels become channels, or channels blocks of pixels."""
    x, rank, data_format, order = picture(op, "x" if op.keras3 else "input")
    if rank != 2:
        raise op.unsupported(f"a tensor of rank {rank + 2}")
    del data_format
    size = op.integer("block_size", 1)
    value = x.to(op.b, order)
    if op.l.type.lower().endswith(("depth_to_space", "depthtospace")):
        return KT(op.b.op("DepthToSpace", value, blocksize=size, mode="DCR"), order)
    return KT(op.b.op("SpaceToDepth", value, blocksize=size), order)


@operation("ops:RGBToGrayscale", "tf.image.rgb_to_grayscale", "tf.image.grayscale_to_rgb")
def grayscale(op: Op) -> KT:
    """Weights 0.2989, 0.587 and 0.114 of red, green and blue; or one channel thrice."""
    x = op.plain(op.tensor("images"))
    axis = x.rank - 3 if data_format_of(op) == "channels_first" else x.rank - 1
    if op.l.type.endswith("grayscale_to_rgb"):
        repeats = [1] * x.rank
        repeats[x.axis(axis)] = 3
        return x.like(op.b.op("Tile", x.value, op.b.const(repeats, "repeats")))
    shape = [1] * x.rank
    shape[axis] = 3
    weights = np.asarray([0.2989, 0.5870, 0.1140], np.float32).reshape(shape)
    product = op.b.op("Mul", op.floating(x).value, op.b.const(placed(weights, x.order), "weights"))
    return KT(op.b.op("ReduceSum", product, op.b.const([x.axis(axis)], "axes"), keepdims=1), x.order)


@operation("ops:LayerNorm", "ops:RMSNorm")
def layer_norm(op: Op) -> KT:
    """Mean 0 and variance 1 (or mean square 1) over trailing axes."""
    x = op.floating(op.plain(op.tensor("x")))
    axes = op.axes(x, "axis", None, -1)
    places = op.b.const(sorted(x.axis(a) for a in axes), "axes")
    epsilon = op.take("epsilon", None, None)
    value = x.value
    if op.l.type == "ops:LayerNorm":
        value = op.b.op("Sub", value, op.b.op("ReduceMean", value, places, keepdims=1))
    square = op.b.op("ReduceMean", op.b.op("Mul", value, value), places, keepdims=1)
    least = op.b.const(float(epsilon) if epsilon is not None else 1e-7, "epsilon")
    made = x.like(op.b.op("Div", value, op.b.op("Sqrt", op.b.op("Add", square, least))))
    for name, place, operator in (("gamma" if op.l.type == "ops:LayerNorm" else "scale", 1, "Mul"), ("beta", 2, "Add")):
        given = op.take(name, place, None) if not (name == "beta" and op.l.type == "ops:RMSNorm") else None
        if given is not None:
            tensor = op.as_tensor(given, name, ir.DataType.FLOAT)
            other = KT.of(tensor.value, None)
            wide = other.logical(op.b) if x.order == identity(x.rank) else None
            if wide is None:
                made = KT.of(made.logical(op.b))
                wide = other.logical(op.b)
            made = made.like(op.b.op(operator, made.value, wide))
    return made
