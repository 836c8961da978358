"""Runs with inputs and outputs bound to buffers on the device: no allocation per run, copies from page-locked memory.

One set of buffers for each combination of input shapes. With CUDA graphs the launches of a run are recorded once and
replayed: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#using-cuda-graphs-preview
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

_MOST_SHAPES = 8
"""sets of buffers that are kept; the one not used for the longest time makes room"""


class Bindings:
    """The buffers of a session. May be shared between threads; runs with the same shapes wait for one another.

    Args:
        ort: onnxruntime.
        session: its session.
        device: ``cuda`` or ``cpu``, and which one.
        graphs: record CUDA graphs; the session must have been made with ``enable_cuda_graph``.
    """

    def __init__(self, ort: ModuleType, session: Any, device: tuple[str, int], *, graphs: bool = False) -> None:
        self._ort, self._session, self._device, self._graphs = ort, session, device, graphs
        self._kept: OrderedDict[Any, _Bound] = OrderedDict()
        self._lock = threading.Lock()
        self._made = 0

    def run(self, wanted: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[Any]:
        """Return the wanted outputs; errors as onnxruntime raises them."""
        key = (tuple(wanted), tuple((name, a.shape, a.dtype.str) for name, a in feeds.items()))
        with self._lock:
            bound = self._kept.get(key)
            if bound is None:
                self._made += 1
                bound = _Bound(
                    self._ort, self._session, self._device, wanted, feeds, self._made if self._graphs else None
                )
                self._kept[key] = bound
                if len(self._kept) > _MOST_SHAPES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        return bound.run(feeds)


class _Bound:
    """Buffers for inputs of certain shapes."""

    def __init__(
        self,
        ort: ModuleType,
        session: Any,
        device: tuple[str, int],
        wanted: Sequence[str],
        feeds: Mapping[str, np.ndarray],
        graph: int | None,
    ) -> None:
        self._session, self._graph, self._lock = session, graph, threading.Lock()
        self._binding: Any = session.io_binding()
        self._inputs: dict[str, Any] = {}
        self._options: Any = ort.RunOptions()
        self._pinned: dict[str, Any] = {}
        pinned = _page_locked(ort, device) if graph is None else None
        for name, array in feeds.items():
            if pinned is not None:  # the device fetches it from here by itself, beside its work
                value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, memory_info=pinned)
                self._pinned[name] = value.numpy()
            else:
                value = ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), *device)
            self._inputs[name] = value
            self._binding.bind_ortvalue_input(name, value)
        for name in wanted:
            self._binding.bind_output(name, *device)
        if graph is not None:
            self._fix_outputs(ort, device, wanted)

    def _fix_outputs(self, ort: ModuleType, device: tuple[str, int], wanted: Sequence[str]) -> None:
        """A recorded graph writes to the places that it wrote to when it was recorded."""
        self._options.add_run_config_entry("gpu_graph_id", "-1")  # not recorded
        self._session.run_with_iobinding(self._binding, self._options)
        made = self._binding.get_outputs()
        self._binding.clear_binding_outputs()
        for name, value in zip(wanted, made, strict=True):
            dtype = value.numpy().dtype.type
            fixed = ort.OrtValue.ortvalue_from_shape_and_type(value.shape(), dtype, *device)
            self._binding.bind_ortvalue_output(name, fixed)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(self._graph))

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[Any]:
        """Copy in, run, copy out."""
        with self._lock:
            for name, array in feeds.items():
                if name in self._pinned:
                    self._pinned[name][...] = array
                else:
                    self._inputs[name].update_inplace(array)
            self._session.run_with_iobinding(self._binding, self._options)
            # a copy: on the processor the arrays would be the buffers of the next run
            return [np.array(value.numpy()) for value in self._binding.get_outputs()]


def _page_locked(ort: ModuleType, device: tuple[str, int]) -> Any:
    """Memory of the host that the device reads directly, or None where onnxruntime does not offer it."""
    if device[0] != "cuda":
        return None
    try:
        found = [d for d in ort.get_ep_devices() if d.ep_name == "CUDAExecutionProvider"]
        return found[device[1]].memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return None
