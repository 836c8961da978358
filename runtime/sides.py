"""One side of a comparison: an ONNX model on onnxruntime, or on onnx's reference where that cannot run it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from netferry.errors import CheckFailed, MissingExtra, UsageError, quoted
from netferry.runtime.budget import Budget
from netferry.runtime.session import Port, Session
from netferry.runtime.values import beyond_numpy, element_of, shown
from netferry.runtime.verify import plain


@dataclass(frozen=True)
class Outcome:
    """What one run gave: outputs by name in order, or why there are none; what layers gave, where asked for."""

    outputs: dict[str, np.ndarray]
    error: str | None = None
    taps: dict[str, list[np.ndarray]] = field(default_factory=dict)


class Side(Protocol):
    """Something that runs all cases of a comparison; ``name`` tells who ran them, afterwards."""

    @property
    def name(self) -> str: ...

    def run(self, cases: Sequence[Mapping[str, np.ndarray]], tap: int | None = None) -> list[Outcome]: ...


class OnnxSide:
    """An ONNX model; inputs are fed by name, or by position where the names differ.

    Args:
        model: path of the file, or its bytes.
        weights_folder: where the external weights of a model given as bytes lie.
        taps: names of values that a tapped run gives as well; needs bytes.
        reference: let onnx's reference stand in.
        budget: what one run of onnxruntime may take; any amount by default.

    Raises:
        InputError, MalformedFile: as :class:`netferry.runtime.session.Session`.
        CheckFailed: neither onnxruntime nor onnx's reference takes the model.

    Attributes:
        inputs, outputs: what the model takes and gives.
        why: why onnxruntime does not run it, where the reference does.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        weights_folder: str | os.PathLike[str] | None = None,
        taps: Sequence[str] = (),
        *,
        reference: bool = True,
        budget: Budget | None = None,
    ) -> None:
        self.why: str | None = None
        self._taps = list(taps)
        source = with_outputs(model, taps) if taps and isinstance(model, bytes) else model
        self._runner: Session | Reference
        try:
            self._runner = Session(source, "cpu", weights_folder=weights_folder, once=True, budget=budget)
            self.name = f"onnxruntime {_version('onnxruntime')}"
            if strange := [p for p in (*self._runner.inputs, *self._runner.outputs) if beyond_numpy(p.dtype)]:
                raise CheckFailed(f"onnxruntime's Python passes no {element_of(strange[0].dtype)} ({strange[0]})")
        except (CheckFailed, MissingExtra) as error:
            if not reference:
                raise
            self.why = error.reason
            self._runner = Reference(source, weights_folder, error)
            self.name = f"onnx.reference {_version('onnx')}"
        self.inputs = self._runner.inputs
        self.outputs = tuple(p for p in self._runner.outputs if p.name not in self._taps)

    def run(self, cases: Sequence[Mapping[str, np.ndarray]], tap: int | None = None) -> list[Outcome]:
        """Run all cases; with ``tap`` that case's outcome also holds the values to tap."""
        return [self._one(case, number == tap) for number, case in enumerate(cases)]

    def _one(self, case: Mapping[str, np.ndarray], tap: bool) -> Outcome:
        names = [p.name for p in self.inputs]
        feeds = dict(case) if set(names) == set(case) else dict(zip(names, case.values(), strict=False))
        wanted = [p.name for p in self.outputs] + (self._taps if tap else [])
        try:
            made = self._runner.run(feeds, wanted)
        except (CheckFailed, UsageError) as error:
            fed = ", ".join(f"{quoted(n)} {shown(v)}" for n, v in feeds.items())
            return Outcome({}, error=f"{error.reason}; fed with {fed}")
        taps = {n: [np.asarray(made[n])] for n in self._taps if isinstance(made.get(n), np.ndarray)} if tap else {}
        return Outcome({p.name: plain(made[p.name]) for p in self.outputs}, taps=taps)


class Reference:
    """onnx's reference evaluator with the face of a session."""

    def __init__(
        self, model: str | os.PathLike[str] | bytes, folder: str | os.PathLike[str] | None, cause: Exception
    ) -> None:
        import onnx
        from onnx.external_data_helper import load_external_data_for_model
        from onnx.reference import ReferenceEvaluator

        try:
            if isinstance(model, bytes):
                proto = onnx.ModelProto.FromString(model)
                if folder is not None:
                    load_external_data_for_model(proto, os.fspath(folder))
            else:
                proto = onnx.load(Path(model))
            self._evaluator: Any = ReferenceEvaluator(proto)
        except Exception as error:
            text = quoted(" ".join(str(error).split()), 300)[1:-1]
            raise CheckFailed(f"{cause}; onnx.reference: {text}") from error
        held = {t.name for t in proto.graph.initializer}
        self.inputs = tuple(_port(v) for v in proto.graph.input if v.name not in held)
        self.outputs = tuple(_port(v) for v in proto.graph.output)

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        wanted = [p.name for p in self.outputs] if outputs is None else list(outputs)
        try:
            with np.errstate(all="ignore"):
                made = self._evaluator.run(wanted, dict(feeds))
        except Exception as error:
            text = quoted(" ".join(str(error).split()) or type(error).__name__, 600)[1:-1]
            raise CheckFailed(f"onnx.reference failed while running: {text}") from error
        return dict(zip(wanted, made, strict=True))


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """Return a model that gives further values of its main graph as outputs."""
    import onnx

    proto = onnx.ModelProto.FromString(model)
    types = {v.name: v for v in proto.graph.value_info}
    there = {v.name for v in proto.graph.output}
    for name in names:
        if name not in there:
            proto.graph.output.append(types.get(name) or onnx.ValueInfoProto(name=name))
    return proto.SerializeToString()


def _port(value: Any) -> Port:
    import onnx

    from netferry.schemas.messages import map_text

    held = value.type
    while (kind := held.WhichOneof("value")) in ("sequence_type", "optional_type"):
        held = getattr(held, kind).elem_type
    name = map_text(value.type)
    if value.type.WhichOneof("value") == "tensor_type":
        name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    dims = held.tensor_type.shape.dim
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims)
    return Port(value.name, name, shape)


def _version(package: str) -> str:
    from importlib import metadata

    for name in (package, f"{package}-gpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""
