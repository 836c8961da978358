"""A model that runs before it is written: its structure, with the weights left where they lie in the source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx

from netferry.converters.onnx.structure import Structure, point
from netferry.converters.onnx.wire import OnnxFile
from netferry.converters.options import Limits
from netferry.errors import CheckFailed, MalformedFile
from netferry.schemas.ir import ir
from netferry.schemas.messages import all_proto_graphs

_END = 1 << 16
_OTHERS = 32 << 20
"""bytes of weights that lie in no file and would have to be held in memory"""


@dataclass(frozen=True)
class InPlace:
    """A model that a runtime can load at once.

    Attributes:
        structure: its bytes; large weights are external.
        folder: where the files that they lie in are.
        files: those files, as they were.
    """

    structure: bytes
    folder: Path
    files: Mapping[Path, tuple[int, ...]]


def in_place(structure: Structure) -> InPlace | None:
    """Return a model as it can be loaded before it is written.

    Returns:
        None where weights are computed while they are written, lie in several folders, or belong to attributes.
    """
    sizes = structure.sizes
    files = {Path(os.path.realpath(t.path)) for t in structure.tensors if isinstance(t, ir.ExternalTensor)}
    folders = {file.parent for file in files}
    rest = sum(size for t, size in zip(structure.tensors, sizes, strict=True) if not isinstance(t, ir.ExternalTensor))
    if len(folders) != 1 or rest > _OTHERS or structure.initializers != len(structure.tensors):
        return None
    proto, left_out = structure.copied()
    for tensor, index in left_out:
        held = structure.tensors[index]
        if isinstance(held, ir.ExternalTensor):
            point(tensor, os.path.basename(os.path.realpath(held.path)), held.offset or 0, sizes[index])
        else:
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = held.tobytes()
    return InPlace(proto.SerializeToString(), folders.pop(), {file: _state(file) for file in files})


def refuse_unequal(file: Path, ran: InPlace) -> None:
    """Compare a written file, read back, with the model that was run in its stead.

    The structures must be equal, both ends of every weight too, and the files that the kernel copied the weights from
    must be as they were.

    Raises:
        CheckFailed: they differ; the source was changed meanwhile, or the disk is at fault.
        MalformedFile: the source became shorter.
    """
    with OnnxFile(file, Limits()) as written:
        back = onnx.ModelProto.FromString(written.structure(file.name))
    before = onnx.ModelProto.FromString(ran.structure)
    with ExitStack() as opened:
        places = _Places(opened)
        for one, other in zip(_tensors(back), _tensors(before), strict=True):
            if one.external_data or other.external_data:
                if one.name != other.name or places.ends(one, file.parent) != places.ends(other, ran.folder):
                    raise _changed(one.name)
                for tensor in (one, other):
                    for field in ("external_data", "raw_data", "data_location"):
                        tensor.ClearField(field)
    if back.SerializeToString() != before.SerializeToString():  # == of messages takes NaN for unequal
        raise _changed(None)
    if any(_state(source) != state for source, state in ran.files.items()):
        raise _changed(None)


def _state(file: Path) -> tuple[int, ...]:
    """What tells whether a file was written to."""
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in all_proto_graphs(proto):
        yield from graph.initializer


def _changed(name: str | None) -> CheckFailed:
    reason = "what was written is not what was checked: the source changed meanwhile, or the disk is at fault"
    return CheckFailed(reason, layer=name)


class _Places:
    """Reads both ends of tensors' bytes from the files that they lie in."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[Path, int] = {}

    def ends(self, tensor: onnx.TensorProto, folder: Path) -> tuple[int, bytes, bytes]:
        """Number of bytes, the first and the last of them."""
        entries = {e.key: e.value for e in tensor.external_data}
        if not entries:
            return len(tensor.raw_data), tensor.raw_data[:_END], tensor.raw_data[-_END:]
        path = folder / entries["location"]
        if path not in self._open:
            self._open[path] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._stack.callback(os.close, self._open[path])
        offset, length = int(entries["offset"]), int(entries["length"])
        end = min(length, _END)
        first, last = (os.pread(self._open[path], end, at) for at in (offset, offset + length - end))
        if len(first) != end or len(last) != end:
            raise MalformedFile("the file became shorter since it was read", file=path, layer=tensor.name)
        return length, first, last
