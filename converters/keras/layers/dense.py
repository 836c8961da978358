"""Dense: a matrix on the last axis, whatever lies where."""

from __future__ import annotations

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layout import KT, channels_first, matrix_to_pointwise
from netferry.converters.keras.quantized import restore, rounded, slots
from netferry.converters.keras.registry import Slot, kernel_and_bias, layer
from netferry.converters.keras.spec import Spec
from netferry.schemas.graph import Builder


def _slots(spec: Spec) -> list[Slot]:
    return slots(spec, *(s.name for s in kernel_and_bias(spec)))


@layer("Dense", weights=_slots, mask="keep")
def dense(b: Builder, l: Layer, x: KT) -> KT:
    """Keras keeps the kernel as (in, out): Gemm on rank 2, MatMul and Add above, a Conv of size 1 on pictures."""
    units = l.config.integer("units", least=1, also=("output_dim",))
    size = l.dim(x, -1, "the size of the last axis")
    biased = l.config.flag("use_bias", True, also=("bias",))
    l.config.ignore("input_dim", "input_length")
    restore(l, "kernel")
    x = rounded(b, l, x, [x.rank - 1])
    bias = l.weight(b, "bias", "bias", (units,)) if biased else None
    return activate(b, l, project(b, l, x, "kernel", "weight", size, units, bias), l.config.take("activation", None))


def project(b: Builder, l: Layer, x: KT, slot: str, name: str, size: int, units: int, bias: object = None) -> KT:
    """Multiply the last axis by the (size, units) matrix in ``slot`` and add ``bias``, without moving an axis."""
    from netferry.schemas.ir import ir

    add = bias if isinstance(bias, ir.Value) else None
    if x.rank == 2:
        if x.flat is not None:
            flat = x.flat
            to = (size, units)
            kernel = l.weight(
                b, slot, name, (size, units), transform=flat.view, to=to, variant=("flat", flat.sizes, flat.order)
            )
            value = x.value
        else:
            kernel = l.weight(b, slot, name, (size, units))
            value = x.logical(b)
        return KT.of(b.op("Gemm", value, kernel, add) if add is not None else b.op("MatMul", value, kernel))
    if x.rank in (3, 4, 5) and x.order == channels_first(x.rank):
        rank = x.rank - 2
        kernel = l.weight(
            b, slot, name, (size, units), transform=matrix_to_pointwise(rank), variant=("pointwise", rank)
        )
        return KT(b.op("Conv", x.value, kernel, add, kernel_shape=[1] * rank), x.order)
    order = x.order if x.order[-1] == x.rank - 1 else tuple(range(x.rank))
    made = b.op("MatMul", x.to(b, order), l.weight(b, slot, name, (size, units)))
    return KT(made if add is None else b.op("Add", made, add), order)
