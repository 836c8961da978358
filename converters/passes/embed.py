"""Preprocessing inside the graph: decoded pictures (uint8, N x H x W x C) in; standard operators resize, normalise.

The steps and their order are those of :class:`netferry.schemas.preprocessing.Preprocessing`. Resize with ``antialias``
(opset 18) does what Pillow's filters do: https://onnx.ai/onnx/operators/onnx__Resize.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.passes.opset import to_opset
from netferry.errors import UnsupportedOption, UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Note
from netferry.schemas.preprocessing import COLORS, Preprocessing
from netferry.schemas.surgery import InsertionBuilder

LEAST_OPSET = 18
# as Pillow: what lies outside the picture has no weight
_MODES: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear", "antialias": 1, "exclude_outside": 1},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "antialias": 1, "exclude_outside": 1},
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
}


def embed_preprocessing(model: Model) -> Note:
    """Let the picture input take decoded pictures; its recipe becomes nodes, and the model's recipe a plain one.

    The input keeps its name; pictures are RGB (grey where the network's are grey) of any size, unless the recipe does
    not resize. The opset is raised to 18 where it is lower.

    Raises:
        UsageError: there is no picture input, or no recipe for it.
        UnsupportedOption: an interpolation that ONNX does not have.
    """
    found = next((v for v in model.graph.inputs if v.name in model.preprocessing), None)
    if found is None or found.shape is None or len(found.shape) != 4 or found.name is None:
        raise UsageError(
            "the model carries no preprocessing that could be embedded",
            hint="--mean, --scale, --channel-order, --size … say what it is",
        )
    recipe = model.preprocessing[found.name]
    if recipe.resize != "none" and recipe.interpolation not in _MODES:
        raise UnsupportedOption(
            f"{recipe.interpolation} interpolation cannot be said in ONNX ({', '.join(_MODES)} can)"
        )
    if recipe.resize == "none" and recipe.crop is not None:
        raise UnsupportedOption("a crop of pictures that are not resized cannot be embedded", hint="give --size too")
    name = found.name
    if model.opset < LEAST_OPSET:
        model.notes.extend(to_opset(model, LEAST_OPSET))
        found = next(v for v in model.graph.inputs if v.name == name)
    _rewrite(model, found, recipe)
    plain = "GRAY" if recipe.color == "GRAY" else "RGB"
    model.preprocessing[name] = Preprocessing(color=plain, resize="none", layout="NHWC")
    return Note("folded", f"preprocessing embedded: {quoted(name)} takes uint8 pictures, N x H x W x {COLORS[plain]}")


def _rewrite(model: Model, old: ir.Value, recipe: Preprocessing) -> None:
    graph, name = model.graph, old.name
    assert old.shape is not None
    dims = [d if isinstance(d, int) else None for d in old.shape]
    size = (dims[1], dims[2]) if recipe.layout == "NHWC" else (dims[2], dims[3])
    height, width = size if recipe.resize == "none" and recipe.crop is None else (None, None)
    channels = COLORS[recipe.color]
    b = InsertionBuilder(graph, before=next(iter(graph)))
    shape = ir.Shape([old.shape[0], height or "height", width or "width", channels])
    old.name = b.unique(f"{name}/preprocessed")
    new = ir.Value(name=name, type=ir.TensorType(ir.DataType.UINT8), shape=shape)
    graph.inputs[list(graph.inputs).index(old)] = new
    with b.layer("preprocessing", "Preprocessing"):
        x = b.op("Transpose", new, perm=[0, 3, 1, 2])
        x = _cropped(b, _resized(b, x, recipe, size), recipe, size, channels)
        if recipe.color == "BGR":
            x = b.op("Gather", x, np.array([2, 1, 0]), axis=1)
        x = b.op("Cast", x, to=ir.DataType.FLOAT.value)
        x = _normalised(b, x, recipe, size)
        if recipe.layout == "NHWC":
            x = b.op("Transpose", x, perm=[0, 2, 3, 1])
        if old.dtype not in (None, ir.DataType.FLOAT):
            x = b.op("Cast", x, to=old.dtype.value)
    old.replace_all_uses_with(x, replace_graph_outputs=True)


def _resized(b: InsertionBuilder, x: ir.Value, recipe: Preprocessing, size: tuple[int | None, int | None]) -> ir.Value:
    """As runtime/preprocess.py: to the recipe's size, else that of the mean image that is cropped, else the input's."""
    if recipe.resize == "none":
        return x
    if recipe.size is not None:
        wanted: tuple[int | None, int | None] = recipe.size
    elif recipe.crop is not None and recipe.mean_image is not None:
        wanted = (recipe.mean_image.shape[1], recipe.mean_image.shape[2])
    else:
        wanted = size
    if wanted[0] is None or wanted[1] is None:
        return x  # the network takes any size: the picture keeps its own
    settings = {"coordinate_transformation_mode": "half_pixel", **_MODES[recipe.interpolation]}
    sizes: Any = np.array(wanted, np.int64)
    if recipe.resize == "shortest":
        own = b.op("Shape", x, start=2, end=4)
        short = b.op("ReduceMin", own, keepdims=1)
        sizes = b.op("Div", b.op("Mul", own, np.array([min(wanted[0], wanted[1])])), short)  # rounded down, as there
    # sizes of all axes: onnxruntime's optimiser loses those of some axes when it moves a Transpose past the Resize
    whole = b.op("Concat", b.op("Shape", x, start=0, end=2), sizes, axis=0)
    x = b.op("Resize", x, None, None, whole, **settings)
    return x if recipe.resize == "shortest" else b.op("Reshape", x, np.array([-1, COLORS[recipe.color], *wanted]))


def _cropped(
    b: InsertionBuilder,
    x: ir.Value,
    recipe: Preprocessing,
    size: tuple[int | None, int | None],
    channels: int,
) -> ir.Value:
    """The centre; its corner rounded up and left."""
    crop = recipe.crop or (size if recipe.resize == "shortest" else None)
    if crop is None or crop[0] is None or crop[1] is None:
        return x
    wanted = np.array(crop, np.int64)
    left_over = b.op("Sub", b.op("Shape", x, start=2, end=4), wanted)
    starts = b.op("Div", left_over, np.array([2]))
    x = b.op("Slice", x, starts, b.op("Add", starts, wanted), np.array([2, 3]))
    return b.op("Reshape", x, np.array([-1, channels, *crop]))  # so that everybody knows the size


def _normalised(
    b: InsertionBuilder, x: ir.Value, recipe: Preprocessing, size: tuple[int | None, int | None]
) -> ir.Value:
    if recipe.mean_image is not None:
        mean = recipe.mean_image
        height, width = size[0] or mean.shape[1], size[1] or mean.shape[2]
        top, left = (mean.shape[1] - height) // 2, (mean.shape[2] - width) // 2
        if top < 0 or left < 0:
            raise UsageError(f"the mean image is {mean.shape[2]} x {mean.shape[1]}, smaller than {width} x {height}")
        x = b.op("Sub", x, np.ascontiguousarray(mean[None, :, top : top + height, left : left + width], np.float32))
    elif recipe.mean:
        x = b.op("Sub", x, np.array(recipe.mean, np.float32).reshape(1, -1, 1, 1))
    if recipe.scale:
        x = b.op("Mul", x, np.array(recipe.scale, np.float32).reshape(1, -1, 1, 1))
    return x
