"""A model's preprocessing as standard operators: uint8 pictures in, the network's input out.

The steps and their rounding are those of :mod:`netferry.runtime.preprocess` (Pillow's): Resize with ``antialias`` on
uint8 gives what Pillow's filters give, to a grey level or (rarely) two; the crop takes the centre, rounded up and left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.errors import UnsupportedOption
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.preprocessing import COLORS, LETTERBOX_FILL, Preprocessing

Size = int | ir.Value
"""A side in pixels: known, or a one-element int64 tensor."""
_MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},  # floor((x + 0.5) * scale), as Pillow has it
    "bilinear": {"mode": "linear", "antialias": 1, "exclude_outside": 1},
    "bicubic": {"mode": "cubic", "antialias": 1, "cubic_coeff_a": -0.5, "exclude_outside": 1},
    "aligned": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
}
LUMA = (19595.0, 38470.0, 7471.0)
"""ITU-R 601 in 65536ths, as Pillow's convert("L") has them: sums stay below 2**24, where float32 is exact"""


def preprocessing_model(
    recipe: Preprocessing,
    output: str,
    input_size: tuple[int | None, int | None] = (None, None),
    *,
    channels: int | None = None,
    dtype: ir.DataType = ir.DataType.FLOAT,
    picture: str = "picture",
) -> Model:
    """Return a model that turns uint8 pictures N x H x W x C of any one size (RGB, or grey) into ``output``.

    Args:
        recipe: the steps.
        output: name of the result, the network's input.
        input_size: height and width that the network fixes; None where it does not.
        channels: 1 or 3; what the recipe's colour has by default. A grey recipe mixes three into one.
        dtype: element type of the result.
        picture: name of the input.

    Raises:
        UnsupportedOption: ONNX has no such resampling (Lanczos).
    """
    b = Builder("preprocessing")
    x = b.input(picture, ("batch", "height", "width", channels or COLORS[recipe.color]), ir.DataType.UINT8)
    with b.layer("preprocessing", "Preprocessing"):
        y = prepare(b, x, recipe, input_size, dtype)
    b.output(y, output)
    b.finish()
    return Model(ir.Model(b.graph, ir_version=CANONICAL_IR), source=Source("onnx"))


def prepare(
    b: Builder,
    picture: ir.Value,
    recipe: Preprocessing,
    input_size: tuple[int | None, int | None] = (None, None),
    dtype: ir.DataType = ir.DataType.FLOAT,
) -> ir.Value:
    """Add the steps to a graph; ``picture`` is uint8 N x H x W x C, RGB or grey, the result as the recipe says.

    Raises:
        UnsupportedOption: ONNX has no such resampling (Lanczos).
    """
    x = b.op("Transpose", picture, perm=[0, 3, 1, 2])
    x = _in_color(b, x, recipe.color)
    x, size = _resized(b, x, recipe, input_size)
    x, size = _cropped(b, x, recipe, input_size, size)
    x = b.op("Cast", x, to=int(ir.DataType.FLOAT))
    if recipe.color == "BGR":
        x = b.op("Gather", x, b.const([2, 1, 0], "bgr"), axis=1)
    if recipe.mean_image is not None:
        x = b.op("Sub", x, _mean_image(b, recipe.mean_image, size))
    elif recipe.mean:
        x = b.op("Sub", x, b.const(_per_channel(recipe.mean), "mean"))
    if recipe.scale:
        x = b.op("Mul", x, b.const(_per_channel(recipe.scale), "scale"))
    if recipe.layout == "NHWC":
        x = b.op("Transpose", x, perm=[0, 2, 3, 1])
    if dtype == ir.DataType.UINT8:
        x = b.op("Clip", b.op("Round", x), b.const(0.0, "least"), b.const(255.0, "most"))
    return x if dtype == ir.DataType.FLOAT else b.op("Cast", x, to=int(dtype))


def _per_channel(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def _in_color(b: Builder, x: ir.Value, color: str) -> ir.Value:
    """Mix RGB into grey, or repeat grey; on uint8."""
    assert x.shape is not None
    channels = x.shape[1]
    if channels == COLORS[color]:
        return x
    if channels == 1:
        return b.op("Concat", x, x, x, axis=1)
    weighted = b.op("Mul", b.op("Cast", x, to=int(ir.DataType.FLOAT)), b.const(_per_channel(LUMA), "luma"))
    total = b.op("ReduceSum", weighted, b.const([1], "channels"), keepdims=1)
    total = b.op("Mul", b.op("Add", total, float(1 << 15)), 2.0**-16)
    return b.op("Cast", b.op("Floor", total), to=int(ir.DataType.UINT8))


def _own(b: Builder, x: ir.Value, axis: int) -> ir.Value:
    return b.op("Shape", x, start=axis, end=axis + 1)


def _value(b: Builder, size: Size) -> ir.Value:
    return size if isinstance(size, ir.Value) else b.const([size], "size")


def _resized(
    b: Builder, x: ir.Value, recipe: Preprocessing, input_size: tuple[int | None, int | None]
) -> tuple[ir.Value, tuple[Size, Size]]:
    height, width = _own(b, x, 2), _own(b, x, 3)
    if recipe.resize == "none":
        return x, (height, width)
    if recipe.size is not None:
        wanted: tuple[Size, Size] = recipe.size
    elif recipe.crop is not None and recipe.mean_image is not None:
        wanted = (int(recipe.mean_image.shape[1]), int(recipe.mean_image.shape[2]))
    else:
        wanted = (input_size[0] or height, input_size[1] or width)
    if recipe.resize == "shortest":
        a, c = wanted
        both = isinstance(a, int) and isinstance(c, int)
        side = b.const([min(wanted)], "side") if both else b.op("Min", _value(b, a), _value(b, c))  # pyright: ignore[reportCallIssue, reportArgumentType]
        short = b.op("Min", height, width)
        # the longer side rounded down, as torchvision and most training code have it
        wanted = (b.op("Div", b.op("Mul", height, side), short), b.op("Div", b.op("Mul", width, side), short))
    elif wanted == (height, width):
        return x, wanted
    box = None
    if recipe.resize == "letterbox":
        box, wanted = wanted, _letterboxed(b, wanted, (height, width))
    if recipe.interpolation not in _MODES:
        raise UnsupportedOption(
            f"{recipe.interpolation} resampling has no ONNX operator ({', '.join(_MODES)} have)",
            hint="choose another interpolation, or leave the preprocessing to the caller",
        )
    sizes = [w if isinstance(w, int) else None for w in wanted]
    kind, exact = ir.DataType.UINT8, recipe.interpolation == "aligned"
    if exact:  # nothing is rounded there
        kind, x = ir.DataType.FLOAT, b.op("Cast", x, to=int(ir.DataType.FLOAT))
    # all four sizes instead of two with axes=[2, 3]: onnxruntime 1.31 breaks the latter when it moves a Transpose over
    target = b.op("Concat", b.op("Shape", x, start=0, end=2), *(_value(b, w) for w in wanted), axis=0)
    assert x.shape is not None
    shape = [d if isinstance(d, int) else d.value for d in x.shape]
    shape[2:] = [s or name for s, name in zip(sizes, ("resized_height", "resized_width"), strict=True)]
    made = b.op(
        "Resize", x, None, None, target, types=[(kind, shape)],
        **{"coordinate_transformation_mode": "half_pixel", **_MODES[recipe.interpolation]},
    )  # fmt: skip
    if box is not None:
        return _boxed(b, made, wanted, box), box
    return made, wanted


def _letterboxed(b: Builder, box: tuple[Size, Size], own: tuple[ir.Value, ir.Value]) -> tuple[ir.Value, ir.Value]:
    """Height and width of a picture made as large as fits into a box, rounded down."""
    (high, wide), (height, width), one = (_value(b, s) for s in box), own, b.const([1], "one")
    return (
        b.op("Max", one, b.op("Min", high, b.op("Div", b.op("Mul", height, wide), width))),
        b.op("Max", one, b.op("Min", wide, b.op("Div", b.op("Mul", width, high), height))),
    )


def _boxed(b: Builder, x: ir.Value, size: tuple[Size, Size], box: tuple[Size, Size]) -> ir.Value:
    """The picture in the middle of grey."""
    zeros, two = b.const([0, 0], "zeros"), b.const([2], "two")
    room = [b.op("Sub", _value(b, whole), _value(b, part)) for whole, part in zip(box, size, strict=True)]
    before = [b.op("Div", r, two) for r in room]
    after = [b.op("Sub", r, f) for r, f in zip(room, before, strict=True)]
    around = b.op("Concat", zeros, *before, zeros, *after, axis=0)
    y = b.op(
        "Pad",
        x,
        around,
        b.const(LETTERBOX_FILL, "grey", dtype=np.float32 if x.dtype == ir.DataType.FLOAT else np.uint8),
    )
    assert x.shape is not None
    known = [w if isinstance(w, int) else None for w in box]
    front = [d if isinstance(d, int) else d.value for d in list(x.shape)[:2]]
    y.shape = ir.Shape([*front, *(w or name for w, name in zip(known, ("boxed_height", "boxed_width"), strict=True))])
    return y


def _cropped(
    b: Builder,
    x: ir.Value,
    recipe: Preprocessing,
    input_size: tuple[int | None, int | None],
    size: tuple[Size, Size],
) -> tuple[ir.Value, tuple[Size, Size]]:
    if recipe.crop is not None:
        wanted: tuple[Size, Size] = recipe.crop
    elif recipe.resize == "shortest":
        wanted = (input_size[0] or size[0], input_size[1] or size[1])
    else:
        return x, size
    return _centre(b, x, size, wanted), wanted


def _centre(b: Builder, x: ir.Value, size: tuple[Size, Size], wanted: tuple[Size, Size]) -> ir.Value:
    """The centre of the last two axes."""
    for axis, whole, part in zip((2, 3), size, wanted, strict=True):
        if whole is part or whole == part:
            continue
        if isinstance(whole, int) and isinstance(part, int):
            start: Size = max(whole - part, 0) // 2
            end: Size = start + part
        else:
            room = b.op("Sub", _value(b, whole), _value(b, part))
            start = b.op("Div", b.op("Max", room, b.const([0], "zero")), b.const([2], "two"))
            end = b.op("Add", start, _value(b, part))
        x = b.op("Slice", x, _value(b, start), _value(b, end), b.const([axis], "axis"))
        if isinstance(part, int):  # inference does not see the size behind computed bounds
            assert x.shape is not None
            x.shape = ir.Shape([part if i == axis else d for i, d in enumerate(x.shape)])
    return x


def _mean_image(b: Builder, mean: np.ndarray, size: tuple[Size, Size]) -> ir.Value:
    value = b.const(np.asarray(mean, np.float32)[None], "mean_image")
    return _centre(b, value, (mean.shape[1], mean.shape[2]), size)
