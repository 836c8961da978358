"""Tensors that are not in memory: slices of a file, values computed when asked for, values not there yet."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from io import FileIO
from typing import Any, Self, TypeGuard

import numpy as np

from netferry.errors import MalformedFile, Uninitialised, quoted
from netferry.schemas.ir import ir

_UNINITIALISED = "netferry.uninitialised"
_MAPPED_FROM = 1 << 16
"""bytes up to which a tensor is read whole, sooner than its file is mapped"""
SPARSE_KEPT = "netferry.sparse_at"
"""in the ``meta`` of a graph: sparse tensors are kept beside it, and written back with it"""
_AS_STORED = frozenset(
    (
        *(ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    )
)
"""types whose values lie in a file as they lie in memory"""


def file_tensor(
    path: str | os.PathLike[str], offset: int, dtype: ir.DataType, shape: Sequence[int], name: str | None = None
) -> ir.ExternalTensor:
    """Return a tensor whose little-endian values lie at ``offset`` of a file; nothing is read until asked for.

    The caller has checked that the bytes are there and that the file may be read: without a base folder onnx_ir
    checks nothing, and with one it would refuse files that have hard links. The writer copies such tensors from
    file to file without passing them through Python.
    """
    return ir.ExternalTensor(
        location=os.path.abspath(path),
        offset=offset,
        length=byte_size(dtype, shape),
        dtype=dtype,
        shape=ir.Shape(list(shape)),
        name=name or "",
    )


def in_file(tensor: object) -> TypeGuard[ir.ExternalTensor]:
    """Whether a tensor's values lie in a file; ``isinstance`` asks a protocol of onnx_ir, member by member."""
    return _is_a(type(tensor), ir.ExternalTensor)


@functools.cache
def _is_a(kind: type[Any], of: type[Any]) -> bool:
    return issubclass(kind, of)


def _tensor_of(value: ir.Value | ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    return value.const_value if _is_a(type(value), ir.Value) else value  # pyright: ignore


def byte_size(dtype: ir.DataType, shape: Sequence[int]) -> int:
    """Return the bytes that a tensor takes; types of less than a byte are packed, the last byte is filled up."""
    return -(-math.prod(int(d) for d in shape) * dtype.bitwidth // 8)


class ComputedTensor(ir.LazyTensor):
    """A tensor computed each time it is asked for, and not kept; see :func:`computed_tensor`."""

    def __init__(
        self, compute: Callable[[], np.ndarray], dtype: ir.DataType, shape: Sequence[int], name: str | None
    ) -> None:
        def evaluate() -> ir.TensorProtocol:
            return ir.Tensor(np.ascontiguousarray(self.elements()).reshape(shape), dtype=dtype, name=name)

        super().__init__(evaluate, dtype=dtype, shape=ir.Shape(list(shape)), cache=False, name=name)
        self._compute, self._size = compute, math.prod(shape)

    def elements(self) -> np.ndarray:
        """Return the values as they are computed: an array, perhaps strided, whose C order is the tensor's."""
        array = np.asarray(self._compute())
        if array.size != self._size:
            raise AssertionError(f"{self.name}: computed shape {array.shape}, announced {self.shape}")
        return array


def computed_tensor(
    compute: Callable[[], np.ndarray], dtype: ir.DataType, shape: Sequence[int], name: str | None = None
) -> ComputedTensor:
    """Return a tensor computed each time it is asked for, and not kept: for transposed or converted weights.

    ``compute`` may return a transposed view, also one with its axes not yet merged to ``shape``: the writer takes it
    piece by piece, so that a large weight is not in memory twice.
    """
    return ComputedTensor(compute, dtype, shape, name)


def array_tensor(array: np.ndarray | Sequence[float], name: str | None = None) -> ir.TensorProtocol:
    """Return an in-memory tensor over ``array`` (no copy where it is contiguous already); texts become UTF-8."""
    values = np.asarray(array, order="C")  # ascontiguousarray would give a scalar an axis
    if values.dtype.kind not in "OUS":
        return ir.tensor(values, name=name)
    texts = np.empty(values.shape, object)
    for place, text in np.ndenumerate(values):
        texts[place] = text if isinstance(text, bytes) else str(text).encode()
    return ir.StringTensor(texts, shape=ir.Shape(list(values.shape)), name=name)


def uninitialised_tensor(
    shape: Sequence[int], dtype: ir.DataType = ir.DataType.FLOAT, *, filler: dict[str, object] | None = None
) -> ir.LazyTensor:
    """Return a tensor that has a shape and a type but no values yet.

    ``filler`` says how the source framework would initialise it, e.g. ``{"type": "xavier"}``; see
    :func:`netferry.schemas.initialise.fill`. Asking for values raises :class:`Uninitialised`.
    """

    def refuse() -> ir.TensorProtocol:
        raise Uninitialised("the parameter has no values: only the architecture was read")

    tensor = ir.LazyTensor(refuse, dtype=dtype, shape=ir.Shape(list(shape)), cache=False)
    tensor.metadata_props[_UNINITIALISED] = json.dumps(filler or {}, sort_keys=True)
    return tensor


def filler_of(tensor: ir.TensorProtocol | None) -> dict[str, object] | None:
    """Return the filler of an uninitialised tensor, or None where the tensor has values."""
    if tensor is None:
        return None
    text = tensor.metadata_props.get(_UNINITIALISED)
    return None if text is None else json.loads(text)


def content_of(tensor: ir.TensorProtocol) -> bytes | tuple[bytes, ...]:
    """The values of a tensor as something that compares; texts have no bytes of their own in one piece."""
    if tensor.dtype == ir.DataType.STRING:
        return tuple(tensor.numpy().ravel().tolist())
    return tensor.tobytes()


def constant_tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer or of a Constant node; None where the value is computed, and for a node's texts."""
    if value.const_value is not None:
        return value.const_value
    node = value.producer()
    if node is not None and node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        held = node.attributes.data.get("value")
        if held is not None and held.type == ir.AttributeType.TENSOR and not held.is_ref():
            return held.value
    if node is not None and node.op_type == "Constant" and not node.attributes:
        return None  # a sparse one, whose values are kept beside the graph
    if node is not None and any(name in node.attributes for name in ("value_string", "value_strings")):
        return None  # onnx_ir fails on texts beyond ASCII
    return ir.convenience.get_const_tensor(value)


def array_of(value: ir.Value | ir.TensorProtocol | None) -> np.ndarray | None:
    """Return a constant's values as an array of its own, or None where it is no constant.

    A tensor in a file is copied and its file closed again: each open one would hold a descriptor.
    """
    tensor = _tensor_of(value)
    if tensor is None or filler_of(tensor) is not None:
        return None
    if in_file(tensor):
        if tensor.dtype in _AS_STORED:
            array = np.empty(tuple(tensor.shape.numpy()), tensor.dtype.numpy())
            with TensorFiles() as files:
                whole = files.read_into(tensor, array)
            if whole:
                return array
        array = np.array(tensor.numpy())
        tensor.release()
        return array
    return tensor.numpy()


class TensorFiles:
    """Reads tensors from files; the file of the last one stays open for the next."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        self._path = self._file = None

    def _opened(self, path: str) -> FileIO:
        if self._file is None or path != self._path:
            self.__exit__()
            self._file, self._path = FileIO(path), path
        return self._file

    def read_into(self, tensor: ir.ExternalTensor, out: np.ndarray) -> bool:
        """Read the values of a tensor in a file into an array of its size, in one go and without mapping the file.

        Returns False, with ``out`` in disorder, where that cannot be: the way through onnx_ir tells why.
        """
        if tensor.dtype not in _AS_STORED or sys.byteorder != "little" or not out.flags.c_contiguous:
            return False
        # a buffer of NumPy's own types is filled as it is; others (bfloat16) have no buffer that Python knows
        whole = out if out.dtype.kind in "biuf" else out.reshape(-1).view(np.uint8)
        try:
            file = self._opened(tensor.path)
            file.seek(tensor.offset or 0)
            done = file.readinto(whole.data)
            if done == out.nbytes:
                return True
            rest = out.reshape(-1).view(np.uint8)
            while done and done < out.nbytes:
                count = file.readinto(rest[done:].data)
                done = done + count if count else 0
        except OSError:
            return False
        return done == out.nbytes


def sample_of(value: ir.Value | ir.TensorProtocol | None, most: int) -> np.ndarray | None:
    """Return at most ``most`` values of a constant, evenly spread, as a vector; None where it is no constant.

    Of a tensor in a file only these are copied.
    """
    tensor = _tensor_of(value)
    if tensor is None or filler_of(tensor) is not None:
        return None
    small = tensor.nbytes <= _MAPPED_FROM
    flat = np.asarray(array_of(tensor) if small else tensor.numpy()).reshape(-1)
    sample = np.array(flat[:: max(1, -(-flat.size // most))])
    if in_file(tensor) and not small:
        del flat
        tensor.release()
    return sample


def check_in_file(path: str | os.PathLike[str], offset: int, nbytes: int, what: str, size: int | None = None) -> None:
    """Raise :class:`MalformedFile` unless ``nbytes`` bytes lie at ``offset`` of the file of ``size`` bytes."""
    if size is None:
        size = os.stat(path).st_size
    if offset < 0 or nbytes < 0 or offset + nbytes > size:
        raise MalformedFile(
            f"{quoted(what)} claims {nbytes} bytes at {offset}, the file has {size}", file=path, offset=offset
        )
