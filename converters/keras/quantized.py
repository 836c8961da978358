"""Layers that Keras 3 quantized to int8: whole-number weights with scales, inputs rounded row by row.

Keras divides: the real kernel is ``kernel / kernel_scale``. The graph gets real kernels and, where the layer rounds its
inputs, the nodes that do so (``keras.quantizers.abs_max_quantize``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.hdf5_data import Array
from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import Slot
from netferry.converters.keras.spec import Spec
from netferry.errors import UnsupportedOption, WeightsError, quoted
from netferry.schemas.graph import Builder

READ = ("Dense", "EinsumDense", "Embedding")
"""layers whose int8 form is read"""


def modes(spec: Spec) -> Iterator[str]:
    """The ways in which a layer, or any part of it, is quantized (``int8``, ``int4``, ``float8`` …)."""
    pending: list[Any] = [spec.config.get("dtype")]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            mode = value.get("mode")
            if isinstance(mode, str):
                yield mode
            pending.extend(value.values())
        elif isinstance(value, str) and "_from_" in value:
            yield value.partition("_from_")[0]


def refuse_unread(spec: Spec) -> None:
    """Refuse quantized layers that nobody reads: taken as they are, their numbers would be wrong without a word.

    Raises:
        UnsupportedOption: naming the way.
    """
    for mode in modes(spec):
        if mode != "int8" or spec.type not in READ:
            raise UnsupportedOption(
                f"a {spec.type} quantized to {quoted(mode)[1:-1]} is not supported (only int8: {', '.join(READ)})",
                layer=spec.name,
            )


def is_int8(spec: Spec) -> bool:
    """Whether a layer keeps int8 weights."""
    return "int8" in modes(spec)


def slots(spec: Spec, weight: str, *others: str) -> list[Slot]:
    """Variables of a layer whose ``weight`` may be quantized."""
    if not is_int8(spec):
        return [Slot(weight), *(Slot(n) for n in others)]
    return [Slot(weight, False), *(Slot(n) for n in others), Slot(f"{weight}_scale", False)]


@dataclass(frozen=True)
class Dequantized(Array):
    """Stored whole numbers, divided by their scale where they are read."""

    scale: Array | None = None
    arrange: Callable[[np.ndarray], np.ndarray] | None = None
    """brings the scale to the shape that divides the stored array"""

    def values(self) -> np.ndarray:
        """Return real numbers."""
        assert self.scale is not None
        scale = self.scale.values().astype(np.float32)
        return super().values().astype(np.float32) / (scale if self.arrange is None else self.arrange(scale))


def restore(l: Layer, slot: str, arrange: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
    """Let an int8 layer's ``slot`` be read as real numbers.

    Raises:
        WeightsError: the file has no scale for it.
    """
    array, scale = l.stored(slot), l.stored(f"{slot}_scale")
    if array is None or isinstance(array, Dequantized) or not is_int8(l.spec):
        return
    if scale is None:
        raise WeightsError(f"{slot} is quantized, its scale is missing", layer=l.path, file=array.path)
    l.facts.arrays[l.prefix + slot] = Dequantized(
        array.place, array.name, array.shape, np.dtype(np.float32), None, scale=scale, arrange=arrange
    )
    l.note("folded", f"int8 {slot} divided by its scale: real numbers, four times as large")


def rounded(b: Builder, l: Layer, x: KT, axes: Sequence[int]) -> KT:
    """Round the inputs of an int8 layer to 255 steps of the largest size along Keras's ``axes``, as it does.

    Raises:
        UnsupportedOption: another quantizer than AbsMaxQuantizer.
    """
    given = l.config.take("quantization_config", None)
    if not is_int8(l.spec):
        return x
    low, high, epsilon = -127.0, 127.0, 1e-7
    if isinstance(given, dict):
        quantizer = given.get("config", {}).get("activation_quantizer")
        if quantizer is None:
            return x
        if not isinstance(quantizer, dict) or quantizer.get("class_name") != "AbsMaxQuantizer":
            raise UnsupportedOption("an activation_quantizer other than AbsMaxQuantizer", layer=l.path)
        settings = quantizer.get("config", {})
        low, high = (float(v) for v in settings.get("value_range", (low, high)))
        epsilon = float(settings.get("epsilon", epsilon))
    places = b.const(sorted(x.axis(a) for a in axes), "axes")
    most = b.op("ReduceMax", b.op("Abs", x.value), places, keepdims=1)
    scale = b.op("Div", b.const(high, "steps"), b.op("Add", most, b.const(epsilon, "epsilon")))
    steps = b.op("Round", b.op("Mul", x.value, scale))
    return x.like(b.op("Div", b.op("Clip", steps, b.const(low, "low"), b.const(high, "high")), scale))
