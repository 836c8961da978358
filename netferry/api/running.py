"""``run``: a step of a pipeline, described by a file: convert, check, write, package, report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from netferry.api.converting import converted
from netferry.api.packaging import package
from netferry.api.reading import StrPath, load
from netferry.api.remote import Transfers
from netferry.errors import CheckFailed, NetferryError
from netferry.schemas.publish import keep_sources, temporary_folder, write_whole
from netferry.schemas.remote import is_url, plain_name
from netferry.schemas.remote import shown as url_shown

REPORT_VERSION = 1


def run(
    step: StrPath,
    *,
    changes: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    report: StrPath | None = None,
    validate: bool = False,
) -> dict[str, Any]:
    """Carry out a step file (schemas/step.schema.json): source, options, checks, outputs, package.

    An output appears only after all checks passed. Paths in the file are relative to its folder; any may be a URL.

    Args:
        step: the YAML file.
        changes: values for places in the document (``{"options.opset": "17"}``), as YAML.
        environment: what ``${NAME}`` means; the process's environment by default.
        report: write the report here, instead of where the file says.
        validate: read and check the file only.

    Returns:
        The report: ``step``, ``status`` (done, valid), ``document``, ``conversion``, ``accuracy``, ``packages``,
        ``seconds``. Where the step fails the report is written too, with ``error``, before the error is raised.

    Raises:
        NetferryError: the step file is wrong, or a verb failed.
    """
    from netferry.schemas.step import read_step

    started = time.time()
    with Transfers() as files:
        path = Path(files.input(step))
        document = read_step(path, os.environ if environment is None else environment, changes)
    folder = Path() if is_url(step) else path.parent
    found: dict[str, Any] = {
        "report_version": REPORT_VERSION,
        "step": str(step),
        "name": document.get("name") or path.stem,
        "status": "valid",
        "document": _without_secrets(document),
    }
    if validate:
        return found
    place = report if report is not None else _placed(folder, document.get("outputs", {}).get("report"))
    for written in (place, _placed(folder, document.get("outputs", {}).get("model"))):
        keep_sources(written, step)
    try:
        _carried_out(document, folder, found)
        found["status"] = "done"
    except NetferryError as error:
        found |= {"status": "failed", "error": error.as_dict()}
        raise
    except BaseException as error:
        found |= {"status": "failed", "error": {"error": type(error).__name__, "exit_code": 1}}
        raise
    finally:
        found["seconds"] = round(time.time() - started, 3)
        if place is not None:
            with Transfers() as files:
                write_whole(files.output(place), json.dumps(found, indent=2, default=str) + "\n")
    return found


def _without_secrets(document: Any) -> Any:
    """The document with URLs as they may be shown."""
    if isinstance(document, dict):
        return {key: _without_secrets(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_without_secrets(value) for value in document]
    return url_shown(document) if is_url(document) else document


def _placed(folder: Path, location: Any) -> Any:
    """A path of the step file, which is relative to its folder; URLs and lists as they are."""
    if not isinstance(location, str) or is_url(location):
        return location
    return folder / location


def _carried_out(document: Mapping[str, Any], folder: Path, found: dict[str, Any]) -> None:
    source = document["source"]
    source = {"file": source} if isinstance(source, str) else source
    options, checks = dict(document.get("options", {})), document.get("checks", {})
    reading = {name: options.pop(name) for name in list(options) if name in _READING}
    reading |= {
        name: _placed(folder, source[name])
        for name in ("format", "labels", "mean_file", "postprocess")
        if name in source
    }
    if "format" in source:
        reading["format"] = source["format"]
    if "preprocessing" in options:
        reading["recipe"] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.pop("preprocessing").items()}
    if reading.get("batch") == "dynamic":
        del reading["batch"]
    asked = checks.get("run", "auto")
    options["check"] = "auto" if asked == "auto" else "run" if asked else "structure"
    target = _placed(folder, document.get("outputs", {}).get("model"))
    packages = document.get("package", [])
    with Transfers() as files, temporary_folder() as scratch:
        reading = files.options(reading)
        given, weights = _placed(folder, source["file"]), _placed(folder, source.get("weights"))
        if target is None:
            place: Any = scratch / f"{_stem(given)}.onnx"
        else:
            place = files.output(target)
        gates = []
        if "accuracy" in checks:
            gates.append(_accuracy_gate(checks["accuracy"], folder, files, found))
        conversion = converted(
            files.input(given), place, files.input(weights),
            verify=checks.get("verify", False), gates=gates, reading=reading, **options,
        )  # fmt: skip
        found["conversion"] = files.named(conversion)
        if packages:
            model = load(place, format="onnx")
            found["packages"] = []
            for one in [packages] if isinstance(packages, dict) else packages:
                named = {"name": one.get("name") or _stem(target if target is not None else given)}
                wanted: dict[str, Any] = {k: v for k, v in one.items() if k != "out"} | named
                found["packages"].append(package(model, _placed(folder, one["out"]), check="structure", **wanted))


_READING = (
    "batch", "input_shapes", "init", "skip_missing", "stages", "level", "inputs_as_nchw", "outputs_as_nchw",
    "right_padded_masks", "front_end", "decode_boxes", "score_threshold", "overlap", "limits",
)  # fmt: skip


def _stem(location: Any) -> str:
    from netferry.converters.serving.contents import model_name

    return model_name(None, plain_name(location).stem)


def _accuracy_gate(
    wanted: Mapping[str, Any], folder: Path, files: Transfers, found: dict[str, Any]
) -> Callable[..., None]:
    """Return what classifies labelled pictures with the finished file and refuses it below the bound."""
    from netferry.runtime.data import open_data
    from netferry.runtime.evaluate import evaluate
    from netferry.runtime.session import Session

    data = open_data(files.inputs(_placed(folder, wanted["data"])))
    top = wanted.get("top", 1)

    def gate(file: Path | bytes, *, weights_folder: Path | None = None) -> None:
        session = Session(file, wanted.get("device", "auto"), weights_folder=weights_folder)
        result = evaluate(session, data, batch=wanted.get("batch_size", 16), tops=(top,))
        reached = result.top[top]
        found["accuracy"] = {"top": top, "value": reached, "at_least": wanted["at_least"], "items": result.count}
        if reached < wanted["at_least"]:
            raise CheckFailed(
                f"top-{top} accuracy on {wanted['data']} is {reached:.4f}, the step asks for {wanted['at_least']}",
                hint="nothing was written",
            )

    return gate
