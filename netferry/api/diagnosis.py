"""``netferry doctor``: what is installed and usable, and the fix for what is not."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from netferry import __version__

_CORE = ("numpy", "onnx", "onnx-ir", "onnxscript", "h5py", "protobuf", "typer", "rich", "pillow", "platformdirs",
         "filelock")  # fmt: skip
_EXTRAS = {
    "onnxruntime": ("cpu", "run networks (checks, predict, features)"),
    "torch": ("train", "fine-tuning"),
    "lightning": ("train", "fine-tuning"),
    "matplotlib": ("evaluate", "plots"),
    "fsspec": ("remote", "URLs in place of files"),
    "s3fs": ("remote", "s3:// URLs"),
    "gcsfs": ("remote", "gs:// URLs"),
    "soundfile": ("sound", "sound files"),
    "soxr": ("sound", "sound files of other sample rates"),
    "netron": ("view", "networks in Netron"),
    "opencv-python-headless": ("opencv", "verifying Caffe networks"),
    "tensorboard": ("log", "retrain --log tensorboard"),
    "onnxsim": ("simplify", "a further simplifier"),
    "scikit-learn": ("head", "classifiers on features"),
    "skl2onnx": ("head", "classifiers as ONNX"),
    "pyarrow": ("data", "Parquet files"),
    "ray": ("ray", "features on a cluster"),
    "tensorflow": ("tensorflow", "SavedModel and TFLite"),
}


def diagnose() -> dict[str, Any]:
    """Return ``{"netferry", "python", "platform", "checks": [{name, outcome, detail, fix?}]}``.

    Outcomes: ok, missing (optional), broken.
    """
    checks: list[dict[str, str]] = []
    for package in _CORE:
        version = _version(package)
        if version is None:
            checks.append(_check(package, "broken", "not installed", "pip install netferry"))
        else:
            checks.append(_check(package, "ok", version))
    checks.extend(_runtime())
    for package, (extra, purpose) in _EXTRAS.items():
        if package == "onnxruntime":
            continue
        version = _version(package)
        if version is None:
            checks.append(_check(package, "missing", f"optional: {purpose}", f"pip install 'netferry[{extra}]'"))
        else:
            checks.append(_check(package, "ok", version))
    return {
        "netferry": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "checks": checks,
    }


def _runtime() -> list[dict[str, str]]:
    wheels = {name: v for name in ("onnxruntime", "onnxruntime-gpu") if (v := _version(name)) is not None}
    if not wheels:
        return [_check("onnxruntime", "missing", "optional: run networks", "pip install 'netferry[cpu]' (or [gpu])")]
    shown = ", ".join(f"{n} {v}" for n, v in wheels.items())
    if len(wheels) > 1:
        fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'netferry[gpu]'"
        return [_check("onnxruntime", "broken", f"{shown}: side by side the CPU wheel hides the GPU one", fix)]
    from netferry.errors import NetferryError
    from netferry.runtime.devices import devices

    try:
        found = devices()
    except NetferryError as error:
        return [_check("onnxruntime", "broken", str(error), error.hint or "")]
    names = ", ".join(f"{d.name} ({d.provider})" for d in found)
    return [_check("onnxruntime", "ok", shown), _check("devices", "ok", names), *_unused({d.name for d in found})]


def _unused(used: set[str]) -> list[dict[str, str]]:
    """GPUs that the wheel is built for, or that the machine has, but that do not work; with the cause and the fix."""
    from netferry.runtime.devices import PROVIDERS, diagnose, driver_problem, runtime

    ort = runtime()
    rows: list[dict[str, str]] = []
    for kind in ("cuda", "tensorrt", "openvino", "directml", "rocm"):
        if kind not in used and PROVIDERS[kind] in ort.get_available_providers():
            error = diagnose(ort, kind, None)
            rows.append(_check(kind, "missing", error.reason, error.hint or ""))
    if "cuda" not in used and PROVIDERS["cuda"] not in ort.get_available_providers() and driver_problem() is None:
        error = diagnose(ort, "cuda", None)
        rows.append(_check("cuda", "missing", f"there is an NVIDIA GPU; {error.reason}", error.hint or ""))
    return rows


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _check(name: str, outcome: str, detail: str, fix: str = "") -> dict[str, str]:
    row = {"name": name, "outcome": outcome, "detail": detail}
    return row | {"fix": fix} if fix else row
