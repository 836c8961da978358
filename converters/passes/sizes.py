"""Shapes of all values for one choice of the dynamic dimensions: what costs are counted at."""

from __future__ import annotations

from collections.abc import Mapping

from netferry.converters.passes.dims import Dims
from netferry.converters.passes.opset_types import inferred_copy, made_values, without_weights
from netferry.converters.passes.optimize import optimize
from netferry.converters.passes.outside import OUTSIDE
from netferry.errors import NetferryError
from netferry.schemas.copying import copied
from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape
from netferry.schemas.model import Model, Source

Shape = tuple[int | None, ...]
_BATCH = ("batch", "batch_size", "batchsize", "n")
_TIME = ("time", "sequence", "steps", "seq", "length", "frames")


def sizes_at(model: Model, sizes: Mapping[str, int], batch: int = 1) -> tuple[dict[ir.Value, Shape], dict[str, int]]:
    """Return the shape of every value at given sizes of the dynamic dimensions, and the sizes taken.

    A dynamic dimension that ``sizes`` does not name is taken for the batch where it is called so, or where it is the
    first of an input, is not called a time, and nothing else of that input is called batch; any other stays unknown,
    and with it what depends on it.

    Args:
        model: the model; it is not changed.
        sizes: dimension name: size.
        batch: the batch size.
    """
    taken = dict(sizes)
    copy = without_weights(model.ir)
    for value in copy.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape(_dims(value, taken, batch))
    for value in made_values(copy.graph):
        if value.shape is not None and any(not isinstance(d, int) for d in value.shape):
            value.shape = None  # to be found again at the sizes taken
    inferred = inferred_copy(copy) or copy
    if _unknown(inferred, taken):
        _follow(inferred)  # arithmetic on shapes that onnx's inference does not follow
        inferred = inferred_copy(inferred) or inferred
    if _unknown(inferred, taken) and all(_is_known(v, taken) for v in inferred.graph.inputs):
        _compute(inferred)
    found: dict[ir.Value, Shape] = {}
    for mine, theirs in zip(made_values(model.graph), made_values(inferred.graph), strict=True):
        shape = _shape(theirs, taken)
        if shape is None or None in shape:
            recorded = _shape(mine, taken)
            shape = recorded if shape is None or (recorded is not None and None not in recorded) else shape
        if shape is not None:
            found[mine] = shape
    for mine, theirs in zip(model.graph.inputs, inferred.graph.inputs, strict=False):
        if (shape := _shape(theirs, taken)) is not None:
            found[mine] = shape
    for value in model.graph.initializers.values():
        if value.shape is not None or value.const_value is not None:
            found[value] = static_shape(value)
    return found, taken


def _unknown(model: ir.Model, taken: Mapping[str, int]) -> bool:
    return not all(_is_known(v, taken) for v in made_values(model.graph))


def _is_known(value: ir.Value, taken: Mapping[str, int]) -> bool:
    shape = _shape(value, taken)
    return shape is not None and None not in shape


def _compute(model: ir.Model) -> None:
    """Write down the shapes that are known once everything that does not depend on the inputs' values is computed."""
    folded = Model(copied(model), source=Source("onnx"))
    try:
        optimize(folded, "safe", disable=tuple(OUTSIDE))
        again = inferred_copy(folded.ir) or folded.ir
    except NetferryError:
        return
    known = {v.name: v.shape for v in made_values(again.graph) if v.shape is not None and v.shape.is_static()}
    known |= {n: v.shape for n, v in again.graph.initializers.items() if v.shape is not None}
    for value in made_values(model.graph):
        if value.name in known and (value.shape is None or not value.shape.is_static()):
            value.shape = known[value.name]


def _follow(model: ir.Model) -> None:
    """Write down the shapes that follow from arithmetic on shapes."""
    dims = Dims(model)
    for value in made_values(model.graph):
        known = dims.static(value)
        if known is not None and None not in known:
            value.shape = ir.Shape(list(known))


def _dims(value: ir.Value, taken: dict[str, int], batch: int) -> list[int | str | None]:
    shape = value.shape or ()
    names = ["" if isinstance(d, int) else str(d.value or "") for d in shape]
    called = any(n.lower() in _BATCH for n in names)
    out: list[int | str | None] = []
    for axis, dim in enumerate(shape):
        name = names[axis]
        if isinstance(dim, int):
            out.append(dim)
        elif name and name in taken:
            out.append(taken[name])
        elif name.lower() in _BATCH or (axis == 0 and not called and not _is_time(name)):
            taken[name or "batch"] = batch
            out.append(batch)
        else:
            out.append(name or None)
    return out


def _is_time(name: str) -> bool:
    return any(word in name.lower() for word in _TIME)


def _shape(value: ir.Value, taken: Mapping[str, int]) -> Shape | None:
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else taken.get(str(d.value)) for d in value.shape)
