"""A model on onnxruntime behind one small face: devices checked, errors typed, safe to share between threads.

For serving: imports numpy and onnxruntime, never onnx, onnx_ir nor torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from netferry.errors import CheckFailed, MalformedFile, NetferryError, OutOfMemory, UsageError, quoted
from netferry.runtime.binding import Bindings
from netferry.runtime.budget import Budget
from netferry.runtime.devices import parse, runtime
from netferry.runtime.opening import open_session, said
from netferry.schemas.opening import open_regular

_DTYPES = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_, "string": np.object_,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
}  # fmt: skip
_NO_MEMORY = ("Failed to allocate memory", "out of memory", "OUT_OF_MEMORY", "bad_alloc", "BFCArena")
"""what onnxruntime's allocators (BFC arena, CUDA, the C++ library) say"""


def numpy_type(kind: str) -> np.dtype[Any] | None:
    """The numpy type of an element type by ONNX's name, or None where numpy has none."""
    known = _DTYPES.get(kind)
    return None if known is None else np.dtype(known)


@dataclass(frozen=True)
class Port:
    """An input or output of a session.

    ``dtype`` is ONNX's name of the element type (``float``, ``int64``); a whole type like ``seq(tensor(float))`` where
    it is no tensor. In ``shape`` (of a tensor; of those that a sequence holds, where that is known) a string is a
    dynamic dimension, None an unknown one.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    @property
    def numpy(self) -> np.dtype[Any] | None:
        """The numpy type, or None where numpy has none."""
        return numpy_type(self.dtype)

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{quoted(self.name)} {self.dtype}[{quoted(dims)[1:-1]}]"


class Session:
    """A loaded model, ready to run.

    Args:
        model: path of an .onnx file, or its bytes.
        device: ``auto`` (a GPU that works, else the processor), ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt`` …
        threads: threads of one run on the processor; None lets onnxruntime choose.
        weights_folder: where the external weights of a model given as bytes lie.
        spin: threads wait busily for the next piece of work; not, where other threads decode on the same processors.
        bind: keep inputs and outputs in buffers on the device; None does so on CUDA.
        cuda_graph: record the launches of a run per combination of input shapes and replay them; CUDA only. None does
            so on CUDA where the network fixes all shapes and can be recorded (it computes on the device alone).
        once: the session will run only a few times: weights are not packed anew for speed, which for large networks
            takes longer than the runs, and threads that wait do so without spinning.
        budget: what one run may take at most; on the processor only.
        as_written: quantized layers are computed as the graph says them (float numbers between QuantizeLinear and
            DequantizeLinear), not by kernels on integers, which round elsewhere.

    Raises:
        MissingExtra: onnxruntime is not installed.
        DeviceError: the asked-for device would not be used; says why and how to mend it.
        InputError: the file cannot be opened.
        MalformedFile: the content is not ONNX.
        CheckFailed: onnxruntime refuses the model.
        UsageError: no such device name; threads below one; CUDA graphs on another device.

    Attributes:
        device: the device that is used, like ``cpu`` or ``cuda:0``.
        provider: onnxruntime's name for it.
        inputs, outputs: what the model takes and gives.
        graphs: whether launches are recorded and replayed.
        metadata: the model's ``metadata_props``.
        file: path as given, None for bytes.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        device: str = "auto",
        threads: int | None = None,
        *,
        weights_folder: str | os.PathLike[str] | None = None,
        once: bool = False,
        spin: bool = True,
        bind: bool | None = None,
        cuda_graph: bool | None = None,
        budget: Budget | None = None,
        as_written: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        asked = parse(device)
        ort = runtime()
        self.file = None if isinstance(model, bytes) else os.fspath(model)
        source = model if isinstance(model, bytes) else _readable(Path(model))
        self._session: Any
        options: Any = ort.SessionOptions()
        options.log_severity_level = 4
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        if weights_folder is not None:
            folder = os.fspath(weights_folder)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        if once:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if as_written:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if once or not spin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if cuda_graph and asked[0] not in ("cuda", "auto"):
            raise UsageError(f"CUDA graphs need a CUDA device, not {quoted(device)}", hint="--device cuda")
        opening = partial(open_session, ort, source, asked, options, self.file, graphs=bool(cuda_graph))
        self._session, self.device = opening() if budget is None else budget.opened(ort, options, opening)
        self.budget, self._ort = budget, ort
        self.graphs = bool(cuda_graph) and self.device.startswith("cuda")
        self._face(ort, bind)
        if cuda_graph is None and self._bindings is not None and self.device.startswith("cuda") and not once:
            self._record(ort, source, options, bind)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def _face(self, ort: ModuleType, bind: bool | None) -> None:
        """Learn what the session takes and gives, and bind buffers where that is wanted."""
        self.provider: str = self._session.get_providers()[0]
        self.inputs = tuple(_port(p) for p in self._session.get_inputs())
        self.outputs = tuple(_port(p) for p in self._session.get_outputs())
        kind, _, index = self.device.partition(":")
        numbers = all(p.numpy is not None and p.dtype != "string" for p in (*self.inputs, *self.outputs))
        self._bindings: Bindings | None = None
        if numbers and (bind or (bind is None and kind == "cuda")):
            self._bindings = Bindings(ort, self._session, (kind, int(index or 0)), graphs=self.graphs)

    def _record(self, ort: ModuleType, source: str | bytes, options: Any, bind: bool | None) -> None:
        """Take a session that records launches, where all shapes are fixed and a run shows that it can be recorded."""
        ports = (*self.inputs, *self.outputs)  # outputs too: their size may depend on values, as that of NonZero
        if not self.inputs or not all(isinstance(d, int) for port in ports for d in port.shape):
            return
        plain, index = (self._session, self._bindings), self.device.partition(":")[2]
        try:
            asked = ("cuda", int(index or 0))
            self._session, self.device = open_session(ort, source, asked, options, self.file, graphs=True)
            self.graphs = True
            self._face(ort, bind)
            self.warm_up()
        except NetferryError:  # a part of the network runs on the processor, or its shapes depend on values
            self.graphs = False
            self._session, self._bindings = plain

    def __repr__(self) -> str:
        return f"<Session {self.file or 'from bytes'} on {self.device}>"

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Run the model once; may be called from several threads at a time.

        Args:
            feeds: an array for every input, of its element type and rank.
            outputs: names of the wanted outputs; None for all. What only others need is not fetched.

        Raises:
            UsageError: an input is missing, surplus or of another type or shape; no such output.
            OutOfMemory: the device's memory does not suffice.
            LimitExceeded: the run takes more than the session's budget.
            CheckFailed: onnxruntime fails while it runs.
        """
        self._check_feeds(feeds)
        known = [p.name for p in self.outputs]
        wanted = known if outputs is None else list(outputs)
        for name in wanted:
            if name not in known:
                raise UsageError(f"no output {quoted(name)} (there are {_listed(known)})", file=self.file)
        arrays = {n: np.asarray(v, order="C") if isinstance(v, np.ndarray) else v for n, v in feeds.items()}
        try:
            if self.budget is not None:
                results = self.budget.run(self._ort, self._session, wanted, arrays, self.file)
            else:
                runner = self._session if self._bindings is None else self._bindings
                results = runner.run(wanted, arrays)
        except NetferryError:
            raise
        except Exception as error:  # onnxruntime's classes share no base of their own
            reason = said(error)
            if any(sign in reason for sign in _NO_MEMORY):
                raise OutOfMemory(f"not enough memory on {self.device}: {reason}", file=self.file) from error
            raise CheckFailed(f"onnxruntime failed while running: {reason}", file=self.file) from error
        return dict(zip(wanted, results, strict=True))

    def warm_up(self, batch: int = 1) -> None:
        """Run once on zeros, so that the next run is as fast as the following ones; dynamic sizes but the batch are 1.

        Raises:
            UsageError: an input of a type that no zeros can be made for.
            OutOfMemory, CheckFailed: as :meth:`run`.
        """
        feeds: dict[str, np.ndarray] = {}
        for port in self.inputs:
            if port.numpy is None or port.numpy.kind == "O":
                raise UsageError(f"input {port} is of a type that no zeros can be made for", file=self.file)
            dims = [d if isinstance(d, int) else 1 if axis else batch for axis, d in enumerate(port.shape)]
            feeds[port.name] = np.zeros(dims, port.numpy)
        self.run(feeds)

    def _check_feeds(self, feeds: Mapping[str, np.ndarray]) -> None:
        known = {p.name: p for p in self.inputs}
        if missing := [n for n in known if n not in feeds]:
            raise UsageError(f"no values for input {_listed(missing)}", file=self.file)
        if surplus := [n for n in feeds if n not in known]:
            raise UsageError(f"no input {_listed(surplus)} (there are {_listed(list(known))})", file=self.file)
        for name, port in known.items():
            array, wanted = feeds[name], port.numpy
            if wanted is None:
                continue  # a sequence or map, or a type that numpy lacks: onnxruntime judges
            if not isinstance(array, np.ndarray):
                raise UsageError(f"input {port}: expected a numpy array, got {type(array).__name__}", file=self.file)
            if array.dtype != wanted and not (wanted.kind == "O" and array.dtype.kind in "US"):
                raise UsageError(f"input {port}: the array is of {array.dtype}, not {wanted}", file=self.file)
            # onnxruntime reports a scalar and an unknown rank alike as no dimensions
            if port.shape and not _fits(array.shape, port.shape):
                raise UsageError(f"input {port}: the array is of shape {list(array.shape)}", file=self.file)


def _fits(shape: Sequence[int], wanted: Sequence[int | str | None]) -> bool:
    if len(shape) != len(wanted):
        return False
    return all(not isinstance(w, int) or w == got for got, w in zip(shape, wanted, strict=True))


def _readable(path: Path) -> str:
    """Absolute path of a file that can be opened: external data is looked for beside it."""
    with open_regular(path) as file:
        if not file.read(1):
            raise MalformedFile("the file is empty", file=path)
    return os.path.abspath(path)


def _port(argument: Any) -> Port:
    kind = str(argument.type)
    dtype = kind[len("tensor(") : -1] if kind.startswith("tensor(") else kind
    # a size of -1 is as good as not told
    told = (d if isinstance(d, str) or (isinstance(d, int) and d >= 0) else None for d in argument.shape or ())
    return Port(str(argument.name), dtype, tuple(told))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(quoted(n) for n in names[:8]) + (" …" if len(names) > 8 else "")
