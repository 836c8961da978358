"""The table of formats; a file's content decides, its name only where the content does not."""

from __future__ import annotations

import codecs
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from netferry.converters.keras.folder import is_keras_folder
from netferry.converters.pytorch.files import kind_of as torch_kind_of
from netferry.converters.signatures import HEAD, ZIP, is_hdf5, is_text
from netferry.converters.tensorflow.files import kind_of
from netferry.errors import InputError, LimitExceeded, UnknownFormat
from netferry.schemas.opening import missing

if TYPE_CHECKING:
    from netferry.converters.options import ReadOptions
    from netferry.converters.registry import Registry
    from netferry.schemas.model import Model

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Format:
    """A source format: its name, files, reader module (with ``read``) and how its content looks."""

    name: str
    about: str
    files: tuple[str, ...]
    module: str
    looks_like: Callable[[bytes, Path], bool]
    registry: str | None = None
    """module whose ``registry`` lists the supported layers"""

    def read(self, path: Path, options: ReadOptions) -> Model:
        """Read a file of this format.

        Raises:
            LimitExceeded: the file asks for more memory than there is.
            NetferryError: what the reader says.
        """
        try:
            return import_module(self.module).read(path, options)
        except MemoryError:
            hint = "on the command line --sandbox-limit memory=GIB allows more"
            raise LimitExceeded("reading it takes more memory than there is", file=path, hint=hint) from None

    def layers(self) -> Registry | None:
        """The registry of layer readers, all of them registered."""
        if self.registry is None:
            return None
        import_module(self.module)
        return import_module(self.registry).registry


def _caffe(head: bytes, path: Path) -> bool:
    if is_hdf5(head):
        return b"model_config" not in head and b"layer_names" not in head and path.name.endswith(".caffemodel.h5")
    if is_text(head):
        if path.suffix in (".prototxt", ".pbtxt"):
            return True
        return re.search(rb"(?m)^\s*(layers?\s*:?\s*\{|input\s*:)", head) is not None
    if path.suffix == ".caffemodel":
        return True
    # NetParameter begins with its name (1), V1 layers (2), inputs (3) or layers (100); ModelProto with a number
    return (path.suffix != ".onnx" and head[:1] in (b"\x0a", b"\x1a", b"\x12")) or head[:2] == b"\xa2\x06"


def _keras(head: bytes, path: Path) -> bool:
    if is_hdf5(head):
        return not path.name.endswith(".caffemodel.h5")
    if head.startswith(ZIP):
        return path.suffix == ".keras" or b"config.json" in head or b"metadata.json" in head
    if path.suffix == ".keras" and zipfile.is_zipfile(path):
        return True  # zip archives may have other bytes in front
    return (
        head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b'"')
        and is_text(head)
        and (b"class_name" in head or b'"weight_map"' in head)
    )


def _onnx(head: bytes, path: Path) -> bool:
    if is_text(head) or is_hdf5(head) or head.startswith(ZIP):
        return False
    return path.suffix == ".onnx" or head[:1] == b"\x08"


def _tensorflow(head: bytes, path: Path) -> bool:
    return path.suffix != ".onnx" and kind_of(head, path) is not None


def _darknet(head: bytes, path: Path) -> bool:
    if path.suffix == ".weights":
        return not (is_hdf5(head) or head.startswith(ZIP))
    return is_text(head) and re.match(rb"(\xef\xbb\xbf)?(\s|[#;][^\n]*\n)*\[\s*net(work)?\s*\]", head) is not None


def _pytorch(head: bytes, path: Path) -> bool:
    return torch_kind_of(head, path) is not None


FORMATS: tuple[Format, ...] = (
    Format(
        "pytorch",
        "PyTorch: programs of torch.export, through torch's own exporter (extra [train]); pickles are refused",
        (".pt2",),
        "netferry.converters.through_torch",
        _pytorch,
    ),
    Format(
        "tensorflow",
        "TensorFlow: SavedModel folders, frozen graphs and TFLite, through tf2onnx (extra [tensorflow])",
        ("saved_model.pb", ".pb", ".tflite"),
        "netferry.converters.through_onnx",
        _tensorflow,
    ),
    Format(
        "darknet",
        "Darknet networks: classifiers, detectors, text nets, of AlexeyAB's fork too",
        (".cfg", ".weights"),
        "netferry.converters.darknet.read",
        _darknet,
        "netferry.converters.darknet.registry",
    ),
    Format(
        "caffe",
        "Caffe networks: V0, V1 and V2, BVLC's layers and those of well-known forks",
        (".prototxt", ".caffemodel", ".caffemodel.h5"),
        "netferry.converters.caffe.read",
        _caffe,
        "netferry.converters.caffe.registry",
    ),
    Format(
        "keras",
        "Keras 1, 2 and 3 models, read without Keras or TensorFlow",
        (".h5", ".hdf5", ".keras", ".json"),
        "netferry.converters.keras.read",
        _keras,
        "netferry.converters.keras.registry",
    ),
    Format("onnx", "ONNX models", (".onnx",), "netferry.converters.onnx.read", _onnx),
)


def by_name(name: str) -> Format:
    """Return the format called ``name``.

    Raises:
        UnknownFormat: there is none.
    """
    for format_ in FORMATS:
        if format_.name == name:
            return format_
    raise UnknownFormat(f"no format {name!r}; there are {', '.join(f.name for f in FORMATS)}")


def detect(path: Path) -> Format:
    """Return the format of a file by its content.

    Raises:
        InputError: no such file, or not a file.
        UnknownFormat: nothing recognises it.
    """
    if not os.path.exists(path):
        raise missing(path)
    if os.path.isdir(path) and _tensorflow(b"", path):
        return by_name("tensorflow")
    if os.path.isdir(path) and is_keras_folder(path):  # what Keras 3 saves with zipped=False, and lies on model hubs
        return by_name("keras")
    if not os.path.isfile(path):
        hint = "folders that netferry reads hold a saved_model.pb, or config.json and model.weights.h5 of Keras"
        raise InputError("not a regular file", file=path, hint=hint if os.path.isdir(path) else None)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}", file=path) from None
    if not head:
        raise UnknownFormat("the file is empty", file=path)
    if head.startswith(_GZIP):
        raise UnknownFormat("packed by gzip", file=path, hint="unpack it first (gunzip)")
    for format_ in FORMATS:
        if format_.looks_like(head, path):
            return format_
    known = ", ".join(suffix for f in FORMATS for suffix in f.files)
    raise UnknownFormat("no reader recognises the content", file=path, hint=f"netferry reads {known}")
