"""TensorFlowOpLayer (tf.keras 2.0 to 2.4): one node of a TensorFlow graph, read as the function that makes it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

from netferry.converters.keras.arguments import flattened
from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.selection import strided_key
from netferry.converters.keras.raw import node_def
from netferry.converters.keras.registry import layer, registry
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder

_XY, _X = ("x", "y"), ("x",)
_REDUCE = ("input_tensor", "axis")
_NODES: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    **{raw: (f"tf.math.{name}", _XY, {}) for raw, name in {
        "Add": "add", "AddV2": "add", "Sub": "subtract", "Mul": "multiply", "RealDiv": "truediv", "Div": "truediv",
        "FloorDiv": "floordiv", "FloorMod": "floormod", "Pow": "pow", "Maximum": "maximum", "Minimum": "minimum",
        "SquaredDifference": "squared_difference", "Greater": "greater", "GreaterEqual": "greater_equal",
        "Less": "less", "LessEqual": "less_equal", "Equal": "equal", "NotEqual": "not_equal",
        "LogicalAnd": "logical_and", "LogicalOr": "logical_or", "DivNoNan": "divide_no_nan", "Atan2": "atan2",
    }.items()},
    **{raw: (f"tf.math.{raw.lower()}", _X, {}) for raw in (
        "Abs", "Sign", "Square", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Reciprocal", "Sin", "Cos", "Tan",
        "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Erf", "Erfc", "Sigmoid",
        "Softplus", "Softsign", "Floor", "Ceil", "Round", "Rint")},
    "Neg": ("tf.math.negative", _X, {}),
    "LogicalNot": ("tf.math.logical_not", _X, {}),
    **{raw: (f"tf.nn.{name}", ("features",), {}) for raw, name in {
        "Relu": "relu", "Relu6": "relu6", "Elu": "elu", "Selu": "selu", "LeakyRelu": "leaky_relu"}.items()},
    "Softmax": ("tf.nn.softmax", ("logits",), {}),
    "LogSoftmax": ("tf.nn.log_softmax", ("logits",), {}),
    **{raw: (f"tf.math.reduce_{name}", _REDUCE, {"keep_dims": "keepdims"}) for raw, name in {
        "Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min", "Prod": "prod", "All": "all", "Any": "any"}.items()},
    "Identity": ("tf.identity", ("input",), {}),
    "StopGradient": ("tf.stop_gradient", ("input",), {}),
    "Cast": ("tf.cast", ("x",), {"DstT": "dtype"}),
    "Reshape": ("tf.reshape", ("tensor", "shape"), {}),
    "Transpose": ("tf.transpose", ("a", "perm"), {}),
    "ExpandDims": ("tf.expand_dims", ("input", "axis"), {}),
    "Squeeze": ("tf.squeeze", ("input",), {"squeeze_dims": "axis"}),
    "Shape": ("tf.shape", ("input",), {}),
    "Tile": ("tf.tile", ("input", "multiples"), {}),
    "Pad": ("tf.pad", ("tensor", "paddings"), {}),
    "PadV2": ("tf.pad", ("tensor", "paddings", "constant_values"), {}),
    "MirrorPad": ("tf.pad", ("tensor", "paddings"), {"mode": "mode"}),
    "Slice": ("tf.slice", ("input_", "begin", "size"), {}),
    "GatherV2": ("tf.gather", ("params", "indices", "axis"), {"batch_dims": "batch_dims"}),
    "SelectV2": ("tf.where", ("condition", "x", "y"), {}),
    "Select": ("tf.where", ("condition", "x", "y"), {}),
    "ZerosLike": ("tf.zeros_like", ("input",), {}),
    "OnesLike": ("tf.ones_like", ("input",), {}),
    "Fill": ("tf.fill", ("dims", "value"), {}),
    "BroadcastTo": ("tf.broadcast_to", ("input", "shape"), {}),
    "ClipByValue": ("tf.clip_by_value", ("t", "clip_value_min", "clip_value_max"), {}),
    "MatMul": ("tf.matmul", ("a", "b"), {"transpose_a": "transpose_a", "transpose_b": "transpose_b"}),
    "BatchMatMul": ("tf.matmul", ("a", "b"), {"adj_x": "transpose_a", "adj_y": "transpose_b"}),
    "BatchMatMulV2": ("tf.matmul", ("a", "b"), {"adj_x": "transpose_a", "adj_y": "transpose_b"}),
    "ArgMax": ("tf.math.argmax", ("input", "axis"), {}),
    "ArgMin": ("tf.math.argmin", ("input", "axis"), {}),
    "Cumsum": ("tf.math.cumsum", ("x", "axis"), {"exclusive": "exclusive", "reverse": "reverse"}),
    "OneHot": ("tf.one_hot", ("indices", "depth", "on_value", "off_value"), {"axis": "axis"}),
    "Range": ("tf.range", ("start", "limit", "delta"), {}),
    "BiasAdd": ("tf.nn.bias_add", ("value", "bias"), {"data_format": "data_format"}),
    "DepthToSpace": ("tf.nn.depth_to_space", ("input",), {"block_size": "block_size", "data_format": "data_format"}),
    "SpaceToDepth": ("tf.nn.space_to_depth", ("input",), {"block_size": "block_size", "data_format": "data_format"}),
    "MaxPool": ("tf.nn.max_pool2d", ("input",), {k: k for k in ("ksize", "strides", "padding", "data_format")}),
    "AvgPool": ("tf.nn.avg_pool2d", ("input",), {k: k for k in ("ksize", "strides", "padding", "data_format")}),
    "Conv2D": ("tf.nn.conv2d", ("input", "filters"),
               {k: k for k in ("strides", "padding", "data_format", "dilations")}),
    "ResizeBilinear": ("tf.image.resize_bilinear", ("images", "size"),
                       {k: k for k in ("align_corners", "half_pixel_centers")}),
    "ResizeNearestNeighbor": ("tf.image.resize_nearest_neighbor", ("images", "size"),
                              {k: k for k in ("align_corners", "half_pixel_centers")}),
    "ResizeBicubic": ("tf.image.resize_bicubic", ("images", "size"),
                      {k: k for k in ("align_corners", "half_pixel_centers")}),
}  # fmt: skip
_DTYPES = {"DT_FLOAT": "float32", "DT_HALF": "float16", "DT_DOUBLE": "float64", "DT_INT32": "int32",
           "DT_INT64": "int64", "DT_UINT8": "uint8", "DT_INT8": "int8", "DT_INT16": "int16",
           "DT_BOOL": "bool"}  # fmt: skip


def attribute(value: Any, l: Layer) -> Any:
    """Read one attribute of a node in protobuf's JSON: numbers are texts there, texts base64.

    Raises:
        MalformedFile: it is of no known form.
    """
    if not isinstance(value, dict) or len(value) != 1:
        raise MalformedFile("an attribute of the node_def is of no known form", layer=l.path)
    kind, content = next(iter(value.items()))
    try:
        if kind == "b":
            return bool(content)
        if kind == "i":
            return int(content)
        if kind == "f":
            return float(content)
        if kind == "s":
            return base64.b64decode(content, validate=True).decode("ascii")
        if kind == "type":
            return _DTYPES.get(str(content), str(content))
        if kind == "list":
            found = content.get("i", []) if isinstance(content, dict) else []
            return [int(v) for v in found]
    except (ValueError, TypeError, binascii.Error, UnicodeDecodeError):
        raise MalformedFile("an attribute of the node_def is of no known form", layer=l.path) from None
    return None


def _inputs(l: Layer) -> list[Any]:
    """Tensors and constants in the order of the node's inputs."""
    tensors = [v for v in flattened(l.args) if isinstance(v, KT)]
    raw = l.config.take("constants", None) or {}
    l.config.ignore("node_def")
    if not isinstance(raw, dict):
        raise MalformedFile("constants is not an object", layer=l.path)
    constants = {int(k): v for k, v in raw.items() if str(k).isdigit() and len(str(k)) < 6}
    total = len(tensors) + len(constants)
    queue = iter(tensors)
    if any(place >= total for place in constants):
        raise MalformedFile("constants stand at places that are not there", layer=l.path)
    return [constants[i] if i in constants else next(queue) for i in range(total)]


def _attributes(l: Layer) -> dict[str, Any]:
    found = node_def(l.spec.config).get("attr", {})
    if not isinstance(found, dict):
        raise MalformedFile("the attributes of the node_def are not an object", layer=l.path)
    return {k: attribute(v, l) for k, v in found.items() if not k.startswith("_")}


def _as(l: Layer, kind: str, args: list[Any], kwargs: dict[str, Any]) -> Layer:
    return replace(l, spec=replace(l.spec, type=kind, config={}), args=args, kwargs=kwargs)


def _node(raw: str, function: str, names: tuple[str, ...], renamed: dict[str, str]) -> None:
    def read(b: Builder, l: Layer, *_: KT) -> Any:
        values = _inputs(l)
        attributes = _attributes(l)
        if len(values) > len(names):
            raise MalformedFile(f"{raw} takes at most {len(names)} inputs, not {len(values)}", layer=l.path)
        kwargs = dict(zip(names, values, strict=False))
        kwargs.update({renamed[k]: v for k, v in attributes.items() if k in renamed})
        if raw == "LeakyRelu":
            kwargs["alpha"] = attributes.get("alpha", 0.2)
        if raw == "Squeeze" and not kwargs.get("axis"):
            kwargs.pop("axis", None)
        reader = registry.get(function)
        if reader is None:
            raise AssertionError(function)
        return reader(b, _as(l, function, [], kwargs))

    read.__doc__ = f"The node {raw}, as {function} makes it."
    layer(f"raw.{raw}")(read)


for _raw, (_function, _names, _renamed) in _NODES.items():
    _node(_raw, _function, _names, _renamed)


def _called(b: Builder, l: Layer, function: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    reader = registry.get(function)
    if reader is None:
        raise AssertionError(function)
    return reader(b, _as(l, function, args, kwargs))


def _whole(value: Any, l: Layer) -> int:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int):
        raise UnsupportedOption("an axis that is computed", layer=l.path)
    return value


@layer("raw.ConcatV2")
def concat(b: Builder, l: Layer, *_: KT) -> Any:
    """Tensors joined; the axis is the last input."""
    values = _inputs(l)
    return _called(b, l, "tf.concat", [values[:-1]], {"axis": _whole(values[-1], l)})


@layer("raw.Pack")
def pack(b: Builder, l: Layer, *_: KT) -> Any:
    """Tensors side by side along a new axis."""
    return _called(b, l, "tf.stack", [_inputs(l)], {"axis": _attributes(l).get("axis", 0)})


@layer("raw.Unpack")
def unpack(b: Builder, l: Layer, *_: KT) -> Any:
    """One tensor for each place along an axis."""
    return _called(b, l, "tf.unstack", _inputs(l), {"axis": _attributes(l).get("axis", 0)})


@layer("raw.AddN")
def add_n(b: Builder, l: Layer, *_: KT) -> Any:
    """Sum of several tensors."""
    return _called(b, l, "tf.math.add_n", [_inputs(l)], {})


@layer("raw.Split")
def split(b: Builder, l: Layer, *_: KT) -> Any:
    """Equal pieces; the axis is the first input."""
    axis, value = _inputs(l)
    count = _attributes(l).get("num_split", 1)
    return _called(b, l, "tf.split", [value], {"num_or_size_splits": count, "axis": _whole(axis, l)})


@layer("raw.StridedSlice")
def strided_slice(b: Builder, l: Layer, *_: KT) -> Any:
    """A Python index, its None and ellipsis kept as masks of bits."""
    values = _inputs(l)
    if len(values) != 4 or not all(isinstance(v, list) and all(isinstance(i, int) for i in v) for v in values[1:]):
        raise UnsupportedOption("a slice whose ends are computed", layer=l.path)
    if len({len(v) for v in values[1:]}) != 1:
        raise MalformedFile("begin, end and strides differ in length", layer=l.path)
    masks = {k: v for k, v in _attributes(l).items() if k.endswith("_mask") and isinstance(v, int)}
    key = strided_key(values[1], values[2], values[3], masks)
    return _called(b, l, "tf.__operators__.getitem", [values[0], key], {})
