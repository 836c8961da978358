"""Input shapes of a model fixed on request: a named dimension gets its number wherever the name stands."""

from __future__ import annotations

from collections.abc import Iterator

from netferry.converters.options import ReadOptions
from netferry.errors import UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.metadata import all_graphs, all_nodes
from netferry.schemas.model import Model


def fix_shapes(model: Model, options: ReadOptions) -> None:
    """Apply ``options.batch`` (the first dimension of every input) and ``options.input_shapes``.

    Raises:
        UsageError: no such input, another rank, or a dimension that the file fixes otherwise.
    """
    if options.batch is None and not options.input_shapes:
        return
    inputs = {v.name: v for v in model.graph.inputs if v.name not in model.graph.initializers}
    numbers: dict[str, int] = {}
    for name in options.input_shapes:
        if name not in inputs:
            known = ", ".join(quoted(n) for n in inputs)
            raise UsageError(f"no input {quoted(name)}; there are {known}")
    for name, value in inputs.items():
        wanted = list(options.input_shapes.get(name or "", ()))
        if value.shape is None:
            if wanted:
                value.shape = ir.Shape(wanted)
            continue
        if wanted and len(wanted) != len(value.shape):
            raise UsageError(f"input {quoted(name)} has {len(value.shape)} dimensions, {len(wanted)} were given")
        if options.batch is not None and len(value.shape) > 0 and _may_be_batch(value):
            wanted = [options.batch, *wanted[1:]] if wanted else [options.batch, *[None] * (len(value.shape) - 1)]
        for axis, (old, new) in enumerate(zip(value.shape, wanted, strict=False)):
            if new is None or old == new:
                continue
            if isinstance(old, int):
                raise UsageError(f"dimension {axis} of input {quoted(name)} is {old} in the file, {new} was asked for")
            if old.value is not None and numbers.setdefault(old.value, new) != new:
                raise UsageError(f"dimension {quoted(old.value)} would be both {numbers[old.value]} and {new}")
        fixed = [
            new if new is not None else old for old, new in zip(value.shape, [*wanted, *[None] * 64], strict=False)
        ]
        value.shape = ir.Shape(fixed)
    for value in _values(model.ir):
        if value.shape is not None and any(not isinstance(d, int) and d.value in numbers for d in value.shape):
            value.shape = ir.Shape([d if isinstance(d, int) else numbers.get(d.value or "", d) for d in value.shape])


def _may_be_batch(value: ir.Value) -> bool:
    """An integer scalar setting (rank 0) has no batch; everything else does, unless the file fixes it."""
    return value.shape is not None and not isinstance(value.shape[0], int)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in all_graphs(model):
        yield from graph.inputs
        yield from graph.outputs
    for node in all_nodes(model):
        yield from node.outputs
