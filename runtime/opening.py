"""Opening onnxruntime's own session on the device that was asked for, or saying why that cannot be.

For serving: imports onnxruntime, never onnx, onnx_ir nor torch.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from netferry.errors import CheckFailed, InputError, MalformedFile, quoted
from netferry.runtime.devices import diagnose, prepare, provider_for


def open_session(
    ort: ModuleType,
    source: str | bytes,
    asked: tuple[str, int | None],
    options: Any,
    file: str | None,
    *,
    graphs: bool = False,
) -> tuple[Any, str]:
    """Return the session and the device that it is on."""
    kind, index = asked
    cpu = ("CPUExecutionProvider", {})
    recording = {"enable_cuda_graph": "1"} if graphs else {}
    if kind == "auto":
        if "CUDAExecutionProvider" in ort.get_available_providers():
            prepare(ort, "cuda")
            name, settings = provider_for("cuda", None)
            session = _created(ort, source, options, [(name, settings | recording), cpu], file)
            if session.get_providers()[0] == "CUDAExecutionProvider":
                return session, "cuda:0"
        return _created(ort, source, options, [cpu], file), "cpu"
    name, settings = provider_for(kind, index)
    wanted = (name, settings | (recording if kind == "cuda" else {}))
    if kind != "cpu":
        if wanted[0] not in ort.get_available_providers():
            raise diagnose(ort, kind, index)
        prepare(ort, kind)
    try:
        session = _created(ort, source, options, [wanted] if kind == "cpu" else [wanted, cpu], file)
    except CheckFailed as error:
        cannot_record = graphs and "capture" in error.reason  # the device works, the network does not stay on it
        if kind == "cpu" or cannot_record or not _is_device_trouble(error.reason):
            raise
        raise diagnose(ort, kind, index, error.reason) from error
    if session.get_providers()[0] != wanted[0]:
        raise diagnose(ort, kind, index)
    return session, kind if kind != "cuda" else f"cuda:{index or 0}"


def _created(ort: ModuleType, source: str | bytes, options: Any, providers: list[Any], file: str | None) -> Any:
    try:
        return ort.InferenceSession(source, options, providers=providers)
    except Exception as error:
        kind = type(error).__name__
        if kind == "InvalidProtobuf":
            raise MalformedFile("the content is not an ONNX model", file=file) from error
        hint = None if file is None else "netferry convert mends what exporters wrote and onnxruntime does not take"
        if isinstance(error, TypeError):  # its binding takes text alone
            raise InputError("onnxruntime opens no file whose name is not UTF-8", file=file, hint=hint) from error
        raise CheckFailed(f"onnxruntime does not load the model: {said(error)}", file=file, hint=hint) from error


def _is_device_trouble(reason: str) -> bool:
    return any(word in reason for word in ("ExecutionProvider", "CUDA", "cuda", "cudnn", "GPU", "device"))


def said(error: Exception) -> str:
    """onnxruntime's message as one printable line."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return quoted(text, 600)[1:-1]
