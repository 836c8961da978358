"""A batch size that an exporter fixed, made dynamic: training and features need batches of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netferry.errors import UsageError

if TYPE_CHECKING:
    from netferry.schemas.ir import ir
    from netferry.schemas.model import Model

NAME = "batch"


def with_dynamic_batch(model: Model) -> bool:
    """Make the first dimension of all inputs dynamic, in place; returns whether it was fixed.

    Constant shapes of Reshape that begin with the fixed size take the size of what they reshape instead. Inferred
    shapes are made anew.

    Raises:
        UsageError: the inputs fix different sizes.
    """
    from netferry.schemas.ir import ir
    from netferry.schemas.model import Note
    from netferry.schemas.rehead import tell_shapes

    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers and v.shape is not None]
    sizes = {v.shape[0] for v in inputs if v.shape is not None and len(v.shape) and isinstance(v.shape[0], int)}
    if not sizes:
        return False
    if len(sizes) > 1:
        raise UsageError(f"the network's inputs fix different batch sizes: {sorted(map(str, sizes))}")
    size = sizes.pop()
    for value in inputs:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape([NAME, *value.shape[1:]])
    for node in model.graph:
        if node.op_type == "Reshape":
            _loosen(model, node, int(str(size)))
        for value in node.outputs:
            value.shape = None
    tell_shapes(model.graph)
    model.notes.append(Note("assumed", f"the batch size was fixed to {size}; it is dynamic now"))
    return True


def _loosen(model: Model, node: ir.Node, size: int) -> None:
    import numpy as np

    from netferry.schemas.ir import ir
    from netferry.schemas.tensors import array_of, array_tensor

    wanted = node.inputs[1] if len(node.inputs) > 1 else None
    array = None if wanted is None else array_of(wanted)
    if wanted is None or array is None or array.ndim != 1 or not len(array) or int(array[0]) != size:
        return
    dims = np.array(array, np.int64)
    dims[0] = 0 if -1 in dims else -1
    name = f"{wanted.name}.dynamic"
    fresh = model.graph.initializers.get(name)
    if fresh is None:
        tensor = array_tensor(dims, name)
        fresh = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape([len(dims)]), const_value=tensor)
        model.graph.register_initializer(fresh)
    node.replace_input_with(1, fresh)
