"""KServe (https://kserve.github.io/website/): ``model.onnx`` under the storage URI and an InferenceService for it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from netferry.converters.serving.contents import Contents, Unit, label_lines
from netferry.errors import UsageError, quoted

SCHEMES = ("s3", "gs", "https", "http", "pvc", "hf", "hdfs", "webhdfs", "file", "oci")


def storage_uri(contents: Contents) -> str:
    """Return where the cluster finds the folder: as said, or a volume claim called ``models``."""
    said = contents.options.get("storage_uri")
    return f"pvc://models/{contents.name}" if said is None else str(said)


def units(contents: Contents) -> list[Unit]:
    """Return the folder.

    Raises:
        UsageError: the storage URI is none that KServe knows.
    """
    uri = storage_uri(contents)
    if uri.partition("://")[0] not in SCHEMES or "://" not in uri:
        raise UsageError(f"the storage URI starts with {', '.join(f'{s}://' for s in SCHEMES)}, not {quoted(uri)}")
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": kubernetes_name(contents.name)},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "onnx"},
                    "protocolVersion": "v2",
                    "storageUri": uri,
                }
            }
        },
    }
    files: dict[str, bytes | Path] = {file.name: file for file in contents.files}
    files["inferenceservice.yaml"] = yaml.safe_dump(service, sort_keys=False).encode()
    for labels in contents.labels.values():
        files.setdefault("labels.txt", label_lines(labels))
    return [Unit("", files)]


def kubernetes_name(name: str) -> str:
    """Return a name that Kubernetes takes (RFC 1123): lower case letters, digits and ``-``, at most 63."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")
    return plain or "model"
