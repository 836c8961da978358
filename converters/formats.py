"""The table of formats; a file's content decides, its name only where the content does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from netferry.converters.pytorch.files import kind_of as torch_kind_of
from netferry.converters.tensorflow.files import kind_of
from netferry.errors import InputError, UnknownFormat

if TYPE_CHECKING:
    from netferry.converters.options import ReadOptions
    from netferry.converters.registry import Registry
    from netferry.schemas.model import Model

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 1 << 16


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
        """Read a file of this format."""
        return import_module(self.module).read(path, options)

    def layers(self) -> Registry | None:
        """The registry of layer readers, all of them registered."""
        if self.registry is None:
            return None
        import_module(self.module)
        return import_module(self.registry).registry


def _is_text(head: bytes) -> bool:
    return bool(head) and not any(b < 9 or 13 < b < 32 for b in head[:4096])


def _caffe(head: bytes, path: Path) -> bool:
    if head.startswith(_HDF5):
        return b"model_config" not in head and b"layer_names" not in head and path.name.endswith(".caffemodel.h5")
    if _is_text(head):
        if path.suffix in (".prototxt", ".pbtxt"):
            return True
        return re.search(rb"(?m)^\s*(layers?\s*:?\s*\{|input\s*:)", head) is not None
    if path.suffix == ".caffemodel":
        return True
    # NetParameter begins with its name (1), V1 layers (2), inputs (3) or layers (100); ModelProto with a number
    return (path.suffix != ".onnx" and head[:1] in (b"\x0a", b"\x1a", b"\x12")) or head[:2] == b"\xa2\x06"


def _keras(head: bytes, path: Path) -> bool:
    if head.startswith(_HDF5):
        return not path.name.endswith(".caffemodel.h5")
    if head.startswith(b"PK\x03\x04"):
        return path.suffix == ".keras" or b"config.json" in head or b"metadata.json" in head
    return head.lstrip()[:1] in (b"{", b'"') and _is_text(head) and (b"class_name" in head or b'"weight_map"' in head)


def _onnx(head: bytes, path: Path) -> bool:
    if _is_text(head) or head.startswith((_HDF5, b"PK\x03\x04")):
        return False
    return path.suffix == ".onnx" or head[:1] == b"\x08"


def _tensorflow(head: bytes, path: Path) -> bool:
    return path.suffix != ".onnx" and kind_of(head, path) is not None


def _darknet(head: bytes, path: Path) -> bool:
    if path.suffix == ".weights":
        return not head.startswith((_HDF5, b"PK\x03\x04"))
    return _is_text(head) and re.match(rb"(\xef\xbb\xbf)?(\s|[#;][^\n]*\n)*\[\s*net(work)?\s*\]", head) is not None


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
    if not path.exists():
        raise InputError("no such file", file=path)
    if path.is_dir() and _tensorflow(b"", path):
        return by_name("tensorflow")
    if not path.is_file():
        hint = "a SavedModel's folder holds a saved_model.pb" if path.is_dir() else None
        raise InputError("not a regular file", file=path, hint=hint)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}", file=path) from None
    if not head:
        raise UnknownFormat("the file is empty", file=path)
    for format_ in FORMATS:
        if format_.looks_like(head, path):
            return format_
    known = ", ".join(suffix for f in FORMATS for suffix in f.files)
    raise UnknownFormat("no reader recognises the content", file=path, hint=f"netferry reads {known}")
