"""Typed reading of a layer's settings.

A setting is read by its name and kind; what no reader asked for ends up in the report, so that nothing a prototxt
says is passed over in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from netferry.converters.caffe.prototxt import Message, Scalar
from netferry.errors import MalformedFile, UnsupportedOption, quoted

TRAINING_ONLY = frozenset(
    {
        *("weight_filler", "bias_filler", "filler", "engine", "lr_mult", "decay_mult", "force_nd_im2col"),
        *("moving_average_fraction", "stable_prod_grad", "debug_info", "cudnn_flag", "backward", "propagate_down"),
    }
)
"""Settings that never change what a layer computes in the TEST phase (fillers are read where weights are missing)."""

_FLOAT_MAX = 3.4028235677973366e38
"""Halfway above the largest float32: what is larger becomes infinite, as in Caffe."""


class Params:
    """A message of settings with typed getters; each getter marks the field as read.

    Args:
        message: the message, or None where the prototxt leaves it out (all defaults).
        where: layer name, for errors.
        path: name of the message, for errors and notes.
    """

    def __init__(self, message: Message | None, where: str, path: str) -> None:
        self._message = message or Message()
        self._where, self._path = where, path
        self._read: set[str] = set()
        self._inner: list[Params] = []

    def has(self, name: str) -> bool:
        """Whether the prototxt gives the field (does not count as reading it)."""
        return bool(self._message.get(name))

    def _values(self, name: str) -> list[Scalar | Message]:
        self._read.add(name)
        return self._message.get(name)

    def _last(self, name: str) -> Scalar | Message | None:
        values = self._values(name)
        return values[-1] if values else None

    def _fail(self, name: str, value: object, wanted: str) -> MalformedFile:
        return MalformedFile(f"{self._path}.{name}: {quoted(value)} is not {wanted}", layer=self._where)

    def int(self, name: str, default: int | None = None, *, least: int | None = None) -> int:
        """An integer; ``default`` None means the field is required."""
        values = self.ints(name)
        if not values:
            if default is None:
                raise MalformedFile(f"{self._path}.{name} is missing", layer=self._where)
            return default
        if least is not None and values[-1] < least:
            raise self._fail(name, values[-1], f"at least {least}")
        return values[-1]

    def ints(self, name: str) -> list[int]:
        """A repeated integer."""
        out: list[int] = []
        for value in self._values(name):
            if not isinstance(value, Scalar):
                raise self._fail(name, "{…}", "an integer")
            number = value.as_int()
            if number is None or not -(2**31) <= number < 2**32:  # Caffe's are int32 and uint32
                raise self._fail(name, value.text, "an integer of 32 bits")
            out.append(number)
        return out

    def float(self, name: str, default: float | None = None) -> float:
        """A number; ``default`` None means the field is required."""
        values = self.floats(name)
        if not values:
            if default is None:
                raise MalformedFile(f"{self._path}.{name} is missing", layer=self._where)
            return default
        return values[-1]

    def floats(self, name: str) -> list[float]:
        """A repeated number."""
        out: list[float] = []
        for value in self._values(name):
            number = value.as_float() if isinstance(value, Scalar) else None
            if number is None or math.isnan(number):
                raise self._fail(name, value.text if isinstance(value, Scalar) else "{…}", "a number")
            out.append(math.copysign(math.inf, number) if abs(number) > _FLOAT_MAX else number)
        return out

    def bool(self, name: str, default: bool) -> bool:
        """A truth value: true, false, t, f, 1, 0."""
        value = self._last(name)
        if value is None:
            return default
        truth = value.as_bool() if isinstance(value, Scalar) else None
        if truth is None:
            raise self._fail(name, value.text if isinstance(value, Scalar) else "{…}", "true or false")
        return truth

    def str(self, name: str, default: str = "") -> str:
        """A string (or a bare word)."""
        value = self._last(name)
        if value is None:
            return default
        if not isinstance(value, Scalar):
            raise self._fail(name, "{…}", "a string")
        return value.text

    def strs(self, name: str) -> list[str]:
        """A repeated string."""
        values = self._values(name)
        if not all(isinstance(v, Scalar) for v in values):
            raise self._fail(name, "{…}", "a string")
        return [v.text for v in values if isinstance(v, Scalar)]

    def enum(self, name: str, words: Sequence[str] | Mapping[str, int], default: str) -> str:
        """An enumeration value, written as a word or as its number; returns the word.

        ``words`` are the names numbered from 0, or a mapping name -> number.
        """
        value = self._last(name)
        if value is None:
            return default
        table = words if isinstance(words, Mapping) else {w: i for i, w in enumerate(words)}
        if isinstance(value, Scalar):
            number = value.as_int()
            for word, n in table.items():
                if value.text == word or n == number:
                    return word
        shown = value.text if isinstance(value, Scalar) else "{…}"
        raise UnsupportedOption(
            f"{self._path}.{name}: {quoted(shown)} is not supported (only {', '.join(table)})", layer=self._where
        )

    def message(self, name: str) -> Params:
        """A nested message; empty where left out (the last one where given twice)."""
        value = self._last(name)
        if value is not None and not isinstance(value, Message):
            raise self._fail(name, value.text, "a message")
        return self._nest(value, name)

    def messages(self, name: str) -> list[Params]:
        """A repeated nested message."""
        out: list[Params] = []
        for value in self._values(name):
            if not isinstance(value, Message):
                raise self._fail(name, value.text, "a message")
            out.append(self._nest(value, name))
        return out

    def _nest(self, message: Message | None, name: str) -> Params:
        inner = Params(message, self._where, f"{self._path}.{name}")
        self._inner.append(inner)
        return inner

    def ignore(self, *names: str) -> None:
        """Mark fields as read on purpose although they change nothing here."""
        self._read.update(names)

    def filler(self, name: str) -> dict[str, object] | None:
        """The filler message ``name`` as :func:`netferry.schemas.initialise.fill` takes it; None where left out."""
        if not self.has(name):
            return None
        p = self.message(name)
        out: dict[str, object] = {"type": p.str("type", "constant")}
        for key in ("value", "min", "max", "mean", "std"):
            if p.has(key):
                out[key] = p.float(key)
        if p.has("variance_norm"):
            out["variance_norm"] = p.enum("variance_norm", ("FAN_IN", "FAN_OUT", "AVERAGE"), "FAN_IN")
        p.ignore("sparse")
        return out

    def unread(self) -> list[str]:
        """Dotted names of fields that nobody asked for and that could matter."""
        own = [f"{self._path}.{k}" for k in self._message if k not in self._read and k not in TRAINING_ONLY]
        return own + [name for inner in self._inner for name in inner.unread()]
