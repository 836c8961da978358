"""What a reader sees of one call of one layer: settings, weights, arguments, and the way to inner layers."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from netferry.converters.hdf5_data import Array
from netferry.converters.keras.config import Config
from netferry.converters.keras.layout import KT
from netferry.converters.keras.spec import Spec
from netferry.converters.options import ReadOptions
from netferry.errors import MalformedFile, UnsupportedError, UnsupportedOption, WeightsError, quoted
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.model import Note
from netferry.schemas.tensors import array_tensor, computed_tensor, uninitialised_tensor

_STATE = frozenset({"moving_mean", "moving_variance", "running_mean", "running_std", "mean", "variance", "count"})
_ONES = frozenset({"gamma", "moving_variance", "running_std", "variance", "scale"})


@dataclass
class Facts:
    """What holds for the whole file."""

    generation: int
    """1, 2 or 3: the Keras that wrote it"""
    backend: str
    """tensorflow, theano, jax …"""
    arrays: dict[str, Array]
    has_weights: bool
    options: ReadOptions
    notes: list[Note] = field(default_factory=list)
    unknown: list[tuple[str, str, str]] = field(default_factory=list)
    frozen: dict[ir.Value, str] = field(default_factory=dict)
    """weights that do not learn (``trainable=False``), with their layers"""
    assets: Callable[[str], bytes | None] = lambda _: None
    """content of a .keras archive's ``assets/`` by path"""


class Caller(Protocol):
    """Who calls inner layers: the network."""

    carried: list[tuple[ir.Value, str]]
    """states that stateful layers leave for the next call, and the names of the outputs that hold them"""
    frozen: bool
    """whether the layer that is read, or one around it, does not learn"""

    def inner_spec(self, prefix: str, raw: Any, where: str, generation: int) -> Spec: ...

    def call(
        self, b: Builder, spec: Spec, args: list[Any], kwargs: dict[str, Any], *, path: str, prefix: str, stamped: bool
    ) -> Any: ...


@dataclass
class Layer:
    """One call of one layer.

    Attributes:
        spec: the layer as the file says it.
        path: its name, with the names of the models around in front (``encoder/dense_1``).
        prefix: where its weights lie (``layers/functional/layers/dense_1/``).
        args, kwargs: the arguments of the call, tensors as :class:`KT`, nested as they were given.
    """

    spec: Spec
    path: str
    prefix: str
    facts: Facts
    network: Caller
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = Config(self.spec.config, self.path)

    @property
    def name(self) -> str:
        """The layer's full name."""
        return self.path

    @property
    def type(self) -> str:
        """Class name."""
        return self.spec.type

    @property
    def generation(self) -> int:
        """1, 2 or 3: the Keras that wrote the file decides what defaults mean."""
        return self.facts.generation

    def note(self, kind: str, message: str) -> None:
        """Record something for the report."""
        self.facts.notes.append(Note(kind, message, self.path))

    def data_format(self, default: str = "channels_last") -> str:
        """Return ``channels_last`` or ``channels_first``; Keras 1 calls them ``tf`` and ``th``."""
        value = self.config.take("data_format", None, also=("dim_ordering",))
        if value is None or value == "default":
            return default
        if "data_format" not in self.config and isinstance(value, str):
            value = {"tf": "channels_last", "th": "channels_first"}.get(value, value)
        if value not in ("channels_last", "channels_first"):
            raise self.config.bad("data_format", value, "channels_last or channels_first")
        return value

    def dim(self, x: KT, axis: int, what: str = "the channels") -> int:
        """Return a dimension that must be known.

        Raises:
            UnsupportedError: it is dynamic.
        """
        if x.rank <= (axis if axis >= 0 else -axis - 1):
            raise MalformedFile(f"a tensor of rank {x.rank} has no axis {axis}", layer=self.path)
        size = x.shape[axis]
        if not isinstance(size, int):
            raise UnsupportedError(f"{what} (axis {axis}) must be a known number", layer=self.path)
        return size

    def rank(self, x: KT, *ranks: int) -> None:
        """Refuse a tensor whose rank is none of ``ranks``.

        Raises:
            MalformedFile: with both.
        """
        if x.rank not in ranks:
            wanted = " or ".join(str(r) for r in ranks)
            raise MalformedFile(f"{self.type} takes tensors of rank {wanted}, not {x.rank}", layer=self.path)

    # weights ---------------------------------------------------------------------------------------------------

    def stored(self, slot: str) -> Array | None:
        """Return a variable as it lies in the file, or None."""
        return self.facts.arrays.get(self.prefix + slot)

    def values(self, slot: str) -> np.ndarray | None:
        """Return a variable's values, for settings that a layer keeps as weights (a vocabulary, a mean)."""
        array = self.stored(slot)
        return None if array is None else array.values()

    def asset(self, name: str) -> bytes | None:
        """Return a file that the layer keeps in the archive (a vocabulary), or None."""
        return self.facts.assets(self.prefix + name)

    def weight(
        self,
        b: Builder,
        slot: str,
        name: str,
        shape: Sequence[int],
        *,
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        to: Sequence[int] | None = None,
        role: Role | None = None,
        variant: object = None,
    ) -> ir.Value:
        """Add variable ``slot`` as parameter ``<layer>.<name>``; a second call of the layer gets the same value.

        Args:
            slot: the variable (see :class:`Slot`).
            name: its name in the graph (``weight``, ``bias``, ``running_mean`` …).
            shape: its shape in the file.
            transform: from the file's order of axes to the graph's; done when the values are wanted.
            to: the shape after ``transform``, where applying it to find out would be costly.
            role: learnable unless the variable's name is that of a running statistic.
            variant: tells two forms of one variable apart (a kernel whose rows are permuted).

        Raises:
            WeightsError: the stored shape does not fit.
        """
        shape = tuple(int(d) for d in shape)
        last = slot.rpartition("/")[2]
        if role is None:
            role = Role.STATE if last in _STATE else Role.LEARNABLE
        target = shape if transform is None else _shape_after(transform, shape) if to is None else tuple(to)
        array = self.stored(slot)
        if array is None:
            tensor: ir.TensorProtocol = uninitialised_tensor(target, filler=_filler(last, shape))
        else:
            if array.dtype.kind in "iu" and array.dtype.itemsize == 1:
                raise UnsupportedOption(f"{slot} is kept as whole numbers: quantized to int8", layer=self.path)
            if array.dtype.kind == "f" and array.dtype.itemsize == 8:  # told once for the whole file
                told = "weights of 64 bits are rounded to 32, with which all is computed"
                self.facts.notes.append(Note("warning", told))
            if array.shape != shape:
                if not regrouped(array.shape, shape):
                    raise WeightsError(
                        f"{slot} has shape {array.shape} in the file, the layer needs {shape}",
                        layer=self.path,
                        file=array.path,
                    )
                inner = transform
                stored = shape
                transform = lambda values: (inner or _same)(values.reshape(stored))  # noqa: E731
                if array.offset is not None and inner is None:
                    transform = None
            tensor = _tensor(array, transform, target)
        return self.held(b.param(name, tensor, role=role, key=(self.prefix, id(self.spec), slot, variant)))

    def held(self, value: ir.Value, *, learns: bool = True) -> ir.Value:
        """A parameter of the layer, which learns unless the file says otherwise of the layer, or ``learns`` of it."""
        if self.network.frozen or not learns:
            self.facts.frozen[value] = self.path
        return value

    def constant(self, slot: str) -> np.ndarray:
        """Return a variable's values as float32; zeros are never made up.

        Raises:
            WeightsError: the file does not hold it.
        """
        values = self.values(slot)
        if values is None:
            raise WeightsError(f"needs the values of {slot}, which no file gives", layer=self.path)
        return np.asarray(values, np.float32)

    # inner layers ----------------------------------------------------------------------------------------------

    def inner(self, b: Builder, raw: Any, attribute: str, *args: Any, what: str | None = None, **kwargs: Any) -> Any:
        """Call a layer that this one holds: ``raw`` is its object in the settings, ``attribute`` its path in weights.

        Nodes belong to this layer; those of an inner model to the model's layers.
        """
        spec = self.network.inner_spec(self.prefix, raw, f"{self.path}/{what or attribute}", self.generation)
        return self.network.call(
            b, spec, list(args), kwargs, path=self.path, prefix=f"{self.prefix}{attribute}/", stamped=True
        )


def regrouped(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether one shape is the other with neighbouring axes made one, as attention's heads are: then the elements lie
    where they should. Those of a transposed matrix do not."""
    ends = [set(itertools.accumulate((d for d in shape if d != 1), operator.mul)) for shape in (stored, wanted)]
    return math.prod(stored) == math.prod(wanted) and (ends[0] <= ends[1] or ends[1] <= ends[0])


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _shape_after(transform: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> tuple[int, ...]:
    return transform(np.broadcast_to(np.float32(0), shape)).shape


def _tensor(
    array: Array, transform: Callable[[np.ndarray], np.ndarray] | None, target: tuple[int, ...]
) -> ir.TensorProtocol:
    if math.prod(target) == 0:
        return array_tensor(np.zeros(target, np.float32))
    if transform is None:
        return array.tensor(target)
    return computed_tensor(lambda: transform(array.read()), ir.DataType.FLOAT, target)


def _filler(name: str, shape: tuple[int, ...]) -> dict[str, object]:
    """How Keras initialises a variable of this name unless told otherwise."""
    if name in _ONES:
        return {"type": "constant", "value": 1.0}
    if name == "embeddings":
        return {"type": "uniform", "min": -0.05, "max": 0.05}
    if len(shape) < 2:
        return {"type": "constant", "value": 0.0}
    space = math.prod(shape[:-2])
    return {
        "type": "xavier", "variance_norm": "AVERAGE", "fan_in": shape[-2] * space, "fan_out": shape[-1] * space
    }  # fmt: skip


def only(value: Any, l: Layer) -> KT:
    """Return the one tensor of a result or argument.

    Raises:
        MalformedFile: it is none, or several.
    """
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if not isinstance(value, KT):
        raise MalformedFile(f"one tensor is expected, not {quoted(type(value).__name__)}", layer=l.path)
    return value
