"""What the reader of an operation sees: arguments by name or place, constants as arrays, results to wrap.

An operation's arguments come from three places: keywords of the call, positions of the call (both may hold tensors),
and, for Keras 3, the settings of the node. :meth:`Op.take` looks in that order; what no reader asked for is refused
unless it carries a default, because an argument left aside would change the numbers without a word.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import layer
from netferry.errors import MalformedFile, UnsupportedOption, quoted
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_MISSING: Any = object()
_UNIMPORTANT = frozenset({"name", "validate_indices", "use_cudnn_on_gpu", "conjugate", "validate_shape", "stable",
                          "sparse", "Tidx", "training", "preserve_aspect_ratio", "synchronized"})  # fmt: skip

TYPES: dict[str, ir.DataType] = {
    "float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT, "bfloat16": ir.DataType.FLOAT,
    "float64": ir.DataType.FLOAT, "int8": ir.DataType.INT8, "int16": ir.DataType.INT16, "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64, "uint8": ir.DataType.UINT8, "uint16": ir.DataType.UINT16,
    "uint32": ir.DataType.UINT32, "uint64": ir.DataType.UINT64, "bool": ir.DataType.BOOL,
    "string": ir.DataType.STRING,
}  # fmt: skip
"""Element types by Keras's name; all floats are float32 in the graph."""

Function = Callable[["Op"], Any]


class Slice:
    """A Python slice as the file says it; its parts are numbers, None or tensors."""

    def __init__(self, start: Any, stop: Any, step: Any) -> None:
        self.start, self.stop, self.step = start, stop, step


class Op:
    """One call of one operation.

    Attributes:
        b: the builder, stamping nodes with the operation's name.
        l: the layer that the file says it is.
    """

    def __init__(self, b: Builder, l: Layer) -> None:
        self.b, self.l = b, l
        self._read: set[str] = set()

    @property
    def keras3(self) -> bool:
        """Whether Keras 3's rules for types hold (else TensorFlow's)."""
        return self.l.type.startswith("ops:")

    def take(self, name: str, place: int | None = None, default: Any = _MISSING) -> Any:
        """Return an argument: keyword ``name``, the node's setting of that name, or position ``place``.

        Tensors are :class:`KT`, nested lists of numbers stay lists, ``__numpy__`` objects are arrays.

        Raises:
            MalformedFile: it is not there and has no default.
        """
        self._read.add(name)
        if name in self.l.kwargs:
            return plain(self.l.kwargs[name], self.l)
        if self.keras3 and name in self.l.config:
            return plain(self.l.config.take(name), self.l)
        if place is not None and place < len(self.l.args):
            return plain(self.l.args[place], self.l)
        if default is _MISSING:
            raise MalformedFile(
                f"argument {name} of {quoted(self.l.type)} is not in the file (Keras 2 keeps only the first positional "
                "argument)"
                if not self.keras3
                else f"argument {name} is missing",
                layer=self.l.path,
            )
        return default

    def leave(self, *names: str) -> None:
        """Leave arguments aside on purpose."""
        for name in names:
            self._read.add(name)
            self.l.config.ignore(name)

    def tensor(self, name: str, place: int | None = 0) -> KT:
        """Return an argument as a tensor; a number or array becomes a constant."""
        return self.as_tensor(self.take(name, place), name)

    def as_tensor(self, value: Any, name: str = "value", dtype: ir.DataType | None = None) -> KT:
        """Wrap a constant, or return the tensor."""
        if isinstance(value, KT):
            return value
        return KT.of(self.b.const(self.array(value, name, dtype), name))

    def array(self, value: Any, name: str, dtype: ir.DataType | None = None) -> np.ndarray:
        """Return a constant: whole numbers are int32, real ones float32, unless ``dtype`` says otherwise.

        Raises:
            MalformedFile: it is no number nor a rectangle of numbers.
        """
        try:
            array = np.asarray(value)
        except ValueError:
            raise self.bad(name, value, "numbers") from None
        if array.dtype.kind not in "biufU":
            raise self.bad(name, value, "numbers")
        if array.dtype.kind == "U":
            return array.astype(object)
        if dtype is not None:
            return array.astype(dtype.numpy())
        if array.dtype.kind == "f" or array.size == 0:
            return array.astype(np.float32)
        return array.astype(np.int32) if array.dtype == np.int64 and not isinstance(value, np.ndarray) else array

    def integer(self, name: str, place: int | None = None, default: Any = _MISSING) -> int:
        """Return a whole number."""
        value = self.take(name, place, default)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or abs(value) >= 2**31:
            raise self.bad(name, value, "a whole number")
        return int(value)

    def number(self, name: str, place: int | None = None, default: Any = _MISSING) -> float:
        """Return a real number."""
        value = self.take(name, place, default)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.bad(name, value, "a number")
        return float(value)

    def flag(self, name: str, place: int | None = None, default: bool = False) -> bool:
        """Return a yes or no; None is the default."""
        value = self.take(name, place, default)
        if value is None:
            return default
        if not isinstance(value, (bool, int)):
            raise self.bad(name, value, "true or false")
        return bool(value)

    def integers(self, name: str, place: int | None = None, default: Any = _MISSING) -> list[int] | None:
        """Return whole numbers as a list (a single one makes a list of one); None stays None."""
        return self.as_integers(self.take(name, place, default), name)

    def as_integers(self, value: Any, name: str) -> list[int] | None:
        """Check that a value is whole numbers; None stays None."""
        if value is None:
            return None
        items = value.ravel().tolist() if isinstance(value, np.ndarray) else value
        items = list(items) if isinstance(items, (list, tuple)) else [items]
        if not all(isinstance(v, int) and not isinstance(v, bool) and abs(v) <= 2**63 for v in items):
            raise self.bad(name, value, "whole numbers")
        return items

    def axis(self, x: KT, name: str = "axis", place: int | None = None, default: Any = _MISSING) -> int:
        """Return one axis of ``x``, counted from 0."""
        return self.axes_of(x.rank, [self.integer(name, place, default)])[0]

    def axes(self, x: KT, name: str = "axis", place: int | None = None, default: Any = None) -> list[int]:
        """Return axes of ``x``, counted from 0, in ascending order; None means all."""
        found = self.integers(name, place, default)
        return list(range(x.rank)) if found is None else sorted(self.axes_of(x.rank, found))

    def axes_of(self, rank: int, axes: Sequence[int]) -> list[int]:
        """Count axes from 0.

        Raises:
            MalformedFile: there is no such axis, or one is there twice.
        """
        if any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) != len(axes):
            raise MalformedFile(f"{list(axes)} are not axes of a tensor of rank {rank}", layer=self.l.path)
        return [a % rank for a in axes]

    def dtype(self, name: str = "dtype", place: int | None = None, default: str | None = None) -> ir.DataType | None:
        """Return an element type; None where the file says None."""
        value = self.take(name, place, default)
        if value is None:
            return None
        if isinstance(value, dict):
            inner = value.get("config")
            value = inner.get("name", inner) if isinstance(inner, dict) else inner
        text = str(value)
        if text.startswith("<dtype: "):
            text = text[8:].strip(" '\">")
        if text not in TYPES:
            raise UnsupportedOption(f"element type {quoted(text)} is not supported", layer=self.l.path)
        return TYPES[text]

    def bad(self, name: str, value: object, wanted: str) -> MalformedFile:
        """Return the error for an argument of the wrong kind."""
        shown = "a tensor" if isinstance(value, KT) else quoted(value, 60)
        return MalformedFile(f"argument {name}={shown} is not {wanted}", layer=self.l.path)

    def unsupported(self, why: str) -> UnsupportedOption:
        """Return the error for a form that has no counterpart."""
        return UnsupportedOption(f"{quoted(self.l.type)}: {why}", layer=self.l.path)

    # results -----------------------------------------------------------------------------------------------------

    def cast(self, x: KT, dtype: ir.DataType) -> KT:
        """Cast in the place where it lies; a constant is cast at once."""
        if x.dtype == dtype:
            return x
        tensor = x.value.const_value
        if tensor is not None and x.value.is_initializer() and x.value.producer() is None and tensor.size <= 4096:
            return KT(self.b.const(tensor.numpy().astype(dtype.numpy()), "value"), x.order)
        return x.like(self.b.op("Cast", x.value, to=int(dtype)))

    def floating(self, x: KT) -> KT:
        """Cast what is not a float."""
        return self.cast(x, ir.DataType.FLOAT)

    def plain(self, x: KT) -> KT:
        """The tensor without the pending permutation of a Flatten."""
        return x if x.flat is None else KT.of(x.logical(self.b))

    def finish(self) -> None:
        """Refuse arguments that no one asked for and that are no default.

        Raises:
            UnsupportedOption: with the first of them.
        """
        for name, value in self.l.kwargs.items():
            if name in self._read or name in _UNIMPORTANT or value is None or value is False:
                continue
            raise UnsupportedOption(f"argument {name} of {quoted(self.l.type)} is not supported", layer=self.l.path)


def operation(*types: str, mask: str = "drop") -> Callable[[Function], Function]:
    """Decorator: register a function of :class:`Op` for operations ``types`` (``ops:Add``, ``tf.math.add``)."""

    def register(function: Function) -> Function:
        @functools.wraps(function)
        def reader(b: Builder, l: Layer, *_: KT) -> Any:
            op = Op(b, l)
            made = function(op)
            op.finish()
            return made

        layer(*types, mask=mask)(reader)
        return function

    return register


def plain(value: Any, l: Layer, depth: int = 0) -> Any:
    """Read Keras's objects for arrays, slices and the ellipsis; everything else stays as it is."""
    if depth > 64:
        raise MalformedFile("arguments nested deeper than 64", layer=l.path)
    if isinstance(value, dict):
        kind, config = value.get("class_name"), value.get("config")
        if kind in ("__numpy__", "__tensor__") and isinstance(config, dict):
            return _array(config, l)
        if kind == "__slice__" and isinstance(config, dict):
            return Slice(*(plain(config.get(k), l, depth + 1) for k in ("start", "stop", "step")))
        if kind == "__ellipsis__":
            return Ellipsis
        if kind == "__tuple__" and isinstance(config, list):
            return [plain(v, l, depth + 1) for v in config]
        if set(value) == {"start", "stop", "step"}:
            return Slice(*(plain(value[k], l, depth + 1) for k in ("start", "stop", "step")))
        return {k: plain(v, l, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, l, depth + 1) for v in value]
    if isinstance(value, float) and math.isnan(value):
        return math.nan
    return value


def _array(config: dict[str, Any], l: Layer) -> np.ndarray:
    dtype = config.get("dtype")
    kind = TYPES.get(dtype) if isinstance(dtype, str) else None
    if kind is None or kind == ir.DataType.STRING:
        raise UnsupportedOption(f"a constant of type {quoted(dtype)} is not supported", layer=l.path)
    try:
        return np.asarray(config.get("value"), kind.numpy())
    except (TypeError, ValueError, OverflowError):
        raise MalformedFile("a constant that is no array of numbers", layer=l.path) from None
