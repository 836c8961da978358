"""What a file of PyTorch is, told from its bytes, and why most of them are refused.

A checkpoint of ``torch.save`` (.pt, .pth, .bin) is a pickle: a program that may call anything when it is loaded
(https://docs.python.org/3/library/pickle.html). TorchScript holds code. A state dict, whether pickled or in
safetensors, holds weights without the network.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from netferry.errors import MalformedFile, UnsafeFile, UsageError

PROGRAM, CHECKPOINT, SCRIPT, TENSORS = "torch.export program", "pickled checkpoint", "TorchScript", "safetensors"
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".tar")


def kind_of(head: bytes, path: Path) -> str | None:
    """Return which file of PyTorch it is, or None."""
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(head, path)
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and b'"data_offsets"' in head):
        return TENSORS
    return CHECKPOINT if head.startswith(_PICKLES) and path.suffix != ".onnx" else None


def _kind_of_zip(head: bytes, path: Path) -> str | None:
    if path.suffix == ".pt2" or b"/archive_format" in head:
        return PROGRAM
    if b"/data.pkl" not in head and path.suffix not in _SUFFIXES:
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return CHECKPOINT if path.suffix in _SUFFIXES else None
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner:
        return PROGRAM
    if "data.pkl" not in inner:
        return None
    return SCRIPT if "constants.pkl" in inner else CHECKPOINT


def refuse(kind: str, path: Path) -> None:
    """Raise what a file deserves that is no program.

    Raises:
        UnsafeFile: a pickle or TorchScript, with the safe way.
        UsageError: weights without a network.
    """
    if kind == CHECKPOINT:
        raise UnsafeFile(
            "is a pickled checkpoint of PyTorch: whoever loads it runs the code that it names, so netferry never does",
            file=path,
            hint="where you trust it: build the model in PyTorch, load it there with torch.load(..., "
            "weights_only=True), then give netferry.load(model, example_inputs=...) or write torch.export.save(...), "
            "a .pt2 file; weights alone can be saved with safetensors and given by --weights",
        )
    if kind == SCRIPT:
        raise UnsafeFile(
            "is TorchScript, which holds code and pickles",
            file=path,
            hint="export the original module with torch.export.export and torch.export.save, as a .pt2 file",
        )
    if kind == TENSORS:
        raise UsageError(
            "holds weights without a network",
            file=path,
            hint="give the network first: netferry convert net.onnx --weights weights.safetensors",
        )
    if kind != PROGRAM:
        raise MalformedFile("no file of PyTorch that netferry knows", file=path)
