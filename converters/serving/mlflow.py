"""MLflow's model folder (https://mlflow.org/docs/latest/ml/model/): flavors onnx and python_function, a tensor
signature, and the three files that say what it needs."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from netferry.converters.serving.contents import Contents, Unit, label_lines, signature, sound_facts

TYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": "str",
    **{f"{u}int{n}": f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)},
}  # fmt: skip
LEAST_MLFLOW = "2.16.0"
_RUNTIME = "1.22"


def units(contents: Contents) -> list[Unit]:
    """Return the folder."""
    needs = [f"mlflow>={LEAST_MLFLOW}", *_pinned("numpy", "onnx"), _runtime()]
    python = platform.python_version()
    size = sum(file.stat().st_size for file in contents.files)
    with contents.files[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    model: dict[str, Any] = {
        "flavors": {
            "onnx": {
                "code": None,
                "data": "model.onnx",
                "onnx_session_options": None,
                "onnx_version": metadata.version("onnx"),
                "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
            },
            "python_function": {
                "data": "model.onnx",
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.onnx",
                "python_version": python,
            },
        },
        "metadata": {"netferry": {"version": contents.netferry, "source": contents.source, **_facts(contents)}},
        "mlflow_version": LEAST_MLFLOW,
        "model_size_bytes": size,
        "model_uuid": uuid.uuid5(uuid.NAMESPACE_OID, digest).hex,
        "signature": {
            "inputs": _schema(contents.inputs),
            "outputs": _schema(contents.outputs),
            "params": None,
        },
    }
    environment = {
        "python": python,
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    }
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": needs}],
        "name": "mlflow-env",
    }
    files: dict[str, bytes | Path] = {
        "MLmodel": _yaml(model),
        "requirements.txt": ("\n".join(needs) + "\n").encode(),
        "python_env.yaml": _yaml(environment),
        "conda.yaml": _yaml(conda),
    }
    for labels in contents.labels.values():
        files.setdefault("labels.txt", label_lines(labels))
    return [Unit("", {**files, **{file.name: file for file in contents.files}})]


def _facts(contents: Contents) -> dict[str, Any]:
    """Preprocessing for whoever calls the model, what it hears; a mean image stays in the ONNX file's own metadata."""
    recipes = {name: recipe.with_(mean_image=None).as_dict() for name, recipe in contents.preprocessing.items()}
    sound = sound_facts(contents)
    return ({"preprocessing": recipes} if recipes else {}) | ({"sound": sound} if sound else {})


def _schema(tensors: list[Any]) -> str:
    rows = [
        {"name": tensor.name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": dims}}
        for tensor, dtype, dims in signature(tensors, TYPES, "MLflow")
    ]
    return json.dumps(rows)


def _pinned(*packages: str) -> list[str]:
    return [f"{package}=={metadata.version(package)}" for package in packages]


def _runtime() -> str:
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return f"{package}=={metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return f"onnxruntime>={_RUNTIME}"


def _yaml(document: Any) -> bytes:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
