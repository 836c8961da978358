"""The model: an ONNX graph with what ONNX has no field for (source, labels, preprocessing, layers, roles)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.errors import LimitExceeded, Uninitialised, UsageError, quoted
from netferry.schemas.copying import copied
from netferry.schemas.initialise import fill
from netferry.schemas.ir import ir
from netferry.schemas.layers import (
    ROLE,
    TYPE_TEXT,
    LayerRow,
    Role,
    count,
    filler_by_use,
    layer_of,
    layer_table,
    role_of,
    static_shape,
)
from netferry.schemas.preprocessing import Preprocessing
from netferry.schemas.tensors import array_tensor, computed_tensor, filler_of, uninitialised_tensor
from netferry.schemas.walk import nodes_of

if TYPE_CHECKING:
    from netferry.schemas.head import Head

PLACEHOLDER_DOMAIN = "netferry.placeholder"
"""Domain of nodes that stand for layers nobody could read."""
_KEEP_ELEMENTS = 1_000_000


@dataclass(frozen=True)
class Source:
    """Where a model came from."""

    format: str
    """caffe, keras, onnx …"""
    files: tuple[str, ...] = ()
    """absolute paths of all files read, architecture first"""
    version: str | None = None
    """version of the writer, as the file tells it"""
    details: dict[str, Any] = field(default_factory=dict)
    """further facts of the format: backend, training configuration, upgrades"""


@dataclass(frozen=True)
class Note:
    """Something that a reader or a pass did and a user may want to know; goes into the report."""

    kind: str
    """dropped, folded, ignored, assumed, slow, warning"""
    message: str
    layer: str | None = None

    def as_dict(self) -> dict[str, str]:
        """JSON form."""
        out = {"kind": self.kind, "message": self.message}
        return out if self.layer is None else {**out, "layer": self.layer}


@dataclass(frozen=True)
class TensorInfo:
    """Name, element type and dimensions of an input or output; a string is a dynamic dimension, None unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"name": self.name, "dtype": self.dtype, "shape": None if self.shape is None else list(self.shape)}


class Model:
    """A network. One owner at a time: even checking or saving touches the graph for a moment.

    Attributes:
        ir: the onnx_ir model.
        source: where it came from.
        labels: class names per output name.
        tasks: ``labels`` or ``values`` per output name, where its numbers are not scores of one class out of several.
        preprocessing: recipe per input name.
        notes: what readers and passes did.
        frozen: initializers that training leaves alone (:meth:`freeze`).
        lr_factors: factors of the learning rate by initializer (:meth:`set_lr_factor`).
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        source: Source,
        labels: dict[str, list[str]] | None = None,
        preprocessing: dict[str, Preprocessing] | None = None,
        notes: list[Note] | None = None,
    ) -> None:
        self.ir = model
        self.source = source
        self.labels = labels or {}
        self.tasks: dict[str, str] = {}
        self.preprocessing = preprocessing or {}
        self.notes = notes or []
        self.frozen: set[str] = set()
        self.lr_factors: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Model {self.graph.name!r} from {self.source.format}: {len(self.graph)} nodes>"

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.ir.graph

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        imports = self.ir.opset_imports
        return imports.get("", imports.get("ai.onnx", 0))

    @property
    def inputs(self) -> list[TensorInfo]:
        """The inputs that a caller must feed."""
        return [_info(v) for v in self.graph.inputs if v.name not in self.graph.initializers]

    @property
    def outputs(self) -> list[TensorInfo]:
        """The outputs."""
        return [_info(v) for v in self.graph.outputs]

    @property
    def input_size(self) -> tuple[int | str | None, ...]:
        """(height, width, channels) of the first picture-like input (rank 4)."""
        for info in self.inputs:
            if info.shape is not None and len(info.shape) == 4:
                recipe = self.preprocessing.get(info.name)
                _, a, b, c = info.shape
                channels_last = recipe.layout == "NHWC" if recipe else c in (1, 3, 4) and a not in (1, 3, 4)
                return (a, b, c) if channels_last else (b, c, a)
        raise UsageError("the model has no picture-like input (rank 4)")

    @property
    def layers(self) -> list[LayerRow]:
        """The layer table, in graph order."""
        return layer_table(self.graph)

    def parameters(self, role: Role | None = Role.LEARNABLE) -> dict[str, ir.Value]:
        """Initializers of a role by name (all of them for None)."""
        return {n: v for n, v in self.graph.initializers.items() if role is None or role_of(v) == role}

    @property
    def uninitialised(self) -> list[str]:
        """Names of parameters that have no values."""
        return [n for n, v in self.graph.initializers.items() if filler_of(v.const_value) is not None]

    def initialise(self, seed: int, *, limit: int = 1_000_000_000, keep: int = _KEEP_ELEMENTS) -> list[str]:
        """Fill every parameter that has no values by the filler its source asked for; returns their names.

        Those of more than ``keep`` elements are computed each time they are asked for: the network is never in memory
        as a whole.

        Raises:
            LimitExceeded: more than ``limit`` elements in all would be made up.
        """
        names = self.uninitialised
        total = sum(count(self.graph.initializers[name]) for name in names)
        if total > limit:
            raise LimitExceeded(f"--init would make up {total} parameters (limit init_elements={limit})")
        for name in names:
            value = self.graph.initializers[name]
            make = partial(fill, filler_of(value.const_value) or {}, static_shape(value), name, seed)
            value.const_value = _made_up(make, value, name, keep)
        return names

    def forget_values(self) -> None:
        """Leave learnables and state without values: the architecture alone; constants keep theirs.

        :meth:`initialise` makes values up: scales and variances 1, shifts and means 0, kernels drawn at random.
        """
        for value in self.graph.initializers.values():
            role = role_of(value)
            if role != Role.CONSTANT and value.dtype is not None and filler_of(value.const_value) is None:
                value.metadata_props[ROLE] = role.value
                value.const_value = uninitialised_tensor(static_shape(value), value.dtype, filler=filler_by_use(value))

    def require_values(self) -> None:
        """Raise :class:`Uninitialised` where parameters have no values."""
        missing = self.uninitialised
        if missing:
            shown = ", ".join(quoted(n) for n in missing[:8]) + (" …" if len(missing) > 8 else "")
            raise Uninitialised(
                f"{len(missing)} parameters have no values: {shown}",
                file=self.source.files[0] if self.source.files else None,
                hint="give the weights file, or --init SEED for seeded random values",
            )

    def placeholders(self) -> list[ir.Node]:
        """Nodes that stand for layers nobody could read."""
        return [n for n in self.graph if n.domain == PLACEHOLDER_DOMAIN]

    def replace(self, name: str, make: Callable[[Any, ir.Node], ir.Value | tuple[ir.Value, ...]]) -> None:
        """Replace the placeholder of layer ``name``.

        ``make(builder, node)`` gets a builder that writes where the placeholder stands and the placeholder, with
        its inputs and attributes, and returns the values that take the place of its outputs.

        Raises:
            UsageError: there is no such placeholder, or ``make`` returned another number of values.
        """
        from netferry.schemas.surgery import InsertionBuilder

        node = next((n for n in self.placeholders() if layer_of(n)[0] == name), None)
        if node is None:
            raise UsageError(f"no placeholder of layer {quoted(name)}")
        builder = InsertionBuilder(self.graph, before=node)
        with builder.layer(name, layer_of(node)[1]):
            made = make(builder, node)
            values = (made,) if isinstance(made, ir.Value) else tuple(made)
        if len(values) != len(node.outputs):
            raise UsageError(f"layer {quoted(name)} has {len(node.outputs)} outputs, {len(values)} were given")
        builder.replace(node, values)

    def copy(self) -> Model:
        """Return a model of its own; large weights are shared until one of the two changes them."""
        made = Model(
            copied(self.ir),
            source=self.source,
            labels={name: list(labels) for name, labels in self.labels.items()},
            preprocessing=dict(self.preprocessing),
            notes=list(self.notes),
        )
        made.tasks = dict(self.tasks)
        made.frozen, made.lr_factors = set(self.frozen), dict(self.lr_factors)
        return made

    # what learns ------------------------------------------------------------------------------------------------

    def head(self, output: str | None = None) -> Head:
        """(layer, names of its learnables) of the last layer that mixes features; see :mod:`netferry.schemas.head`."""
        return _rule("head.head_of")(self, output)

    def with_head(self, classes: Sequence[str] | int, **options: Any) -> Model:
        """Return a model that decides between other classes; see :func:`netferry.schemas.rehead.with_head`."""
        return _rule("rehead.with_head")(self, classes, **options)

    def freeze(self, except_: Sequence[str] | None = None) -> list[str]:
        """Freeze all layers but some (the head); see :func:`netferry.schemas.learning.freeze`."""
        return _rule("learning.freeze")(self, except_)

    def unfreeze(self, from_: str | None = None) -> list[str]:
        """Let layers learn again; see :func:`netferry.schemas.learning.unfreeze`."""
        return _rule("learning.unfreeze")(self, from_)

    def set_lr_factor(self, layer: str, parameter: str | None, factor: float) -> list[str]:
        """Multiply a parameter's learning rate; see :func:`netferry.schemas.learning.set_lr_factor`."""
        return _rule("learning.set_lr_factor")(self, layer, parameter, factor)

    # verbs that need other rooms: netferry.api knows them all ---------------------------------------------------

    def save(self, target: Any, **options: Any) -> dict[str, Any]:
        """Write the model as ONNX, checked; see :func:`netferry.api.save`."""
        return _verb("save")(self, target, **options)

    def session(self, device: str = "auto", **options: Any) -> Any:
        """Return a session on the network, on onnxruntime; see :func:`netferry.api.session`."""
        return _verb("session")(self, device=device, **options)

    def to_torch(self, **options: Any) -> Any:
        """Return the network as a trainable torch module; see :func:`netferry.api.to_torch`."""
        return _verb("to_torch")(self, **options)

    def save_weights(self, target: Any) -> list[str]:
        """Write parameters and state as a safetensors file; see :func:`netferry.api.save_weights`."""
        return _verb("save_weights")(self, target)

    def load_weights(self, source: Any, **options: Any) -> list[str]:
        """Fill parameters and state from a safetensors file; see :func:`netferry.api.load_weights`."""
        return _verb("load_weights")(self, source, **options)

    def update_from(self, module: Any) -> list[str]:
        """Take a trained module's weights back into this graph; see :func:`netferry.api.update_from`."""
        return _verb("update_from")(self, module)

    def nodes(self) -> Iterator[ir.Node]:
        """All nodes, those of subgraphs included."""
        return nodes_of(self.graph)


def _rule(name: str) -> Callable[..., Any]:
    file, _, function = name.partition(".")
    return getattr(import_module(f"netferry.schemas.{file}"), function)


def _made_up(make: Callable[[], np.ndarray], value: ir.Value, name: str, keep: int) -> ir.TensorProtocol:
    dtype = value.dtype or ir.DataType.FLOAT
    kind = dtype.numpy()

    def cast() -> np.ndarray:
        return make().astype(kind, copy=False)

    if count(value) > keep:
        return computed_tensor(cast, dtype, static_shape(value), name)
    return array_tensor(cast(), name) if dtype == ir.DataType.FLOAT else ir.Tensor(cast(), dtype=dtype, name=name)


def _verb(name: str) -> Callable[..., Any]:
    return getattr(import_module("netferry.api"), name)  # by name: schemas imports no other room


def _info(value: ir.Value) -> TensorInfo:
    shape = None if value.shape is None else tuple(d if isinstance(d, int) else d.value for d in value.shape)
    kind = value.dtype.name.lower() if value.dtype else value.meta.get(TYPE_TEXT, "unknown")
    return TensorInfo(value.name or "", kind, shape)
