"""Writing a module as ``model.py`` and ``weights.safetensors``, and reading that back to check it."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import fx, nn

from netferry.errors import MissingExtra
from netferry.runtime.torch.naming import identifier
from netferry.runtime.torch.source.code import Code

CODE, WEIGHTS = "model.py", "weights.safetensors"


def write_source(module: fx.GraphModule, folder: Path, name: str, about: list[str], *, unsigned: bool) -> list[Path]:
    """Write a module that netferry built as source; returns the files.

    Args:
        module: the module.
        folder: where ``model.py`` and ``weights.safetensors`` are put; it exists.
        name: the network's name, which the class gets as far as Python allows.
        about: lines for the docstring.
        unsigned: the graph holds uint16, uint32 or uint64, which torch computes with only in a roundabout way.

    Raises:
        MissingExtra: the package ``safetensors`` is not installed.
        UnsupportedError: something in the module has no source.
    """
    code = Code(module, class_name(name), about, unsigned=unsigned)
    text = code.text()
    ast.parse(text, CODE)  # a syntax error here is a bug of ours
    (folder / CODE).write_text(text, encoding="utf-8")
    write_tensors(code.held.weights, folder / WEIGHTS)
    return [folder / CODE, folder / WEIGHTS]


def class_name(name: str) -> str:
    """A network's name as that of a class: ``mobilenet_v2`` is ``MobilenetV2``."""
    words = identifier(name).strip("_").split("_")
    text = "".join(word[:1].upper() + word[1:] for word in words)
    return text if text.isidentifier() and text not in ("Tensor", "Path", "None", "True", "False") else f"Net{text}"


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors as a safetensors file; those that share memory are written each."""
    if importlib.util.find_spec("safetensors") is None:
        raise MissingExtra("safetensors", "train", "writing weights")
    from safetensors.torch import save

    path.write_bytes(save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, {"format": "pt"}))


def read_source(folder: Path) -> nn.Module:
    """The network of a folder that :func:`write_source` wrote, with its weights."""
    name = f"netferry_written_{abs(hash(str(folder)))}"
    spec = importlib.util.spec_from_file_location(name, folder / CODE)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = keep
    return module.load()
