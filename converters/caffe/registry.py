"""The layer readers' side of the Caffe importer: the registry, and what a reader gets to see of a layer.

A reader is one function::

    @layer("Scale")
    def scale(b: Builder, l: Layer, x: ir.Value, *factor: ir.Value) -> ir.Value: ...

It gets the builder (already stamping nodes with the layer's name), the layer, and the values of its bottoms; it
returns the values of its tops: one, or a tuple.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from netferry.converters.caffe.blobs import Blob
from netferry.converters.caffe.params import Params
from netferry.converters.caffe.prototxt import Message
from netferry.converters.registry import Registry
from netferry.errors import NetferryError, WeightsError
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.initialise import fill
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.model import Note
from netferry.schemas.tensors import array_tensor, uninitialised_tensor

Reader = Callable[..., "ir.Value | tuple[ir.Value, ...]"]
registry: Registry[Reader] = Registry("caffe")
layer = registry.layer

FILLED = "is not in the weights file: its filler gives the values"
"""what a note says of a parameter"""


def reader_key(layer: Message) -> str:
    """The name under which a layer's reader is registered: its type; for a Python layer ``Python:module.Class``."""
    kind, settings = layer.text("type"), layer.messages("python_param")
    if kind != "Python" or not settings:
        return kind
    return f"Python:{settings[-1].text('module')}.{settings[-1].text('layer')}"


class NeedsFixedBatch(NetferryError):
    """A layer cannot be said with a dynamic batch; the importer then fixes it as the prototxt declares."""

    exit_code = 7


class Declined(NetferryError):
    """A reader knows the type but not this layer (a fork's settings, a Python layer): it becomes a placeholder.

    Raised before the reader makes any node.
    """

    exit_code = 7


@dataclass
class Layer:
    """One layer of the TEST-phase net, as its reader sees it."""

    name: str
    type: str
    message: Message
    bottoms: list[str]
    tops: list[str]
    blobs: list[Blob] = field(default_factory=list)
    shared: list[str | None] = field(default_factory=list)
    """``param { name }`` per blob: layers that name a parameter alike share it"""
    share_modes: list[str] = field(default_factory=list)
    has_weights_file: bool = False
    batch: int | None = None
    """the batch size that the prototxt declares, where the graph's batch is dynamic"""
    notes: list[Note] = field(default_factory=list)
    shared_blobs: dict[str, Blob] = field(default_factory=dict)
    """blobs of named parameters that another layer brought"""
    shared_values: dict[str, tuple[ir.Value, str]] = field(default_factory=dict)
    """parameters already in the graph by shared name, with the layer that owns them"""
    still: set[int] = field(default_factory=set)
    """places of the blobs that do not learn (``lr_mult: 0``)"""
    frozen: dict[ir.Value, str] = field(default_factory=dict)
    """parameters that do not learn, with their layers"""
    params: list[Params] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    """places of the blobs that the reader asked for"""

    def param(self, name: str) -> Params:
        """Return the settings message ``name`` (e.g. ``convolution_param``); empty where left out."""
        values = [m for m in self.message.get(name) if isinstance(m, Message)]
        params = Params(values[-1] if values else None, self.name, name)
        self.params.append(params)
        return params

    def note(self, kind: str, message: str) -> None:
        """Record something for the report."""
        self.notes.append(Note(kind, message, self.name))

    def fixed(self, x: ir.Value, axis: int, why: str) -> int:
        """Return dimension ``axis`` of ``x`` where it is known; else ask for a fixed batch.

        Raises:
            NeedsFixedBatch: the dimension is dynamic.
        """
        dim = shape_of(x)[axis]
        if not isinstance(dim, int):
            raise NeedsFixedBatch(f"{why} needs a known size of axis {axis}", layer=self.name)
        return dim

    def same_dims(self, a: ir.Value, b: ir.Value) -> None:
        """Check that two values have equal shapes, as Caffe does.

        Raises:
            NeedsFixedBatch: a dynamic dimension meets a fixed one, or another dynamic one.
            WeightsError: the shapes differ.
        """
        first, second = shape_of(a), shape_of(b)
        if first != second:
            if len(first) == len(second) and all(
                p == q or not (isinstance(p, int) and isinstance(q, int)) for p, q in zip(first, second, strict=True)
            ):
                raise NeedsFixedBatch(f"shapes {first} and {second} are equal only for one batch size", layer=self.name)
            raise WeightsError(f"bottoms have shapes {first} and {second}, which must be equal", layer=self.name)

    # weights ---------------------------------------------------------------------------------------------------

    def weight(
        self,
        b: Builder,
        name: str,
        index: int,
        shape: Sequence[int],
        *,
        filler: dict[str, object] | None = None,
        default: float | None = None,
        role: Role = Role.LEARNABLE,
    ) -> ir.Value:
        """Add the layer's ``index``-th blob as parameter ``<layer>.<name>`` of ``shape``.

        A blob that is absent keeps its filler, as in Caffe: ``filler`` (from the prototxt) where it is
        deterministic, else ``default``; otherwise the parameter stays uninitialised.

        Raises:
            WeightsError: the blob's element count or shape does not fit.
        """
        shape = tuple(int(d) for d in shape)
        self.asked.add(index)
        shared = self.shared[index] if index < len(self.shared) else None
        if shared and shared in self.shared_values:
            value, owner = self.shared_values[shared]
            self._hold(index, value, role)
            if tuple(shape_of(value)) != shape:
                permissive = index < len(self.share_modes) and self.share_modes[index] in ("PERMISSIVE", "1")
                if not permissive or np.prod(shape_of(value)) != np.prod(shape):  # pyright: ignore[reportCallIssue, reportArgumentType]
                    raise WeightsError(
                        f"shares {shared!r} with {owner}, but needs shape {shape} and not {shape_of(value)}",
                        layer=self.name,
                    )
                return b.reshape(value, shape)
            return value
        blob = self._blob(index)
        tensor = self._unstored(name, shape, filler, default) if blob is None else blob.tensor(shape, self.name)
        value = b.param(name, tensor, role=role)
        self._hold(index, value, role)
        if shared:
            self.shared_values[shared] = (value, self.name)
        return value

    def _hold(self, index: int, value: ir.Value, role: Role) -> None:
        if index in self.still and role is Role.LEARNABLE:  # batch norms say so of their statistics, which move
            self.frozen[value] = self.name

    def _unstored(
        self, name: str, shape: tuple[int, ...], filler: dict[str, object] | None, default: float | None
    ) -> ir.TensorProtocol:
        if self.has_weights_file:
            self.note("assumed", f"{name} {FILLED}")
        if filler is None and default is not None:
            filler = {"type": "constant", "value": default}
        elif filler is not None and filler["type"] not in ("constant", "bilinear"):
            return uninitialised_tensor(shape, filler=filler)
        if filler is None:
            return uninitialised_tensor(shape, filler={"type": "msra"})
        if math.prod(shape) > (2**24 if filler["type"] == "bilinear" else 1_000_000):
            return uninitialised_tensor(shape, filler=filler)  # nothing large is made up from a small file
        return array_tensor(fill(filler, shape, self.name, 0))

    def array(self, index: int, shape: Sequence[int]) -> np.ndarray | None:
        """Return the ``index``-th blob's values as float32 of ``shape``; None where the file has none."""
        blob = self._blob(index)
        return None if blob is None else blob.tensor(tuple(shape), self.name).numpy()

    def _blob(self, index: int) -> Blob | None:
        """The stored blob: that of the shared parameter, else the layer's own."""
        self.asked.add(index)
        shared = self.shared[index] if index < len(self.shared) else None
        own = self.blobs[index] if index < len(self.blobs) else None
        other = self.shared_blobs.get(shared) if shared else None
        return own if other is None or (own is not None and own.shape != other.shape) else other

    def ignore_blobs(self, why: str) -> None:
        """Record that the stored blobs are not used."""
        if self.blobs:
            self.note("dropped", why)
        self.asked.update(range(len(self.blobs)))

    def check_blobs(self, *, skip_missing: bool = False) -> None:
        """Refuse a layer that uses a part of its stored blobs (a bias that the prototxt switches off, say), and one of
        whose parameters a part is stored.

        Raises:
            WeightsError: the file holds more or fewer blobs than the layer uses. Caffe refuses that, too.
        """
        lacks = [i for i in sorted(self.asked) if self._blob(i) is None] if self.blobs else []
        if lacks and not skip_missing and self.type != "BatchNorm":  # whose factor is 1 then, as OpenCV has it
            raise WeightsError(
                f"the weights file holds {len(self.blobs)} blobs, the layer has {max(self.asked) + 1}",
                layer=self.name,
                hint="a layer without a bias says bias_term: false; --skip-missing fills what is missing",
            )
        if not self.asked or len(self.blobs) <= max(self.asked) + 1:
            if self.blobs and not self.asked:
                self.note("ignored", f"the weights file holds {len(self.blobs)} blobs, the layer has none")
            return
        raise WeightsError(
            f"the weights file holds {len(self.blobs)} blobs, the layer has {max(self.asked) + 1}",
            layer=self.name,
            hint="a bias in the file needs bias_term: true",
        )
