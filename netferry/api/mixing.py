"""``--precision``: half precision within a gate; where all of it is too far off, measured layers stay in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from netferry.api.made_pictures import scale_of_pixels
from netferry.api.rerun import Rerun, multiply_adds_of
from netferry.errors import CheckFailed, UsageError, quoted
from netferry.schemas.model import Model, Note

if TYPE_CHECKING:
    from netferry.converters.passes.precision_mix import Mix, Part
    from netferry.converters.passes.precision_report import PrecisionReport

GATE = {"fp16": 2e-3, "bf16": 2e-2}
"""largest difference allowed by default, over the largest value; bfloat16 has three bits less"""
_MARGINS = (0.5, 0.75, 1.0)
"""the search aims this far below the gate, as other inputs come later; less far where that cannot be had"""
_WORK = 2e11
"""multiply-adds that the ranking may take"""
_REFERENCE_WORK = 1e7
"""multiply-adds of a run up to which onnx.reference may do the hundred runs of a search"""
_GROUPS = (8, 48)
_MOST_BYTES = 1.2e9
"""of float32 and half weights together: what a graph in one piece (2 GB) can hold"""


def to_half(
    model: Model,
    precision: str,
    rerun: Rerun | None,
    *,
    half_io: bool = False,
    keep_layers: Sequence[str] = (),
    max_error: float | None = None,
) -> PrecisionReport:
    """Turn a model to half precision, in place; layers stay in float32 where the gate needs that.

    Args:
        rerun: runs the model before and after; None leaves the gate out.
        half_io, keep_layers, max_error: see :func:`netferry.api.convert`.

    Raises:
        CheckFailed: no mix of precisions stays within the gate.
        UsageError: no such precision, or an option out of its range.
    """
    if precision not in GATE:
        raise UsageError(f"precision is fp16 or bf16, not {quoted(precision)}")
    gate = GATE[precision] if max_error is None else max_error
    if not gate > 0:
        raise UsageError(f"the largest error allowed is above 0, not {max_error}")
    search = _Search(model, precision, rerun, not half_io, tuple(keep_layers), gate)
    made, report = search.run()
    model.ir = made.ir
    return report


class _Search:
    def __init__(
        self, model: Model, precision: str, rerun: Rerun | None, keep_io: bool, keep: tuple[str, ...], gate: float
    ) -> None:
        self.model, self.rerun, self.keep_io, self.keep, self.gate = model, rerun, keep_io, keep, gate
        self.precision: Literal["fp16", "bf16"] = "bf16" if precision == "bf16" else "fp16"

    def run(self) -> tuple[Model, PrecisionReport]:
        made, report = self._turned({})
        if self.rerun is None:
            return made, report
        name, error = self.rerun.half(made, processor=self.precision == "fp16")
        report.gate = {"allowed": self.gate, "error": _finite(error)}
        if error <= self.gate:
            return made, report
        said = f"output {quoted(name)} is off by {error:.2g} of its largest value, {self.gate:g} is allowed"
        why = self._unable(report)
        found = None if why else self._mixed(made, report, error)
        if found is None:
            why = why or "no mix with layers in float32 that leaves a share worth having is near enough"
            hint = (
                "--max-error allows more, --precision bf16 has the range of float32; --check structure does not compare"
            )
            recipes = self.model.preprocessing.items()
            untold = [n for n, r in recipes if not (r.mean or r.scale or r.mean_image is not None)]
            if untold and scale_of_pixels(self.model, untold[0]) is None:
                hint = f"pixels of 0 to 255 were fed to {untold[0]}: --scale and --mean tell of others; {hint}"
            raise CheckFailed(f"in {self.precision} the model disagrees with itself: {said}; {why}", hint=hint)
        return found

    def _turned(self, kept: Mapping[str, str]) -> tuple[Model, PrecisionReport]:
        from netferry.converters.passes.precision import to_precision

        made = self.model.copy()
        asked = dict.fromkeys(self.keep, "asked for")
        return made, to_precision(made, self.precision, keep_io=self.keep_io, keep_layers={**kept, **asked})

    def _unable(self, report: PrecisionReport) -> str | None:
        """Why no mix can be looked for."""
        from netferry.runtime.switched import LEAST_OPSET

        assert self.rerun is not None
        if self.rerun.by_reference and multiply_adds_of(self.model) > _REFERENCE_WORK:
            return "to measure which layers should stay in float32 by onnx.reference would take too long"
        if self.model.opset < LEAST_OPSET:
            return f"which layers should stay in float32 can be measured from opset {LEAST_OPSET} on (--opset)"
        if report.weight_bytes["before"] * 1.5 > _MOST_BYTES:
            return "the model is too large to measure which layers should stay in float32 (--keep-layer names them)"
        return None

    def _mixed(self, made: Model, report: PrecisionReport, before: float) -> tuple[Model, PrecisionReport] | None:
        from netferry.converters.passes.precision_mix import Mixer, parts_of

        assert self.rerun is not None
        parts = parts_of(made, report)
        if len(parts) < 2:
            return None
        number = {name: n for n, part in enumerate(parts) for name in part.layers}
        values = {value: number[layer] for value, layer in report.halves.items() if layer in number}
        measure = self.rerun.switched(made, _arrays(self.model, report.made_of), values, report.inserted)
        mixer = Mixer(parts, measure.alone, _groups(made))
        for margin in _MARGINS:
            mix = mixer.find(measure.apart, margin * self.gate)
            if mix is None:
                continue
            turned, told = self._turned(_reasons(parts, mix))
            _, error = self.rerun.half(turned, processor=self.precision == "fp16")
            if error <= self.gate:
                layers = [name for n in sorted(mix.kept) for name in parts[n].layers]
                told.gate = {"allowed": self.gate, "error": _finite(error), "error_without_float32": _finite(before)}
                told.gate |= {"float32_layers": layers, "runs": mix.runs}
                self.model.notes.append(_note(told, layers, len(number)))
                return turned, told
        return None


def _groups(model: Model) -> int:
    """How many runs the ranking may take."""
    return int(min(_GROUPS[1], max(_GROUPS[0], _WORK / max(1, multiply_adds_of(model)))))


def _reasons(parts: Sequence[Part], mix: Mix) -> dict[str, str]:
    out: dict[str, str] = {}
    for number in sorted(mix.kept):
        cost = mix.costs[number]
        moved = f"its rounding moves the outputs by {cost:.1e}" if np.isfinite(cost) else "it leaves the type's range"
        out.update(dict.fromkeys(parts[number].layers, moved))
    return out


def _note(report: PrecisionReport, layers: Sequence[str], of: int) -> Note:
    gate, sizes = report.gate, report.weight_bytes
    before = "no number" if gate["error_without_float32"] is None else f"{gate['error_without_float32']:.1e}"
    shown = ", ".join(layers[:6]) + (" …" if len(layers) > 6 else "")
    return Note(
        "assumed",
        f"precision {report.precision}: {len(layers)} of {of} layers stay float32, as all in {report.precision} is off "
        f"by {before} of the largest value, now {gate['error']:.1e} ({gate['allowed']:g} allowed): {shown}; "
        f"weights {sizes['before'] / 1e6:.1f} MB became {sizes['after'] / 1e6:.1f} MB",
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _arrays(model: Model, made_of: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Float32 values of initializers and Constants by the name of the half weight that is made of them."""
    from netferry.schemas.tensors import array_of, constant_tensor

    graph = model.graph
    constants = {v.name: v for node in graph if node.op_type == "Constant" for v in node.outputs}
    out: dict[str, np.ndarray] = {}
    for half, name in made_of.items():
        value = graph.initializers.get(name) or constants.get(name)
        array = None if value is None else array_of(constant_tensor(value))
        if array is not None:
            out[half] = array
    return out
