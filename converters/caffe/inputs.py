"""What comes into a net: Input layers, and data layers turned into inputs, with their shapes and preprocessing."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.prototxt import Message
from netferry.converters.caffe.wire import StoredLayer, read_mean
from netferry.converters.options import ReadOptions
from netferry.errors import InputError, LimitExceeded, MalformedFile, UnsafeFile, UsageError, quoted
from netferry.schemas.graph import Dim
from netferry.schemas.model import Note
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.opening import missing
from netferry.schemas.preprocessing import Preprocessing

DATA_TYPES = {
    "Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param",
    "HDF5Data": "hdf5_data_param", "MemoryData": "memory_data_param", "AnnotatedData": "data_param",
    "VideoData": "video_data_param", "ImageSegData": "image_data_param", "Python": "python_param",
}  # fmt: skip
"""Layers that read data; their first top becomes an input, the others are labels (Python layers without bottoms)."""
RECURRENT = ("LSTM", "RNN")


@dataclass
class NetInput:
    """An input of the net."""

    name: str
    layer: str
    shape: tuple[int, ...]
    preprocessing: Preprocessing | None = None
    dims: list[Dim] = field(default_factory=list)
    """the shape with dynamic axes named"""


def declared_inputs(layer: Message, options: ReadOptions) -> list[NetInput]:
    """The inputs of an Input layer.

    Raises:
        UsageError: no shape is given, here or by ``--input-shape``.
    """
    name = layer.text("name")
    tops = layer.texts("top")
    params = layer.messages("input_param")
    shapes = Params(params[-1] if params else None, name, "input_param").messages("shape")
    if shapes and len(shapes) not in (1, len(tops)):
        raise MalformedFile(f"{len(tops)} tops, but {len(shapes)} shapes", layer=name)
    out: list[NetInput] = []
    for i, top in enumerate(tops):
        if top in options.input_shapes:
            shape = options.input_shapes[top]
        elif shapes:
            shape = tuple(shapes[i if len(shapes) > 1 else 0].ints("dim"))
        else:
            raise _no_shape(top, name)
        out.append(NetInput(top, name, _checked(shape, name, options)))
    return out


def data_input(
    layer: Message,
    layers: list[Message],
    stored: dict[str, StoredLayer],
    folder: ModelFolder,
    options: ReadOptions,
    notes: list[Note],
) -> NetInput:
    """The input that a data layer becomes: its first top, sized by crop, mean image or the layer's own settings.

    The channels, where the prototxt does not say them, come from the first convolution's weights.
    """
    name, kind = layer.text("name"), layer.text("type")
    top = layer.texts("top")[0]
    found = layer.messages(DATA_TYPES[kind])
    data = Params(found[-1] if found else None, name, DATA_TYPES[kind])
    recipe, mean_shape = transform(layer, folder, options, notes)
    batch = data.int("batch_size", 1)
    if top in options.input_shapes:
        shape = options.input_shapes[top]
    elif kind == "MemoryData":
        shape = (batch, data.int("channels"), data.int("height"), data.int("width"))
    else:
        size = recipe.crop if recipe else None
        if size is None and mean_shape is not None:
            size = mean_shape[1:]
        if size is None and data.int("new_height", 0) and data.int("new_width", 0):
            size = (data.int("new_height"), data.int("new_width"))
        channels = _channels(layer, recipe, mean_shape, data, top, layers, stored)
        if size is None or channels is None:
            raise _no_shape(top, name)
        shape = (batch, channels, *size)
    if recipe is not None and len(shape) == 4:
        color = "GRAY" if shape[1] == 1 else "BGR"
        if recipe.color != color:
            recipe = recipe.with_(color=color)
        if recipe.crop is not None and recipe.size is None:
            recipe = recipe.with_(size=mean_shape[1:] if mean_shape else recipe.crop)
    notes.append(Note("assumed", f"data layer {quoted(name)} became input {quoted(top)} of shape {list(shape)}", name))
    return NetInput(top, name, _checked(shape, name, options), recipe)


def transform(
    layer: Message, folder: ModelFolder, options: ReadOptions, notes: list[Note]
) -> tuple[Preprocessing | None, tuple[int, int, int] | None]:
    """The preprocessing that ``transform_param`` describes, and the shape of its mean image.

    Caffe's data layers read pictures as BGR, subtract the mean, then multiply by scale.
    """
    found = layer.messages("transform_param")
    if not found and options.mean is None:
        return None, None
    name = layer.text("name")
    p = Params(found[-1] if found else None, name, "transform_param")
    mean = tuple(p.floats("mean_value"))
    scale, crop = p.float("scale", 1.0), p.int("crop_size", 0)
    image: np.ndarray | None = None
    path = options.mean
    if path is None and p.has("mean_file"):
        path = contained(folder, p.str("mean_file"), name)
        if not os.path.isfile(path):
            notes.append(
                Note("warning", f"mean_file {quoted(p.str('mean_file'))} is not there: no mean recorded", name)
            )
            path = None
    if path is not None and options.mean is None and mean:
        raise MalformedFile("transform_param gives both mean_file and mean_value", layer=name)
    if path is not None:
        image = read_mean(path, options.limits)
        if crop > min(image.shape[1:]):
            raise MalformedFile(f"a mean image of {list(image.shape)} is smaller than the crop of {crop}", layer=name)
    gray = p.bool("force_gray", False) or (image is not None and image.shape[0] == 1) or len(mean) == 1
    color = "GRAY" if gray and not p.bool("force_color", False) else "BGR"
    if color == "BGR" and len(mean) not in (0, 1, 3):
        raise MalformedFile(f"{len(mean)} mean values for 3 channels", layer=name)
    recipe = Preprocessing(
        color=color,
        crop=(crop, crop) if crop else None,
        mean=mean,
        scale=() if scale == 1.0 else (scale,),
        mean_image=image,
    )
    return recipe, None if image is None else (image.shape[0], image.shape[1], image.shape[2])


def with_mean(item: NetInput, mean: Path, options: ReadOptions) -> NetInput:
    """Give a declared input the mean image that the caller names.

    A mean image larger than the input is the usual case of Caffe: pictures are resized to its size, then cropped.

    Raises:
        UsageError: the image's channels are not the input's, or it is smaller.
    """
    image = read_mean(existing(mean), options.limits)
    channels, height, width = image.shape
    if len(item.shape) != 4 or item.shape[1] != channels or height < item.shape[2] or width < item.shape[3]:
        raise UsageError(f"a mean image of {list(image.shape)} does not fit input {list(item.shape)}", file=mean)
    larger = (height, width) != item.shape[2:]
    item.preprocessing = Preprocessing(
        color="GRAY" if channels == 1 else "BGR",
        size=(height, width) if larger else None,
        crop=(item.shape[2], item.shape[3]) if larger else None,
        mean_image=image,
    )
    return item


def contained(folder: ModelFolder, name: str, layer: str) -> Path:
    """Return the path of a file that a prototxt names, which must lie in the prototxt's folder.

    Raises:
        UnsafeFile: it lies elsewhere.
    """
    if "\0" in name:
        raise UnsafeFile("a file name with a NUL byte", layer=layer)
    path = folder.path / (Path(name).name if Path(name).is_absolute() else name)
    if not folder.holds(path):
        raise UnsafeFile(f"{quoted(name)} lies outside the model's folder", layer=layer)
    return path


def _channels(
    layer: Message,
    recipe: Preprocessing | None,
    mean_shape: tuple[int, int, int] | None,
    data: Params,
    top: str,
    layers: list[Message],
    stored: dict[str, StoredLayer],
) -> int | None:
    if mean_shape is not None:
        return mean_shape[0]
    for other in layers:
        blobs = stored[other.text("name")].blobs if other.text("name") in stored else []
        if top in other.texts("bottom") and other.text("type") == "Convolution" and blobs and len(blobs[0].shape) == 4:
            found = other.messages("convolution_param")
            return blobs[0].shape[1] * Params(found[-1] if found else None, "", "").int("group", 1)
    if recipe is not None and len(recipe.mean) == 3:
        return 3
    transform_param = layer.messages("transform_param")
    flags = Params(transform_param[-1] if transform_param else None, "", "")
    if flags.bool("force_gray", False):
        return 1
    if flags.bool("force_color", False) or (layer.text("type") == "ImageData" and data.bool("is_color", True)):
        return 3
    return None


def _checked(shape: tuple[int, ...], name: str, options: ReadOptions) -> tuple[int, ...]:
    if len(shape) > options.limits.rank:
        raise LimitExceeded(f"an input of {len(shape)} axes (limit rank={options.limits.rank})", layer=name)
    for dim in shape:
        if not 0 < dim <= options.limits.dim:
            raise MalformedFile(
                f"input shape {list(shape)} has a dimension outside 1 … {options.limits.dim}", layer=name
            )
    if math.prod(shape) > 2**31 - 1:  # Caffe counts a blob's elements in an int
        raise LimitExceeded(f"input shape {list(shape)} has more than 2^31 - 1 elements", layer=name)
    return shape


def _no_shape(top: str, layer: str) -> UsageError:
    return UsageError(
        f"the prototxt does not give the shape of input {quoted(top)}",
        layer=layer,
        hint=f"say it: --input-shape {top}=1,3,224,224 (batch, channels, height, width)",
    )


def name_dims(inputs: list[NetInput], layers: list[Message], batch: int | None) -> None:
    """Decide which axes are dynamic.

    The batch is axis 0 of the first input and of every input with the same size there. In a recurrent net the
    ``cont`` input says T x N: then T is ``time`` and N ``batch``, on every input that has these sizes at the front.
    """
    by_name = {i.name: i for i in inputs}
    conts = [
        by_name[m.texts("bottom")[1]]
        for m in layers
        if m.text("type") in RECURRENT and len(m.texts("bottom")) > 1 and m.texts("bottom")[1] in by_name
    ]
    sequence: tuple[int, ...] | None = conts[0].shape if conts and len(conts[0].shape) == 2 else None
    first: int | None = None
    for item in inputs:
        item.dims = list(item.shape)
        if not item.shape:
            continue
        size: int = item.shape[0]
        if sequence is not None:
            steps, width = sequence
            if item.shape[:2] == (steps, width):
                item.dims[:2] = ["time", batch or "batch"]
            elif item.shape[:2] == (1, width):
                item.dims[1] = batch or "batch"
            elif size == width:
                item.dims[0] = batch or "batch"
            continue
        first = size if first is None else first
        if size == first:
            item.dims[0] = batch or "batch"


def existing(path: Path) -> Path:
    """Return ``path`` if it is a readable file.

    Raises:
        InputError: it is missing, or not a file.
    """
    if not os.path.exists(path):
        raise missing(path)
    if not os.path.isfile(path):
        raise InputError("not a regular file", file=path)
    return path
