"""Who runs a source of another format in a comparison: its own framework in a child process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netferry.errors import UsageError
from netferry.runtime.frameworks.child import Framework
from netferry.runtime.sides import OnnxSide, Side

if TYPE_CHECKING:
    from netferry.schemas.model import Model


def judge_of(
    kind: str,
    source: Sequence[Path],
    model: Model | None,
    candidate: OnnxSide,
    *,
    inputs_as_nchw: Sequence[str] = (),
    python: str | None = None,
    seconds: float = 600,
) -> Side:
    """Return what runs a source.

    Args:
        kind: the source's format, not ONNX.
        source: its files.
        model: the source as netferry reads it (None for TensorFlow).
        candidate: the ONNX model that it is compared with.
        inputs_as_nchw: inputs that the conversion made channels-first.
        python: the interpreter that has the framework.
        seconds: what a run there may take.

    Raises:
        UsageError: a file is missing, or nothing is known that runs the format.
    """
    files = [str(f.absolute()) for f in source]
    if kind == "tensorflow":
        return Framework("tensorflow", _tensorflow(files[0], candidate), python, seconds)
    assert model is not None
    if kind == "keras":
        from netferry.converters.keras.folder import files_of, is_keras_folder

        folder = Path(files[0])
        files = [str(f) for f in files_of(folder)] if is_keras_folder(folder) else files
        generation = int(model.source.details.get("generation", 2))
        request = {"files": files, "generation": generation, "inputs_as_nchw": list(inputs_as_nchw)}
        return Framework("keras", request, python, seconds)
    if kind == "caffe":
        return Framework("opencv", _caffe(files, model), python, seconds)
    if kind == "darknet":
        return Framework("darknet", _darknet(files, model, candidate), python, seconds)
    raise UsageError(f"no framework is known that runs a source of format {kind}", file=files[0])


def _caffe(files: list[str], model: Model) -> dict[str, object]:
    if len(files) != 2:
        raise UsageError("OpenCV needs the prototxt and the caffemodel", file=files[0], hint="--weights")
    from netferry.converters.caffe.read import is_text

    files.sort(key=lambda f: not is_text(Path(f)))
    rows = {v.name: row.name for row in model.layers for v in row.outputs}
    outputs = [info.name for info in model.outputs]
    return {"files": files, "outputs": outputs, "layers": [rows.get(name, name) for name in outputs]}


def _darknet(files: list[str], model: Model, candidate: OnnxSide) -> dict[str, object]:
    if len(files) != 2:
        raise UsageError("OpenCV needs the cfg and its weights", file=files[0], hint="--weights")
    if "boxes" in {port.name for port in candidate.outputs}:
        hint = "verify the network converted without --decode-boxes"
        raise UsageError("OpenCV gives what the detection heads give, not boxes", file=files[0], hint=hint)
    return {"files": list(model.source.files), "outputs": [info.name for info in model.outputs]}


def _tensorflow(file: str, candidate: OnnxSide) -> dict[str, object]:
    from netferry.converters.tensorflow.files import kind_of
    from netferry.schemas.opening import open_regular

    path = Path(file)
    if path.name == "saved_model.pb":
        path = path.parent
    head = b""
    if not path.is_dir():
        with open_regular(path) as opened:
            head = opened.read(4096)
    return {"files": [str(path)], "kind": kind_of(head, path), "outputs": [p.name for p in candidate.outputs]}
