"""External data of ONNX files: which files may be opened, and that the bytes are there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from netferry.errors import InputError, MalformedFile, UnsafeFile, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import sizes
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.tensors import byte_size, check_in_file, file_tensor


class DataFiles:
    """The files that a model keeps weights in.

    A file must really lie under the model's folder, or under that of the file which the model's own path is a link
    to: model hubs store files so. onnx_ir's own check is not used; it depends on how the model's path was given, and
    refuses hard links.

    Args:
        path: the model's absolute path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = ModelFolder(path)
        self._found: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    @property
    def files(self) -> list[str]:
        """Absolute paths of the files used, in order of first use."""
        return list(dict.fromkeys(self._found.values()))

    def resolve(self, location: str, tensor: str) -> str:
        """Return the absolute path of a data file.

        Raises:
            UnsafeFile: absolute, with ``..``, NUL or a backslash, a link that leads out, a device or a pipe.
            InputError: there is no such file.
        """
        if location in self._found:
            return self._found[location]
        parts = location.split("/")
        if not location or "\0" in location or "\\" in location or ".." in parts or location.startswith("/"):
            raise UnsafeFile(f"external data at {quoted(location)}, outside its folder", file=self.path, layer=tensor)
        if os.name == "nt" and ":" in location:
            raise UnsafeFile(f"external data at {quoted(location)}, on a drive", file=self.path, layer=tensor)
        try:
            real = os.path.realpath(self.path.parent / location, strict=True)
            mode = os.stat(real).st_mode
        except OSError as error:
            reason = f"external data {quoted(location)} cannot be opened: {error.strerror}"
            hint = "the data file belongs beside the model"
            raise InputError(reason, file=self.path, layer=tensor, hint=hint) from None
        if not self._folder.holds(real):
            reason = f"external data at {quoted(location)}, a link that leads out of the model's folder"
            raise UnsafeFile(reason, file=self.path, layer=tensor)
        if not stat.S_ISREG(mode):
            raise UnsafeFile(f"external data at {quoted(location)}, no regular file", file=self.path, layer=tensor)
        self._found[location] = real
        return real

    def tensor(self, raw: ir.ExternalTensor) -> ir.TensorProtocol:
        """Return a tensor over the checked place of ``raw``.

        Raises:
            MalformedFile: its length is not that of its shape, or the file ends before.
        """
        name = raw.name or ""
        return self.slice(raw, self.resolve(os.fspath(raw.location), name))

    def slice(self, raw: ir.ExternalTensor, path: str) -> ir.TensorProtocol:
        """Return ``raw`` with its values in the file ``path``, where the bytes are there."""
        name, offset = raw.name or "", raw.offset or 0
        shape = sizes(raw.shape)
        if raw.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
            raise MalformedFile(f"{raw.dtype.name} values cannot lie outside", file=self.path, layer=name)
        nbytes = byte_size(raw.dtype, shape)
        if raw.length is not None and raw.length != nbytes:
            reason = f"shape {list(shape)} of {raw.dtype.name} takes {nbytes} bytes, the file has {raw.length}"
            raise MalformedFile(reason, file=self.path, layer=name)
        if path not in self._sizes:
            self._sizes[path] = os.stat(path).st_size
        check_in_file(path, offset, nbytes, name, self._sizes[path])
        if nbytes == 0:  # no file can be mapped in a stretch of no bytes
            empty = ir.tensor(np.zeros(shape, raw.dtype.numpy()), raw.dtype, name, raw.doc_string)
            empty.metadata_props.update(raw.metadata_props)
            return empty
        tensor = file_tensor(path, offset, raw.dtype, shape, name)
        tensor.doc_string = raw.doc_string
        if raw.metadata_props:
            tensor.metadata_props.update(raw.metadata_props)
        return tensor
