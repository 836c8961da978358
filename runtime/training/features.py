"""Features of a frozen trunk, computed once: by onnxruntime, or by torch on a GPU."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netferry.runtime.session import Session
from netferry.runtime.training.examples import ArrayExamples, Examples
from netferry.schemas.model import Model
from netferry.schemas.publish import temporary_folder

Export = Callable[[Model, Path], Any]
"""Writes a model as ONNX (netferry.api.save)"""
IN_MEMORY = 1 << 30
"""Features of more bytes than this lie in a file that is mapped, not read"""
MOST = 32 << 30
"""Features of more bytes than this are not kept at all"""
Run = Callable[[list[np.ndarray]], list[np.ndarray]]


class Featurizer:
    """Computes what a trunk gives, for sets of examples.

    Args:
        trunk: the frozen half of a network.
        export: writes it as ONNX.
        module: the same as a torch module, for a GPU.
        device: the GPU that torch runs on; None for the processor, where onnxruntime is the fastest.
        folder: where large features are kept while training; they vanish with the process.
        batch: examples per run.
    """

    def __init__(
        self,
        trunk: Model,
        export: Export,
        *,
        module: nn.Module | None = None,
        device: str | None = None,
        batch: int = 16,
        folder: Path | None = None,
    ) -> None:
        self.batch, self._folder = batch, folder
        self.engine = "onnxruntime" if device is None or module is None else "torch"
        if device is None or module is None:
            with temporary_folder() as scratch:
                path = Path(scratch) / "trunk.onnx"
                export(trunk, path)
                session = Session(path, device="cpu", threads=torch.get_num_threads())
                self._run: Run = lambda arrays: list(  # batch norms are folded when the session is made
                    session.run({p.name: a for p, a in zip(session.inputs, arrays, strict=True)}).values()
                )
                self._session = session
        else:
            self._run = _on_gpu(module, device)

    def __call__(self, examples: Examples) -> ArrayExamples | None:
        """Return the examples behind the trunk; None where they would take more than 32 GiB."""
        count = len(examples)
        kept: list[np.ndarray] = []
        for start in range(0, count, self.batch):
            rows = list(range(start, min(start + self.batch, count)))
            found = self._run(examples.inputs(rows))
            if not kept:
                if sum(f[0].nbytes for f in found) * count > MOST:
                    return None
                kept = [self._room((count, *f.shape[1:]), f.dtype) for f in found]
            for place, values in zip(kept, found, strict=True):
                place[start : start + len(rows)] = values
        return ArrayExamples(kept, examples.targets)

    def behind(self, examples: Examples) -> Behind:
        """The same examples, each seen through the trunk anew every time: for augmented ones."""
        return Behind(examples, self._run)

    def _room(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if int(np.prod(shape)) * dtype.itemsize <= IN_MEMORY:
            return np.empty(shape, dtype)
        with tempfile.TemporaryFile(dir=self._folder, prefix=".features.") as file:  # the map keeps it alive
            return np.memmap(file, dtype, "w+", shape=shape)


class Behind:
    """Examples as a trunk shows them, run each time they are asked for."""

    read = False  # by this process: it holds the session

    def __init__(self, examples: Examples, run: Run) -> None:
        self.examples, self._run, self.targets = examples, run, examples.targets
        self.augmented = examples.augmented

    def __len__(self) -> int:
        return len(self.examples)

    def inputs(self, rows: Sequence[int], draws: Sequence[int] | None = None) -> list[np.ndarray]:
        """What the trunk gives for these examples; see :class:`netferry.runtime.training.examples.Examples`."""
        return self._run(self.examples.inputs(rows, draws))


def _on_gpu(module: nn.Module, device: str) -> Run:
    module = module.to(device)

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            made = module(*(torch.from_numpy(a).to(device) for a in arrays))
        return [t.float().cpu().numpy() for t in ([made] if isinstance(made, Tensor) else made)]

    return run
