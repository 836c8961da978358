"""Inputs of a model: names, shapes and types as the source has them, the batch and None dimensions dynamic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netferry.converters.keras.layout import KT, channels_first
from netferry.converters.keras.spec import Spec, refs_in
from netferry.converters.options import ReadOptions
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedError, UsageError, quoted
from netferry.schemas.graph import Builder, Dim
from netferry.schemas.ir import ir
from netferry.schemas.model import Note
from netferry.schemas.preprocessing import Preprocessing

_TYPES = {
    "float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT, "bfloat16": ir.DataType.FLOAT,
    "float64": ir.DataType.FLOAT, "mixed_float16": ir.DataType.FLOAT, "mixed_bfloat16": ir.DataType.FLOAT,
    "int8": ir.DataType.INT8, "int16": ir.DataType.INT16, "int32": ir.DataType.INT32, "int64": ir.DataType.INT64,
    "uint8": ir.DataType.UINT8, "uint16": ir.DataType.UINT16, "uint32": ir.DataType.UINT32,
    "uint64": ir.DataType.UINT64, "bool": ir.DataType.BOOL, "string": ir.DataType.STRING,
}  # fmt: skip
Asked = Mapping[str, Sequence[int]]
_SPACE = {3: ("sequence",), 4: ("height", "width"), 5: ("depth", "height", "width")}


@dataclass
class Declared:
    """One input as the architecture declares it."""

    name: str
    shape: list[int | None]
    dtype: str


def declared(spec: Spec, notes: list[Note], asked: Asked) -> list[Declared]:
    """Return the inputs of the outermost model, in order.

    A Sequential that was built by data carries their batch: it becomes dynamic unless a layer keeps states.

    Args:
        spec: the model.
        notes: takes what was assumed.
        asked: shapes by the input's name, for files that give none.

    Raises:
        UnsupportedError: neither the file nor ``asked`` gives a shape.
    """
    if spec.outputs is not None:
        layers = {child.name: child for child in spec.layers or ()}
        found: list[Declared] = []
        for ref in refs_in(spec.inputs):
            child = layers.get(ref.layer)
            if child is None:
                raise MalformedFile(f"input layer {quoted(ref.layer)} is not in the model", layer=spec.name)
            found.append(_of_layer(child, child.name, asked))
        return found
    first = _first_of(spec, spec.built_on, asked)
    if first.shape[0] is not None and not _keeps_states(spec):
        notes.append(Note("assumed", f"the batch of {first.shape[0]} is that of the data that built it: dynamic here"))
        first.shape[0] = None
    return [first]


def _first_of(spec: Spec, built_on: list[Any] | None, asked: Asked) -> Declared:
    """Input of a Sequential: its InputLayer, the first layer's shape, or the shape it was built on."""
    first = next(iter(spec.layers or ()), None)
    if first is None:
        raise MalformedFile("a Sequential without layers", layer=spec.name)
    if first.type == "InputLayer":
        return _of_layer(first, first.name, asked)
    if first.layers is not None:
        on = first.built_on or built_on
        inner = _first_of(first, on, asked) if first.sequential else declared(first, [], asked)[0]
        return Declared(f"{first.name}_input", inner.shape, inner.dtype)
    if not _has_shape(first) and (built_on or first.built_on):
        shape = built_on or first.built_on
        dtype = first.config.get("dtype")
        kind = dtype if isinstance(dtype, str) and dtype in _TYPES else "float32"
        return Declared(f"{first.name}_input", _shape(shape, first.name), kind)
    return _of_layer(first, f"{first.name}_input", asked)


def _keeps_states(spec: Spec) -> bool:
    """Whether a layer hands its states on to the next batch, whose size is then fixed."""
    return spec.config.get("stateful") is True or any(_keeps_states(child) for child in spec.layers or ())


def _has_shape(spec: Spec) -> bool:
    return any(spec.config.get(k) for k in ("batch_input_shape", "batch_shape", "input_shape", "input_dim"))


def _of_layer(spec: Spec, name: str, asked: Asked) -> Declared:
    config = spec.config
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    if shape is None and config.get("input_shape") is not None:
        given = config["input_shape"]
        shape = [None, *given] if isinstance(given, list) else given
    if shape is None and config.get("input_dim") is not None and spec.type != "InputLayer":
        length = config.get("input_length")
        shape = [None, config["input_dim"]] if spec.type != "Embedding" else [None, length]
    if shape is None and name in asked:
        shape = [None, *asked[name][1:]]
    if shape is None:
        raise UnsupportedError(
            "the file does not say which shape the input has",
            layer=spec.name,
            hint=f"give it: --input-shape {name}=1,...",
        )
    dtype = config.get("input_dtype") or config.get("dtype") or "float32"
    if isinstance(dtype, dict):
        inner = dtype.get("config")
        dtype = inner.get("name", "float32") if isinstance(inner, dict) else "float32"
    if spec.type in ("Embedding",) and "input_dtype" not in config:
        dtype = "int32" if config.get("dtype") in ("int32", None) else "float32"
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise UnsupportedError(f"an input of type {quoted(dtype)}", layer=spec.name)
    return Declared(name, _shape(shape, spec.name), dtype)


def _shape(value: Any, layer: str) -> list[int | None]:
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list) or len(value) > 32 or not value:
        raise MalformedFile(f"not an input shape: {quoted(value, 80)}", layer=layer)
    for dim in value:
        if dim is not None and (isinstance(dim, bool) or not isinstance(dim, int) or dim < 0):
            raise MalformedFile(f"not an input shape: {quoted(value, 80)}", layer=layer)
        if dim is not None and dim >= 2**31:
            raise LimitExceeded(f"dimension {dim} (limit dim)", layer=layer)
    return list(value)


def add_inputs(b: Builder, inputs: list[Declared], options: ReadOptions) -> tuple[list[KT], dict[str, Preprocessing]]:
    """Add the graph's inputs; returns their tensors and what is known of how pictures become them."""
    tensors: list[KT] = []
    recipes: dict[str, Preprocessing] = {}
    several = sum(any(d is None for d in i.shape[1:]) for i in inputs) > 1
    for item in inputs:
        shape: list[int | None] = list(item.shape)
        asked = options.input_shapes.get(item.name)
        if asked is not None:
            if len(asked) != len(shape):
                raise UsageError(f"input {quoted(item.name)} has {len(shape)} dimensions, not {len(asked)}")
            shape = [None if shape[0] is None and options.batch is None else asked[0], *asked[1:]]
        dims = _named(item.name, shape, options, several)
        order = tuple(range(len(dims)))
        if len(dims) in (4, 5) and ("*" in options.inputs_as_nchw or item.name in options.inputs_as_nchw):
            order = channels_first(len(dims))
        value = b.input(item.name, [dims[axis] for axis in order], _TYPES[item.dtype])
        tensors.append(KT.of(value, order))
        recipe = _recipe(shape, order)
        if recipe is not None and value.name is not None:
            recipes[value.name] = recipe
    return tensors, recipes


def _named(name: str, shape: list[int | None], options: ReadOptions, several: bool) -> list[Dim]:
    rank = len(shape)
    words = dict(enumerate(("sequence",) if rank == 2 else _SPACE.get(rank, ()), start=1))
    if rank in (4, 5) and shape[1] is not None and shape[-1] is None:  # channels first
        words = dict(enumerate(_SPACE[rank], start=2))
    dims: list[Dim] = []
    for axis, dim in enumerate(shape):
        if axis == 0:
            dims.append(options.batch if options.batch is not None else dim if dim is not None else "batch")
        elif dim is not None:
            dims.append(dim)
        else:
            word = words.get(axis, f"dim{axis}")
            dims.append(f"{name}_{word}" if several else word)
    return dims


def _recipe(shape: list[int | None], order: tuple[int, ...]) -> Preprocessing | None:
    """What the shape tells of pictures: layout and number of channels; scaling is not known."""
    if len(shape) != 4:
        return None
    last, first = shape[3] in (1, 3), shape[1] in (1, 3)
    if last:
        layout = "NHWC" if order == (0, 1, 2, 3) else "NCHW"
        return Preprocessing(color="GRAY" if shape[3] == 1 else "RGB", layout=layout)
    return Preprocessing(color="GRAY" if shape[1] == 1 else "RGB") if first else None
