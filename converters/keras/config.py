"""A layer's settings, each wanted exactly once; what nobody asked for is reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from netferry.errors import MalformedFile, UnsupportedOption, quoted

_MISSING: Any = object()
_NEVER_MATTERS = frozenset({
    "name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape", "input_dtype", "autocast",
    "quantization_config", "quantization_mode", "lora_rank", "lora_alpha", "gptq_unquantized", "seed",
    "activity_regularizer", "build_config", "build_input_shape", "init", "inner_init", "forget_bias_init",
    "W_regularizer", "b_regularizer", "W_constraint", "b_constraint", "weights", "create_input", "momentum",
    "renorm_clipping", "renorm_momentum", "synchronized", "fused", "_reversed_input_shape", "sparse", "ragged",
    "optional", "input_spec", "name_scope", "zero_output_for_mask_", "U_regularizer", "beta_init", "gamma_init",
})  # fmt: skip
"""Settings that change neither shapes nor numbers at inference."""
_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")


class Config:
    """Reads the settings of one layer.

    Args:
        raw: the JSON object.
        layer: the layer's name, for messages.
    """

    def __init__(self, raw: dict[str, Any], layer: str) -> None:
        self.raw, self.layer = raw, layer
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.raw

    def take(self, name: str, default: Any = _MISSING, *, also: Sequence[str] = ()) -> Any:
        """Return a setting as the file has it; ``also`` lists its older names.

        Raises:
            MalformedFile: it is not there and has no default.
        """
        for key in (name, *also):
            self._read.add(key)
        for key in (name, *also):
            if key in self.raw:
                return self.raw[key]
        if default is _MISSING:
            raise MalformedFile(f"setting {name} is missing", layer=self.layer)
        return default

    def integer(self, name: str, default: Any = _MISSING, *, least: int | None = None, also: Sequence[str] = ()) -> int:
        """Return a whole number."""
        value = self.take(name, default, also=also)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.bad(name, value, "a whole number")
        if (least is not None and value < least) or abs(value) >= 2**31:
            raise self.bad(name, value, f"{'' if least is None else f'at least {least} and '}below 2**31")
        return value

    def number(self, name: str, default: Any = _MISSING, *, also: Sequence[str] = ()) -> float:
        """Return a real number; an object of Keras that holds one (``{"value": 0.3}``) counts."""
        value = self.take(name, default, also=also)
        if isinstance(value, dict):
            inner = value.get("config", value)
            value = inner.get("value", value) if isinstance(inner, dict) else inner
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.bad(name, value, "a number")
        return float(value)

    def maybe_number(self, name: str, *, also: Sequence[str] = ()) -> float | None:
        """Return a real number, or None where it is null or left out."""
        return None if self.take(name, None, also=also) is None else self.number(name, also=also)

    def flag(self, name: str, default: bool, *, also: Sequence[str] = ()) -> bool:
        """Return a yes or no."""
        value = self.take(name, default, also=also)
        if value is None:  # what Python takes for no
            return False
        if not isinstance(value, bool) and value not in (0, 1):
            raise self.bad(name, value, "true or false")
        return bool(value)

    def text(self, name: str, default: Any = _MISSING, *, also: Sequence[str] = ()) -> str:
        """Return a text."""
        value = self.take(name, default, also=also)
        if not isinstance(value, str):
            raise self.bad(name, value, "a text")
        return value

    def choice(self, name: str, default: str, *allowed: str, also: Sequence[str] = ()) -> str:
        """Return one of the ``allowed`` texts, in lower case.

        Raises:
            UnsupportedOption: another one.
        """
        value = self.take(name, default, also=also)
        if value is None:
            value = default
        if not isinstance(value, str) or value.lower() not in allowed:
            shown = ", ".join(repr(a) for a in allowed)
            raise UnsupportedOption(f"{name}={quoted(value)} is not supported (only {shown})", layer=self.layer)
        return value.lower()

    def integers(
        self, name: str, rank: int, default: Any = _MISSING, *, least: int = 0, also: Sequence[str] = ()
    ) -> tuple[int, ...]:
        """Return ``rank`` whole numbers; a single one stands for all."""
        value = self.take(name, default, also=also)
        items = list(value) if isinstance(value, (list, tuple)) else [value] * rank
        if len(items) != rank or not all(_whole(v) and least <= v < 2**31 for v in items):
            raise self.bad(name, value, f"{rank} whole numbers of at least {least}")
        return tuple(int(v) for v in items)

    def whole_numbers(self, name: str, default: Any = _MISSING, *, also: Sequence[str] = ()) -> list[int]:
        """Return a list of whole numbers of any length; a single number is a list of one."""
        value = self.take(name, default, also=also)
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if not all(_whole(v) and abs(v) < 2**31 for v in items) or len(items) > 64:
            raise self.bad(name, value, "whole numbers")
        return [int(v) for v in items]

    def axes(self, name: str, rank: int, default: Any = -1) -> list[int]:
        """Return axes of a tensor of ``rank``, counted from its first one, each of them once."""
        named = self.whole_numbers(name, default)
        if not all(-rank <= a < rank for a in named) or len({a % rank for a in named}) != len(named):
            raise self.bad(name, named, f"axes of a tensor of rank {rank}")
        return [a % rank for a in named]

    def ignore(self, *names: str) -> None:
        """Leave settings aside on purpose."""
        self._read.update(names)

    def bad(self, name: str, value: object, wanted: str) -> MalformedFile:
        """Return the error for a setting of the wrong kind."""
        return MalformedFile(f"setting {name}={quoted(value)[1:-1]} is not {wanted}", layer=self.layer)

    def leftovers(self) -> list[str]:
        """Names of settings nobody asked for that do not look like a default."""
        return [
            key
            for key, value in self.raw.items()
            if key not in self._read
            and key not in _NEVER_MATTERS
            and not key.endswith(_TRAINING_ENDINGS)
            and not _looks_default(value)
        ]


def _whole(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _looks_default(value: object) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return False
    return value is None or value is False or value in (0, "", "default", "linear") or value in ([], {})
