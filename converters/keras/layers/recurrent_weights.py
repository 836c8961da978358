"""Kernels and biases of recurrent cells in the forms that graphs want, made from the arrays of the file when read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from netferry.converters.keras.layer import Layer, regrouped
from netferry.converters.keras.layers.recurrent_cells import GATES, Cell
from netferry.errors import WeightsError
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.tensors import computed_tensor, uninitialised_tensor

_ONNX_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
"""Keras's i f c o to ONNX's i o f c; z r h in both."""
_SPLIT_ORDER = {"LSTM": "ifco", "GRU": "zrh"}
"""Names of Keras 1's single gates, in the order of later generations."""

Wanted = tuple[str, tuple[int, ...]]


def parameter(
    b: Builder,
    l: Layer,
    name: str,
    wanted: Sequence[Wanted],
    shape: tuple[int, ...],
    make: Callable[[list[np.ndarray]], np.ndarray],
    cell: Cell | None = None,
) -> ir.Value:
    """Add ``<layer>.<name>``, of a cell or its own, which ``make`` computes from variables (slot, shape in the file).

    Raises:
        WeightsError: a stored shape does not fit.
    """
    arrays = [l.stored(slot) for slot, _ in wanted]
    for array, (slot, expected) in zip(arrays, wanted, strict=True):
        if array is not None and not regrouped(array.shape, expected):
            raise WeightsError(
                f"{slot} has shape {array.shape} in the file, the layer needs {expected}", layer=l.path, file=array.path
            )
    known = [a for a in arrays if a is not None]
    if len(known) == len(arrays):
        forms = [expected for _, expected in wanted]
        tensor: ir.TensorProtocol = computed_tensor(
            lambda: make([a.read().reshape(s) for a, s in zip(known, forms, strict=True)]), ir.DataType.FLOAT, shape
        )
    else:
        tensor = uninitialised_tensor(shape, filler=_filler(name, wanted[0][1]))
    value = b.param(name, tensor, key=(l.prefix, id(l.spec), name, tuple(slot for slot, _ in wanted)))
    return l.held(value, learns=cell is None or cell.trainable)


def _filler(name: str, shape: tuple[int, ...]) -> dict[str, object]:
    if len(shape) < 2 or name in ("B", "bias"):
        return {"type": "constant", "value": 0.0}
    return {"type": "xavier", "variance_norm": "AVERAGE", "fan_in": shape[-2], "fan_out": shape[-1]}


def matrix_slots(cell: Cell, recurrent: bool, rows: int) -> list[Wanted]:
    """The variables that hold a cell's kernel or recurrent kernel."""
    if cell.form == "split":
        what = "U" if recurrent else "W"
        return [(f"{cell.path}{what}_{g}", (rows, cell.units)) for g in _SPLIT_ORDER[cell.kind]]
    name = "recurrent_kernel" if recurrent else "kernel"
    return [(cell.path + name, (rows, GATES[cell.kind] * cell.units))]


def gate_matrices(cell: Cell, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A kernel's (rows, units) matrix of each gate, in Keras's order of gates."""
    if cell.form == "split":
        return list(arrays)
    blocks = np.split(arrays[0], GATES[cell.kind], axis=1)
    if cell.form == "cudnn":  # cuDNN reads the buffer of each as (units, rows)
        return [np.ascontiguousarray(k).reshape(k.shape[1], k.shape[0]).T for k in blocks]
    return blocks


def bias_slots(cell: Cell) -> list[Wanted]:
    """The variables that hold a cell's biases."""
    if cell.form == "split":
        return [(f"{cell.path}b_{g}", (cell.units,)) for g in _SPLIT_ORDER[cell.kind]]
    whole = GATES[cell.kind] * cell.units
    return [(f"{cell.path}bias", (2, whole) if cell.bias_size == 2 * whole else (cell.bias_size,))]


def gate_biases(cell: Cell, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bias of each gate in Keras's order; those of the recurrent kernel follow where there are such."""
    if cell.form == "split":
        return list(arrays)
    return np.split(arrays[0].reshape(-1), cell.bias_size // cell.units)


def onnx_matrix(b: Builder, l: Layer, cells: Sequence[Cell], recurrent: bool, rows: int) -> ir.Value:
    """W or R of an ONNX node: (directions, gates * units, rows)."""
    wanted = [matrix_slots(cell, recurrent, rows) for cell in cells]
    count = len(wanted[0])

    def make(arrays: list[np.ndarray]) -> np.ndarray:
        directions: list[np.ndarray] = []
        for i, cell in enumerate(cells):
            gates = gate_matrices(cell, arrays[i * count : (i + 1) * count])
            directions.append(np.concatenate([gates[g].T for g in _ONNX_ORDER[cell.kind]]))
        return np.stack(directions)

    shape = (len(cells), GATES[cells[0].kind] * cells[0].units, rows)
    name, both = "R" if recurrent else "W", [w for direction in wanted for w in direction]
    return parameter(b, l, name, both, shape, make, cells[0])


def onnx_bias(b: Builder, l: Layer, cells: Sequence[Cell]) -> ir.Value | None:
    """B of an ONNX node: (directions, 2 * gates * units), or None.

    Keras has one bias where ONNX has two (of input and recurrence): the second is a constant of zeros, so that what
    is learnt stays what Keras learns.
    """
    cell = cells[0]
    if not cell.biased:
        return None
    wanted = [bias_slots(c) for c in cells]
    count = len(wanted[0])
    gates = GATES[cell.kind]

    def make(arrays: list[np.ndarray]) -> np.ndarray:
        directions: list[np.ndarray] = []
        for i, c in enumerate(cells):
            found = gate_biases(c, arrays[i * count : (i + 1) * count])
            order = _ONNX_ORDER[c.kind]
            parts = [found[g] for g in order] + [found[gates + g] for g in order if len(found) > gates]
            directions.append(np.concatenate(parts))
        return np.stack(directions)

    shape = (len(cells), cell.bias_size)
    bias = parameter(b, l, "B", [w for direction in wanted for w in direction], shape, make, cell)
    if cell.double_bias:
        return bias
    return b.op("Concat", bias, b.const(np.zeros(shape, np.float32), "recurrent_bias"), axis=1)


def keras_matrix(b: Builder, l: Layer, cell: Cell, recurrent: bool, rows: int) -> ir.Value:
    """The kernel or recurrent kernel as Keras 2 and 3 keep it: (rows, gates * units)."""
    name = "recurrent_kernel" if recurrent else "kernel"
    shape = (rows, GATES[cell.kind] * cell.units)
    wanted = matrix_slots(cell, recurrent, rows)
    return parameter(b, l, name, wanted, shape, lambda a: np.concatenate(gate_matrices(cell, a), axis=1), cell)


def keras_bias(b: Builder, l: Layer, cell: Cell) -> ir.Value:
    """The biases as one vector, gates in Keras's order."""
    size = (cell.bias_size,)
    return parameter(b, l, "bias", bias_slots(cell), size, lambda a: np.concatenate(gate_biases(cell, a)), cell)
