"""What is handed over, and what a layout consists of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netferry.errors import UnsupportedError, UsageError, quoted
from netferry.schemas.model import Model, TensorInfo
from netferry.schemas.preprocessing import Preprocessing
from netferry.schemas.sound import SOUND_KEY, SoundRecipe, recipes_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NO_BATCH = re.compile(r"(time|sequence|steps|seq|length|frames|height|width)", re.IGNORECASE)


@dataclass(frozen=True)
class Contents:
    """A model as it goes out.

    Attributes:
        name: what it is called in the stack.
        files: the ONNX file, called model.onnx, and weights beside it.
        sound: how a waveform becomes patches; ``hears`` tells whether the network does that itself.
        picture: the model of the preprocessing, where it goes along as one of its own: its file, input and output.
        options: the stack's own: ``max_batch``, ``storage_uri``.
    """

    name: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    labels: dict[str, list[str]]
    preprocessing: dict[str, Preprocessing]
    files: tuple[Path, ...]
    source: dict[str, Any] = field(default_factory=dict)
    netferry: str = ""
    sound: dict[str, SoundRecipe] = field(default_factory=dict)
    picture: Picture | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hears(self) -> dict[str, bool]:
        """For every input of sound whether it is a waveform (else log-mel patches, which the caller makes)."""
        ranks = {t.name: len(t.shape) for t in self.inputs if t.shape is not None}
        return {name: ranks.get(name) == 1 for name in self.sound}

    @property
    def batched(self) -> bool:
        """Whether every input and output has a dynamic first dimension that is a batch, not a time or patches of it."""
        if any(self.hears.values()):
            return False
        shapes = [t.shape for t in (*self.inputs, *self.outputs)]
        firsts = [s[0] if s else 1 for s in shapes if s is not None]
        dynamic = len(firsts) == len(shapes) and all(not isinstance(d, int) for d in firsts)
        return dynamic and not any(isinstance(d, str) and _NO_BATCH.search(d) for d in firsts)


@dataclass(frozen=True)
class Picture:
    """The preprocessing as a model: uint8 pictures in, the network's input out."""

    files: tuple[Path, ...]
    input: TensorInfo
    output: TensorInfo


@dataclass(frozen=True)
class Unit:
    """One folder of a package: files by path inside it, as bytes or as a file to take; those of ``versioned`` go into
    a folder called by the version's number."""

    folder: str
    files: dict[str, bytes | Path]
    versioned: dict[str, bytes | Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """further entries of the manifest"""


def contents_of(model: Model, name: str, files: tuple[Path, ...], netferry: str, **more: Any) -> Contents:
    """Return what goes out of a model whose ONNX file is ``files[0]``."""
    from netferry.schemas.metadata import origin

    return Contents(
        name, model.inputs, model.outputs, dict(model.labels), dict(model.preprocessing), files,
        source=origin(model), netferry=netferry, sound=recipes_of(model.ir.metadata_props.get(SOUND_KEY)), **more,
    )  # fmt: skip


def model_name(wanted: str | None, stem: str) -> str:
    """Return a name that every stack takes: ``wanted`` as it is, or one made of a file's stem.

    Raises:
        UsageError: ``wanted`` has other characters than letters, digits, ``_``, ``.`` and ``-``.
    """
    if wanted is not None:
        if not _NAME.fullmatch(wanted):
            raise UsageError(f"a model's name is letters, digits, '_', '.' and '-', not {quoted(wanted)}")
        return wanted
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("_.-")[:100]
    return plain or "model"


def signature(
    tensors: list[TensorInfo], types: Mapping[str, str], stack: str
) -> list[tuple[TensorInfo, str, list[int]]]:
    """Return each tensor with the stack's element type and its dimensions, -1 for dynamic ones.

    Raises:
        UnsupportedError: the stack has no such element type, or a rank is unknown.
    """
    rows: list[tuple[TensorInfo, str, list[int]]] = []
    for tensor in tensors:
        if tensor.dtype not in types or tensor.shape is None:
            what = "rank is unknown" if tensor.shape is None else f"element type {tensor.dtype} is not known to {stack}"
            raise UnsupportedError(f"cannot be handed to {stack}: its {what}", layer=tensor.name)
        rows.append((tensor, types[tensor.dtype], [d if isinstance(d, int) else -1 for d in tensor.shape]))
    return rows


def sound_facts(contents: Contents) -> dict[str, Any]:
    """Return for every input of sound what it takes, and how patches are made of a waveform."""
    hears = contents.hears
    return {
        name: {"takes": "waveform" if hears[name] else "log-mel patches", **recipe.as_dict()}
        for name, recipe in contents.sound.items()
    }


def as_json(document: Any) -> bytes:
    """A document as the bytes of a JSON file."""
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def label_lines(labels: list[str]) -> bytes:
    """One label per line."""
    return ("\n".join(labels) + "\n").encode()
