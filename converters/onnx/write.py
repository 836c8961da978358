"""Models to ONNX files: checked before they appear, weights streamed, all or nothing, same input same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import onnx

from netferry.converters.onnx.check import SOURCE_FAULT, check_names, check_structure, refuse_placeholders
from netferry.converters.onnx.in_place import in_place, refuse_unequal
from netferry.converters.onnx.publish import Scratch, data_name, locked
from netferry.converters.onnx.stream import Sink
from netferry.converters.onnx.structure import Structure, point, structure_of
from netferry.converters.onnx.versions import choose_ir_version
from netferry.converters.onnx.wire import OnnxFile, length_of, with_gaps
from netferry.converters.options import Limits
from netferry.errors import CheckFailed, NetferryError, OutputError
from netferry.schemas.ir import ir
from netferry.schemas.metadata import all_graphs
from netferry.schemas.model import Model, Note
from netferry.schemas.publish import announce, keep_sources, replaceable

EXTERNAL_ABOVE = 1_800_000_000
"""bytes of a file above which its weights go to a second file by themselves"""
_PROTOBUF_LIMIT = 2**31 - 1
_PAGE = 4096
_LARGE = 32 << 20
"""bytes of a file above which the run check maps its weights instead of loading it whole"""


def write(
    model: Model,
    target: Path,
    *,
    ir_version: int | None = None,
    external: Literal["auto"] | bool = "auto",
    run_check: Callable[..., dict[str, Any]] | None = None,
    gate: Callable[..., Any] | None = None,
    allow_placeholders: bool = False,
    producer_version: str,
) -> dict[str, Any]:
    """Write ``model``, at the opset that it has, to ``target``; missing folders are made.

    Args:
        model: the model; its graph is as before when this returns.
        target: the file; one that is there is replaced, unless the model still reads from it.
        ir_version: the lowest that carries the content by default.
        external: weights in ``<target>.data``; "auto" where the file would pass 1.8 GB.
        run_check: called with the finished file before it takes its place (a large one's structure as bytes and
            ``weights_folder``); raises where the file is no good. Where a large model's weights lie whole in its
            source, it is called on them there, while they are being copied, and what was written is then compared.
        gate: called as ``run_check`` is, always with what was written, after it; for its errors alone.
        allow_placeholders: write layers nobody could read.
        producer_version: netferry's version.

    Returns:
        ``outputs`` (file, bytes), ``checks`` (name, outcome, detail), ``timings`` in seconds, ``opset``,
        ``ir_version``.

    Raises:
        Uninitialised, UnsupportedLayer, UsageError: the model cannot be written as asked.
        CheckFailed: the result would not be valid.
        OutputError: it cannot be written there (a folder, a source, no space, no permission).
        MalformedFile: a file that weights come from became shorter.
    """
    target = replaceable(target)
    _refuse(target, model)
    model.require_values()
    refuse_placeholders(model, allowed=allow_placeholders)
    check_names(model)
    version = choose_ir_version(model.ir, ir_version)
    started = time.perf_counter()
    structure = structure_of(model, ir_version=version, producer_version=producer_version)
    outside = _outside(structure, external)
    result: dict[str, Any] = {"outputs": [], "checks": [], "timings": {}, "opset": model.opset, "ir_version": version}
    try:
        with Scratch(target.parent) as scratch:
            scratch.path(structure.token)
            # only where the file is also loaded and run does a source's own fault pass
            source = (lambda: None) if run_check is None else (lambda: _source_structure(model, structure.token))
            left_out = check_structure(structure, scratch.folder, source)
            result["checks"].append(_check("structure", f"left out: {left_out}" if left_out else None))
            checked = time.perf_counter()
            job = _Job(model, structure, target, scratch, run_check, gate, result)
            job.source_fault = left_out if left_out and SOURCE_FAULT in left_out else None
            if outside:
                job.two_files()
            else:
                job.one_file()
    except NetferryError as error:
        raise error.at(file=target) from None
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", file=target) from error
    result["timings"]["structure"] = round(checked - started, 6)
    return result


class _Job:
    """One write: what its steps share."""

    def __init__(
        self,
        model: Model,
        structure: Structure,
        target: Path,
        scratch: Scratch,
        run_check: Callable[..., dict[str, Any]] | None,
        gate: Callable[..., Any] | None,
        result: dict[str, Any],
    ) -> None:
        self.model, self.structure, self.target, self.scratch = model, structure, target, scratch
        self.run_check, self.gate, self.result = run_check, gate, result
        self.source_fault: str | None = None
        """what shape inference has against the file that the model came from"""

    def one_file(self) -> None:
        """Everything in the target."""
        large = sum(self.structure.sizes) > _LARGE
        here = in_place(self.structure) if large and self.run_check is not None else None
        if here is None:
            with self.scratch.synced(self._write_timed()) as file:
                self._run(file)
        else:
            with ThreadPoolExecutor(1) as pool:  # copying takes one processor, the runs have the others
                running = pool.submit(self._run, here.structure, here.folder)
                with self.scratch.synced(self._write_timed()) as file:
                    refuse_unequal(file, here)
                    try:
                        running.result()
                    except NetferryError:  # the fault may lie in the place
                        self._run(file)
        self._finish(file)

    def _write_timed(self) -> Path:
        started = time.perf_counter()
        file = self._write_model(self.structure.proto)
        self.result["timings"]["write"] = round(time.perf_counter() - started, 6)
        return file

    def two_files(self) -> None:
        """The weights in a second file, which is in its place before the model that names it."""
        started = time.perf_counter()
        data = self.scratch.path()
        offsets = self._write_data(data)
        with self.scratch.synced(data):
            pass
        with locked(self.target.parent):
            name, there = data_name(self.target, data)
            place = self.target.parent / name
            done = False
            try:
                if not there:
                    announce(place)
                    self.scratch.move(data, place, last=False)
                file = self._write_model(_pointing(self.structure, name, offsets))
                self.result["timings"]["write"] = round(time.perf_counter() - started, 6)
                with self.scratch.synced(file):
                    self._run(file)
                self._finish(file)
                announce(place, done=True)
                done = True
            finally:
                if not done and not there:
                    place.unlink(missing_ok=True)
        if name != f"{self.target.name}.data":
            message = f"{self.target.name}.data holds other weights and stays; these are in {name}"
            self.model.notes.append(Note("warning", message))
        self.result["outputs"].append({"file": str(place), "bytes": place.stat().st_size})

    def _write_model(self, proto: onnx.ModelProto) -> Path:
        structure = self.structure
        pieces = with_gaps(proto.SerializeToString(), structure.token, structure.sizes)
        file = self.scratch.path()
        with self.scratch.writing(file) as fd:
            sink = Sink(fd)
            try:
                sink.reserve(length_of(pieces))
                sink.pieces(pieces, structure.tensors)
                sink.flush()
            finally:
                sink.close()
        return file

    def _write_data(self, file: Path) -> list[int]:
        offsets: list[int] = []
        with self.scratch.writing(file) as fd:
            sink = Sink(fd)
            try:
                for tensor in self.structure.tensors[: self.structure.initializers]:
                    sink.align(_PAGE)
                    offsets.append(sink.written)
                    sink.tensor(tensor)
                sink.flush()
            finally:
                sink.close()
        return offsets

    def _run(self, model: Path | bytes, weights_folder: Path | None = None) -> None:
        if self.run_check is None:
            self.result["checks"].append({"name": "run", "outcome": "skipped"})
            return
        started = time.perf_counter()
        found = self._called(self.run_check, model, weights_folder)
        if self.source_fault is not None and not (found or {}).get("runs"):
            # what neither the check nor the runtime takes is no network, whoever wrote it
            raise CheckFailed(f"not valid ONNX: {self.source_fault}; onnxruntime does not run it either")
        self.result["timings"]["run_check"] = round(time.perf_counter() - started, 6)
        self.result["checks"].append({**_check("run", None), **({"detail": found} if found else {})})

    def _called(self, check: Callable[..., Any], model: Path | bytes, weights_folder: Path | None = None) -> Any:
        """Call a check without a copy of a large file in memory: its structure is read back, its weights stay in it.

        onnxruntime parses and copies a whole message before it starts; here it gets the structure alone and maps the
        weights at their places in the very file that is checked.
        """
        file = model if isinstance(model, Path) else None
        if isinstance(model, Path) and model.stat().st_size > _LARGE:
            with OnnxFile(model, Limits()) as written:
                model, weights_folder = written.structure(model.name), model.parent
        try:
            return check(model) if weights_folder is None else check(model, weights_folder=weights_folder)
        except NetferryError as error:
            if error.file is not None and file is not None and Path(error.file) == file:
                error.file = str(self.target)  # the user knows that name
            raise

    def _finish(self, file: Path) -> None:
        """Put the file in its place, where the gate lets it pass."""
        if self.gate is not None:
            self._called(self.gate, file)
        size = file.stat().st_size
        self.scratch.move(file, self.target)
        self.result["outputs"].append({"file": str(self.target), "bytes": size})


def _check(name: str, detail: str | None) -> dict[str, Any]:
    return {"name": name, "outcome": "passed"} | ({} if detail is None else {"detail": detail})


def _outside(structure: Structure, external: Literal["auto"] | bool) -> bool:
    """Whether initializers go to a second file.

    Raises:
        OutputError: the file would be larger than protobuf can read.
    """
    pieces = with_gaps(structure.proto.SerializeToString(), structure.token, structure.sizes)
    inside = length_of(pieces)
    outside = bool(structure.initializers) and (inside > EXTERNAL_ABOVE if external == "auto" else external)
    size = inside - sum(structure.sizes[: structure.initializers]) if outside else inside
    if size > _PROTOBUF_LIMIT:
        raise OutputError(
            f"the file would have {size} bytes, protobuf reads {_PROTOBUF_LIMIT}",
            hint=None if outside else "--external-data puts the weights into a second file",
        )
    return outside


def _pointing(structure: Structure, name: str, offsets: list[int]) -> onnx.ModelProto:
    """The message with its initializers left out pointing into the file ``name``."""
    proto, left_out = structure.copied()
    sizes = structure.sizes
    for tensor, index in left_out:
        point(tensor, name, offsets[index], sizes[index])
    return proto


def _source_structure(model: Model, token: str) -> bytes | None:
    """The structure of the ONNX file that the model was read from, None where there is none."""
    if model.source.format != "onnx" or not model.source.files:
        return None
    try:
        with OnnxFile(Path(model.source.files[0]), Limits()) as file:
            return file.structure(token)
    except (NetferryError, OSError):
        return None


def _refuse(target: Path, model: Model) -> None:
    read = {*model.source.files}
    for graph in all_graphs(model.ir):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                read.add(value.const_value.path)
    keep_sources(target, *read)
