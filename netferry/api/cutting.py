"""A part of a network, from and to named layers or tensors, with what its ends are where the file does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from netferry.api.run_budget import run_budget
from netferry.errors import NetferryError

if TYPE_CHECKING:
    from netferry.schemas.ir import ir
    from netferry.schemas.model import Model

_BYTES = 1 << 28
"""weights of a network that is run to see what its ends are"""


def cut_out(model: Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Keep of a model, in place, what leads from ``inputs`` to ``outputs``.

    A network of an opset that no runtime reads is raised first: only then types along the way are known.

    Raises:
        NetferryError: as :func:`netferry.schemas.subnetwork.cut`.
    """
    from netferry.api.opsets import at_opset
    from netferry.converters.passes.opset_types import annotate
    from netferry.schemas.subnetwork import cut

    at_opset(model, None)
    annotate(model.ir)
    cut(model, inputs, outputs)
    see_outputs(model)


def see_outputs(model: Model, limits: Mapping[str, int] | None = None) -> list[str]:
    """Give outputs that no inference knows (of ai.onnx.ml, of loops) the type and rank that they have in a run, which
    takes no more than ``limits`` allow.

    Returns:
        Their names.
    """
    from netferry.schemas.ir import ir

    bare = [v for v in model.graph.outputs if v.type is None or (isinstance(v.type, ir.TensorType) and v.shape is None)]
    return _see(model, bare, limits) if bare else []


def _see(model: Model, bare: Sequence[ir.Value], limits: Mapping[str, int] | None) -> list[str]:
    import numpy as np

    from netferry.runtime.session import Session
    from netferry.runtime.verify import seeded_inputs
    from netferry.runtime.vocabulary import declared
    from netferry.schemas.ir import ir, own_errors

    budget = run_budget(limits)
    tensors = [v.const_value for v in model.graph.initializers.values()]
    if any(t is None for t in tensors) or sum(t.nbytes for t in tensors if t is not None) > _BYTES:
        return []
    try:
        with own_errors():
            proto = ir.to_proto(model.ir)
        for tensor in proto.graph.initializer:  # values that lie in files come along: a message in memory has no folder
            held = model.graph.initializers[tensor.name].const_value
            if tensor.external_data and held is not None:
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                tensor.raw_data = held.tobytes()
        session = Session(proto.SerializeToString(), "cpu", once=True, budget=budget)
        made = session.run(seeded_inputs(declared(session.inputs, model), 1, 0))
    except NetferryError:
        return []  # the check of what is written tells what is missing
    seen: list[str] = []
    for value in bare:
        array = made.get(value.name or "")
        if not isinstance(array, np.ndarray):
            continue
        seen.append(value.name or "")
        text = array.dtype.kind in "OUS"
        value.type = ir.TensorType(ir.DataType.STRING if text else ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape([None] * array.ndim)
    return seen
