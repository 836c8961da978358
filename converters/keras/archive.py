"""The files of Keras: what lies where in .h5, .json, .keras (packed or a folder), .weights.h5 and sharded weights."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netferry.converters.hdf5 import Hdf5File
from netferry.converters.hdf5_data import Place
from netferry.converters.keras.folder import CONFIG, SHARDS, WEIGHTS, Folder
from netferry.converters.keras.json_text import parse_json
from netferry.converters.keras.weights import LegacyStore, PathStore, Store
from netferry.converters.keras.zipped import Archive
from netferry.converters.options import Limits
from netferry.converters.signatures import HEAD, ZIP, is_hdf5, is_text
from netferry.errors import InputError, LimitExceeded, MalformedFile, UnsafeFile, quoted
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.opening import open_regular


@dataclass
class Content:
    """What one file holds."""

    path: Path
    architecture: Any = None
    store: Store | None = None
    version: str | None = None
    backend: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """loss, metrics and other facts for the report"""
    files: list[Path] = field(default_factory=list)
    assets: Callable[[str], bytes | None] = lambda _: None
    """content of a file under ``assets/``, None where there is none"""


def open_content(path: Path, limits: Limits, stack: ExitStack) -> Content:
    """Read a file's architecture and find its weights; HDF5 files stay open until ``stack`` is closed.

    Raises:
        InputError: it cannot be opened.
        FormatError: it is not what it should be.
    """
    if os.path.isdir(path):
        return _archive(Folder(path, limits), limits, stack)
    with open_regular(path) as file:
        head = file.read(HEAD)
    if is_hdf5(head):
        return _hdf5(Place(path), limits, stack)
    if head.startswith(ZIP) or ((not is_text(head) or path.suffix == ".keras") and zipfile.is_zipfile(path)):
        return _archive(stack.enter_context(Archive(path, limits)), limits, stack)
    return _json(path, limits, stack)


def _hdf5(place: Place, limits: Limits, stack: ExitStack) -> Content:
    file = stack.enter_context(Hdf5File(place, limits))
    content = Content(place.path, files=[place.path])
    text = file.attribute("", "model_config")
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if text is not None:
        if not isinstance(text, str):
            raise MalformedFile("model_config is not a text", file=place.path)
        content.architecture = parse_json(text, limits, file=place.path)
        content.version, content.backend = _facts(file)
        training = file.attribute("", "training_config")
        if isinstance(training, str):
            try:
                content.details.update(training_facts(parse_json(training, limits, file=place.path)))
            except (MalformedFile, LimitExceeded) as error:  # nothing that the network computes depends on it
                content.details["training"] = f"not read: {error.reason}"
    group = "model_weights" if file.is_group("model_weights") else ""
    if file.names(group, "layer_names") is not None:
        store = LegacyStore(file, group)
        content.store = store
        content.version = content.version or _text(store.version)
        content.backend = content.backend or _text(store.backend)
    elif text is None or file.is_group("layers") or file.is_group("vars"):
        content.store = _paths([file])
    return content


def _facts(file: Hdf5File) -> tuple[str | None, str | None]:
    return _text(file.attribute("", "keras_version")), _text(file.attribute("", "backend"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _paths(files: list[Hdf5File]) -> PathStore:
    tops = {name.replace("\\", "/").partition("/")[0] for file in files for name in file.groups("")}
    if not tops & {"layers", "_layer_checkpoint_dependencies"}:
        raise MalformedFile("an HDF5 file that holds neither a Keras model nor Keras weights", file=files[0].path)
    return PathStore(files)


def _archive(archive: Archive | Folder, limits: Limits, stack: ExitStack) -> Content:
    path = archive.path
    content = Content(path, files=archive.files)
    content.architecture = parse_json(archive.text(CONFIG), limits, file=path)

    def asset(name: str) -> bytes | None:
        member = f"assets/{name}"
        return archive.text(member) if member in archive else None

    content.assets = asset
    if "metadata.json" in archive:
        metadata = parse_json(archive.text("metadata.json"), limits, file=path)
        if isinstance(metadata, dict):
            content.version = _text(metadata.get("keras_version"))
    if isinstance(content.architecture, dict):
        content.details.update(training_facts(content.architecture.get("compile_config")))
    if WEIGHTS in archive:
        content.store = _paths([stack.enter_context(Hdf5File(archive.place(WEIGHTS), limits))])
    elif SHARDS in archive:
        index = parse_json(archive.text(SHARDS), limits, file=path)
        files = [stack.enter_context(Hdf5File(archive.place(n), limits)) for n in _shards(index, path)]
        content.store = _paths(files)
    elif "model.weights.npz" in archive:
        raise UnsafeFile(
            "the weights are kept as pickled objects (model.weights.npz), which netferry never opens",
            file=path,
            hint="load and save the model with the Keras that wrote it: newer files hold model.weights.h5",
        )
    return content


def _json(path: Path, limits: Limits, stack: ExitStack) -> Content:
    size = path.stat().st_size
    if size > limits.text_bytes:
        raise LimitExceeded(f"a text of {size} bytes (limit text_bytes={limits.text_bytes})", file=path)
    value = parse_json(path.read_bytes(), limits, file=path)
    if isinstance(value, str):  # json.dumps(model.to_json()): a text in a text
        value = parse_json(value, limits, file=path)
    if not isinstance(value, dict):
        raise MalformedFile("the JSON is not an object", file=path)
    content = Content(path, files=[path])
    if "weight_map" in value:
        names = _shards(value, path)
        files: list[Hdf5File] = []
        for name in names:
            shard = path.parent / name
            if not os.path.isfile(shard):
                raise InputError("no such shard of the weights", file=shard)
            if not ModelFolder(path).holds(shard):
                raise UnsafeFile("the shard lies outside the folder of its index", file=shard)
            content.files.append(shard)
            files.append(stack.enter_context(Hdf5File(shard, limits)))
        content.store = _paths(files)
        return content
    content.architecture = value
    content.version, content.backend = _text(value.get("keras_version")), _text(value.get("backend"))
    return content


def _shards(index: Any, path: Path) -> list[str]:
    """File names of the shards, each a plain name beside the index."""
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise MalformedFile("the index of the weights has no weight_map", file=path)
    names: list[str] = []
    for value in weight_map.values():
        names.extend(value if isinstance(value, list) else [value])
    for name in names:
        if not isinstance(name, str) or not name:
            raise MalformedFile("the weight_map names something that is no file", file=path)
        if name in (".", "..") or any(c in name for c in "/\\\0") or len(name) > 255:
            raise UnsafeFile(f"shard {quoted(name)} is not a plain file name", file=path)
    return sorted(set(names))


def training_facts(config: Any) -> dict[str, Any]:
    """Loss and metrics by name, where the file has them; nothing else of the training matters."""
    if not isinstance(config, dict):
        return {}
    facts: dict[str, Any] = {}
    for key in ("loss", "metrics"):
        value = config.get(key)
        if value:
            facts[key] = _plain_names(value)
    return facts


def _plain_names(value: Any, depth: int = 0) -> Any:
    if depth > 8:
        return None
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            inner = value.get("config")
            name = inner.get("name") if isinstance(inner, dict) else inner
            return name if isinstance(name, str) else value["class_name"]
        return {k: _plain_names(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain_names(v, depth + 1) for v in value]
    return value if isinstance(value, (str, int, float, bool)) else None
