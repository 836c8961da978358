"""``convert``: a file of any format as a checked ONNX file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.api.opsets import at_opset
from netferry.api.reading import StrPath, load
from netferry.api.remote import Transfers
from netferry.api.saving import save
from netferry.errors import UsageError
from netferry.schemas.publish import write_whole


def convert(
    source: StrPath,
    target: StrPath,
    weights: StrPath | None = None,
    *,
    report: StrPath | None = None,
    opset: int | None = None,
    ir_version: int | None = None,
    external_data: bool | None = None,
    check: str = "auto",
    allow_placeholders: bool = False,
    optimize: str = "none",
    precision: str | None = None,
    half_io: bool = False,
    keep_layers: Sequence[str] = (),
    max_error: float | None = None,
    disable: Sequence[str] = (),
    verify: bool = False,
    embed_preprocessing: bool = False,
    progress: Callable[[int], None] | None = None,
    sandbox: bool = False,
    **reading: Any,
) -> dict[str, Any]:
    """Read ``source`` (see :func:`load` for the further options) and write it as ONNX (see :func:`save`).

    Args:
        optimize: ``safe`` or ``full`` makes the graph smaller; checked by runs before and after.
        precision: ``fp16`` or ``bf16``, checked by a run before and after with every rounding.
        half_io: with ``precision``, inputs and outputs too; they stay float32 by default.
        keep_layers: with ``precision``, layers, or operators by type, that stay float32.
        max_error: with ``precision``, the largest difference allowed, over an output's largest value (fp16: 0.002;
            bf16: 0.02); where all in half precision is further off, layers stay in float32, found by measuring.
        disable: passes to leave out.
        report: write the machine-readable conversion report here.
        verify: run the source in its own framework too and write nothing where the results differ; the error names
            the first diverging layer (see :func:`verify`).
        embed_preprocessing: the picture input takes decoded pictures (uint8, N x H x W x C, RGB or grey); the graph
            resizes and normalises them.
        progress: called with the number of runs done, while it is measured which layers stay in float32.
        sandbox: do it in a confined child process, so that a crash of a native library is an error here (``progress``
            is not called then).

    ``source``, ``weights``, ``target``, ``report``, ``labels``, ``mean_file`` and ``postprocess`` may be URLs (s3, gs,
    http, file).

    Returns:
        The report (schemas/report.schema.json); the sources' hashes are computed only where ``report`` is given.
    """
    if sandbox:
        from netferry.api import confined

        given = {k: v for k, v in locals().items() if k not in ("sandbox", "progress", "reading", "confined")}
        return confined.call("convert", given | reading)
    with Transfers() as files:
        reading = files.options(reading)
        kept, place = files.output(report), files.output(target)
        document = converted(
            files.input(source), place, files.input(weights), report=kept, opset=opset, ir_version=ir_version,
            external_data=external_data, check=check, allow_placeholders=allow_placeholders, optimize=optimize,
            precision=precision, half_io=half_io, keep_layers=keep_layers, max_error=max_error,
            disable=disable, verify=verify,
            embed_preprocessing=embed_preprocessing, progress=progress,
            reading=reading,
        )  # fmt: skip
        local, document = document, files.named(document)
        if kept is not None and document is not local:
            write_whole(kept, json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n")
    return document


def converted(
    source: StrPath,
    target: StrPath,
    weights: StrPath | None,
    *,
    reading: Mapping[str, Any],
    report: StrPath | None = None,
    opset: int | None = None,
    ir_version: int | None = None,
    external_data: bool | None = None,
    check: str = "auto",
    allow_placeholders: bool = False,
    optimize: str = "none",
    precision: str | None = None,
    half_io: bool = False,
    keep_layers: Sequence[str] = (),
    max_error: float | None = None,
    disable: Sequence[str] = (),
    verify: bool = False,
    embed_preprocessing: bool = False,
    progress: Callable[[int], None] | None = None,
    gates: Sequence[Callable[..., Any]] = (),
) -> dict[str, Any]:
    """The work of :func:`convert`, on local files.

    Args:
        gates: called as ``before_publishing`` of :func:`save` is, one after the other.
    """
    from netferry import __version__
    from netferry.api.changing import change
    from netferry.schemas.publish import keep_sources, replaceable
    from netferry.schemas.report import Report

    started = time.perf_counter()
    if report is not None:
        replaceable(report)  # before anything is written
    beside = [reading.get(name) for name in ("labels", "mean_file", "postprocess")]
    keep_sources(target, weights, *beside)
    keep_sources(report, source, weights, *beside)
    if verify and any(reading.get(name) is not None for name in ("front_end", "postprocess")):
        raise UsageError(
            "with a front end or postprocessing, inputs and outputs are not the source's: nothing can be verified",
            hint="verify the network converted without them",
        )
    model = load(source, weights, **reading)
    read = time.perf_counter()
    options = {
        "optimize": optimize,
        "precision": precision,
        "opset": opset,
        "ir_version": ir_version,
        "external_data": external_data,
        "check": check,
    }
    if optimize != "none" or precision is not None:
        at_opset(model, opset)
    changed = change(
        model,
        lambda m, path: save(m, path, check="structure"),
        optimize=optimize,
        precision=precision,
        half_io=half_io,
        keep_layers=keep_layers,
        max_error=max_error,
        disable=disable,
        progress=progress,
        check=check != "structure",
        limits=reading.get("limits"),
    )
    if embed_preprocessing:
        from netferry.converters.passes.embed import embed_preprocessing as embed

        options["embed_preprocessing"] = True
        if verify:
            raise UsageError("with the preprocessing embedded the inputs are not the source's: nothing can be verified")
        model.notes.append(embed(model))
    found: list[dict[str, Any]] = []
    gates = list(gates)
    if verify:
        from netferry.api.verification import verifier_of

        options["verify"] = True
        if check == "structure":
            raise UsageError("verify runs the result, check=structure does not")
        gates.insert(0, verifier_of([Path(f) for f in (source, weights) if f is not None], model, reading, found))
    # onnxruntime's processor has no kernels in bfloat16; the run with all roundings has compared it already
    unrunnable = precision == "bf16" and check == "auto"
    written = save(
        model,
        target,
        opset=opset,
        ir_version=ir_version,
        external_data=external_data,
        check="structure" if unrunnable else check,
        allow_placeholders=allow_placeholders,
        before_publishing=_all_of(gates),
        limits=reading.get("limits"),
    )
    document = Report(model, netferry_version=__version__, options=options | _plain(reading))
    document.timing("read", read - started)
    document.written(written)
    if unrunnable:
        document.check("run", "skipped", "onnxruntime runs no bfloat16 on processors; compared with every rounding")
    document.changed(changed)
    for detail in found:
        document.check("verify", "passed", detail)
    return document.finish(report)


def _all_of(gates: Sequence[Callable[..., Any]]) -> Callable[..., Any] | None:
    def passed(file: Any, **where: Any) -> None:
        for gate in gates:
            gate(file, **where)

    return passed if gates else None


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON can say them; unset ones left out."""
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if value in (None, False, (), [], {}):
            continue
        plain[name] = value.as_dict() if hasattr(value, "as_dict") else value if _is_json(value) else str(value)
    return plain


def _is_json(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_json(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    return value is None or isinstance(value, (str, int, float, bool))
