"""Devices of onnxruntime: which ones really work, and why an asked-for one does not.

``onnxruntime.get_available_providers()`` names what the wheel was built with, GPU or not. What counts is what
``get_ep_devices()`` finds and, for providers in a library of their own (CUDA, TensorRT), whether a session on a net of
one node ends up on them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import io
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from netferry.errors import DeviceError, MissingExtra, UsageError, quoted

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
}
"""Our names of devices -> onnxruntime's of providers."""
_LIBRARIES = {"cuda": "onnxruntime_providers_cuda", "tensorrt": "onnxruntime_providers_tensorrt"}
_FATAL_ONLY = 4
# Identity on one float, IR 8, opset 13: the smallest net that a provider can be tried on
PROBE = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a"
    "08080112040a02080142040a00100d"
)


@dataclass(frozen=True)
class Device:
    """A device that works. ``name`` is what :class:`netferry.runtime.session.Session` takes."""

    name: str
    provider: str
    details: dict[str, str]


def runtime() -> ModuleType:
    """Import and return onnxruntime, its log silenced below fatal (errors come as exceptions).

    Raises:
        MissingExtra: onnxruntime is not installed, or only leftovers of it are.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "cpu", "running a model") from None
    if not hasattr(onnxruntime, "InferenceSession"):  # the empty folder that uninstalling one of two wheels leaves
        raise MissingExtra("onnxruntime", "cpu", "running a model")
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    return onnxruntime


def wheels() -> dict[str, str]:
    """Return the installed wheels that put files into the package ``onnxruntime``: name -> version."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name == "onnxruntime" or name.startswith("onnxruntime-"):
            if name in ("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools"):
                continue  # packages of their own
            found[name] = distribution.version
    return found


def parse(device: str) -> tuple[str, int | None]:
    """Return (kind, index) of a device name like ``cpu``, ``cuda`` or ``cuda:1``; the index is None where not given.

    Raises:
        UsageError: no such kind of device, or no index.
    """
    kind, colon, index = device.strip().lower().partition(":")
    kind = {"gpu": "cuda", "dml": "directml"}.get(kind, kind)
    if kind not in (*PROVIDERS, "auto") or (colon and not (index.isdecimal() and len(index) < 4)):
        raise UsageError(
            f"device {quoted(device)} is not known (auto, {', '.join(PROVIDERS)}; a number picks one: cuda:1)"
        )
    if colon and kind in ("auto", "cpu"):
        raise UsageError(f"device {quoted(device)}: {kind} takes no number")
    return kind, int(index) if colon else None


def provider_for(kind: str, index: int | None) -> tuple[str, dict[str, str]]:
    """Return onnxruntime's provider with its options."""
    options: dict[str, str] = {}
    if kind == "openvino":
        options["device_type"] = "CPU" if index is None else f"GPU.{index}"
    elif index is not None:
        options["device_id"] = str(index)
    return PROVIDERS[kind], options


def prepare(ort: ModuleType, kind: str) -> None:
    """Load the CUDA and cuDNN libraries that pip installed, where the device needs them; talk goes nowhere."""
    preload = getattr(ort, "preload_dlls", None)
    if kind in _LIBRARIES and preload is not None:
        # it prints its failures to stdout, where our data goes; diagnose() finds them again
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            preload()


def devices() -> list[Device]:
    """Return the devices that work here, each tried; the processor is always among them.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    ort = runtime()
    found: dict[str, Device] = {}
    for item in getattr(ort, "get_ep_devices", list)():
        kind = next((k for k, v in PROVIDERS.items() if v == item.ep_name), None)
        if kind is not None and kind not in found:
            details = {"vendor": str(item.ep_vendor), **{str(k): str(v) for k, v in dict(item.ep_metadata).items()}}
            found[kind] = Device(kind, item.ep_name, details)
    for kind in (k for k in PROVIDERS if k not in found and PROVIDERS[k] in ort.get_available_providers()):
        if kind == "cpu" or works(ort, kind):
            found[kind] = Device(kind, PROVIDERS[kind], {})
    return list(found.values())


def works(ort: ModuleType, kind: str, index: int | None = None) -> bool:
    """Whether a session on a net of one node ends up on the device."""
    prepare(ort, kind)
    options: Any = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    provider = provider_for(kind, index)
    try:
        session = ort.InferenceSession(PROBE, options, providers=[provider])
        return session.get_providers()[0] == provider[0]
    except Exception:  # whatever it is, the device does not work
        return False


def diagnose(ort: ModuleType, kind: str, index: int | None, detail: str = "") -> DeviceError:
    """Return the error that says why ``kind`` cannot be used, with the fix."""
    asked = kind if index is None else f"{kind}:{index}"
    installed = wheels()
    shown = ", ".join(f"{n} {v}" for n, v in sorted(installed.items())) or f"onnxruntime {ort.__version__}"
    if len(installed) > 1:
        return DeviceError(
            f"device {asked} cannot be used: {shown} are installed over one another",
            hint=f"pip uninstall -y {' '.join(sorted(installed))} && pip install 'netferry[gpu]'",
        )
    if PROVIDERS[kind] not in ort.get_available_providers():
        extra = "gpu" if kind in ("cuda", "tensorrt") else None
        fix = "pip uninstall -y onnxruntime && pip install 'netferry[gpu]'" if extra else _other_wheel(kind)
        return DeviceError(f"device {asked} cannot be used: {shown} is built without {PROVIDERS[kind]}", hint=fix)
    cause = _library_problem(ort, kind)
    if cause is None and kind in _LIBRARIES:
        cause = driver_problem()
    cause = cause or (quoted(detail, 600)[1:-1] if detail else "onnxruntime fell back to the processor")
    cuda = getattr(ort, "cuda_version", "") or ""
    needs = f"; this build needs CUDA {cuda.split('.')[0]} and cuDNN 9" if kind in _LIBRARIES and cuda else ""
    return DeviceError(
        f"device {asked} cannot be used: {cause}{needs}",
        hint="pip install 'netferry[gpu]' brings CUDA and cuDNN; `netferry doctor` shows all; or use --device cpu",
    )


def _other_wheel(kind: str) -> str:
    wheel = {"openvino": "onnxruntime-openvino", "directml": "onnxruntime-directml", "rocm": "onnxruntime-rocm"}
    name = wheel.get(kind)
    return f"pip uninstall -y onnxruntime && pip install {name}" if name else "use --device cpu"


def _library_problem(ort: ModuleType, kind: str) -> str | None:
    """Load the provider's library as onnxruntime does; the loader names what is missing."""
    stem = _LIBRARIES.get(kind)
    if stem is None or ort.__file__ is None:
        return None
    folder = Path(ort.__file__).parent / "capi"
    shared = "onnxruntime_providers_shared"
    for name in (shared, stem):
        path = folder / (f"{name}.dll" if sys.platform == "win32" else f"lib{name}.so")
        if not path.exists():
            return f"{path.name} is missing from {folder}" if name == stem else None
        try:
            ctypes.CDLL(os.fspath(path), mode=getattr(ctypes, "RTLD_GLOBAL", 0))
        except OSError as error:
            return quoted(str(error), 400)[1:-1]
    return None


def driver_problem() -> str | None:
    """Ask the NVIDIA driver for its devices; returns what is wrong, or None where it has one."""
    name = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"no NVIDIA driver on this machine ({name} is not there)"
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return f"the NVIDIA driver answers with error {code}"
    return None if count.value else "the NVIDIA driver finds no GPU"
