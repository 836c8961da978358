"""Blobs: the arrays of a weights file, known by place and shape and read only when written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from netferry.errors import WeightsError
from netferry.schemas.ir import ir


@dataclass(frozen=True)
class Blob:
    """One stored array.

    Attributes:
        shape: as stored.
        legacy: stored as num, channels, height, width (4-D, with leading ones).
        make: gives the tensor in the asked-for shape (of equal element count).
    """

    shape: tuple[int, ...]
    legacy: bool
    make: Callable[[tuple[int, ...]], ir.TensorProtocol]

    @property
    def count(self) -> int:
        """Number of elements."""
        total = 1
        for dim in self.shape:
            total *= dim
        return total

    def tensor(self, shape: Sequence[int], where: str) -> ir.TensorProtocol:
        """Return the values in ``shape``.

        Raises:
            WeightsError: ``shape`` is not that of the blob. As in Caffe, legacy 4-D shapes fit where they differ
                by leading ones only; a vector's shape may carry ones on either side.
        """
        wanted = tuple(int(d) for d in shape)
        if wanted != self.shape and not (self._squeezed(self.shape) == self._squeezed(wanted)):
            raise WeightsError(f"the weights have shape {self.shape}, the layer needs {wanted}", layer=where)
        return self.make(wanted)

    @staticmethod
    def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(d for d in shape if d != 1)

    def array(self) -> np.ndarray:
        """Return the values in the stored shape."""
        return self.make(self.shape).numpy()
