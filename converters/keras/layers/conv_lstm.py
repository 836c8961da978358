"""ConvLSTM: an LSTM whose products are convolutions, as a Scan with one Conv inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layers.convolution import spatial_rank, turned
from netferry.converters.keras.layers.padding import padding_of
from netferry.converters.keras.layers.recurrent import finish, starts
from netferry.converters.keras.layers.recurrent_masks import Steps, mask_of
from netferry.converters.keras.layers.recurrent_native import Ran
from netferry.converters.keras.layers.recurrent_scan import scan
from netferry.converters.keras.layers.recurrent_weights import Wanted, parameter
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT, channels_first, channels_last_to_first
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

_GATES = "ifco"
_OLD_ORDER = "icfo"
"""Keras 1 keeps a kernel, a recurrent kernel and a bias per gate, in this order."""


def _slots(spec: Spec) -> list[Slot]:
    if spec.generation == 1:
        return [Slot(f"cell/{what}_{gate}") for gate in _OLD_ORDER for what in "WUb"]
    biased = bool(spec.config.get("use_bias", True))
    return [Slot(f"cell/{name}") for name in ("kernel", "recurrent_kernel", "bias")[: 3 if biased else 2]]


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", weights=_slots, mask="own")
def conv_lstm(b: Builder, l: Layer, x: KT, *given: KT) -> KT | tuple[KT, ...]:
    """The input's convolution is done for all steps at once; the Scan holds the one over the state."""
    rank = spatial_rank(l)
    l.rank(x, rank + 3)
    filters = l.config.integer("filters", least=1, also=("nb_filter",))
    kernel = (
        (l.config.integer("nb_row", least=1), l.config.integer("nb_col", least=1))
        if "nb_row" in l.config
        else l.config.integers("kernel_size", rank, least=1)
    )
    data_format = l.data_format()
    step_order = channels_first(rank + 2, data_format)
    order = (1, 0, *(a + 1 for a in step_order[1:]))
    backwards, zeroed = l.config.flag("go_backwards", False), l.config.flag("zero_output_for_mask", False)
    l.config.ignore("dropout", "recurrent_dropout", "unit_forget_bias", "seed", "dropout_W", "dropout_U", "input_dim")
    value = as_float(b, x).to(b, order)
    channels = l.dim(x, order[2])
    projected = _projected(b, l, value, channels, filters, kernel)
    space = shape_of(projected)[3:]
    sizes: list[Dim] = [filters, *space] if data_format == "channels_first" else [*space, filters]
    initial, carry = starts(b, l, given, [sizes, sizes], x.shape[0], step_order)
    if initial is None:
        initial = [_zeros(b, projected, filters)] * 2
    recurrent = _kernel(b, l, "recurrent_kernel", filters, filters, kernel)
    same = padding_of("same", space, kernel, [1] * rank, [1] * rank).attributes
    activation = l.config.take("activation", "tanh")
    old = "hard_sigmoid" if l.generation <= 2 else "sigmoid"
    gate_activation = l.config.take("recurrent_activation", old, also=("inner_activation",))

    def step(body: Builder, now: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
        def apply(value: ir.Value, name: object) -> ir.Value:
            return activate(body, l, KT(value, step_order), name).value

        h, c = states
        inner = body.op("Conv", h, recurrent, kernel_shape=list(kernel), **same)
        i, f, g, o = body.op("Split", body.op("Add", now, inner), outputs=4, num_outputs=4, axis=1)
        kept = body.op("Mul", apply(f, gate_activation), c)
        memory = body.op("Add", kept, body.op("Mul", apply(i, gate_activation), apply(g, activation)))
        return [body.op("Mul", apply(o, gate_activation), apply(memory, activation)), memory]

    mask = mask_of(l, x)
    counts: ir.Value | None = None
    if mask is not None:
        steps = Steps(b, mask, padded=False, time_major=False)
        counts = b.op("Unsqueeze", steps.stepwise, b.const(list(range(3, rank + 3)), "axes"))
    outputs, last, finals = scan(b, projected, initial, counts, step, backwards=backwards, zeroed=zeroed)
    carry(finals)
    ran = Ran(KT(outputs, order), last, finals)
    return finish(b, l, ran, finals, mask or x.mask, time_axis=1, backwards=backwards, order=step_order)


def _kernel(b: Builder, l: Layer, name: str, channels: int, filters: int, kernel: Sequence[int]) -> ir.Value:
    """A kernel as (4 * filters, channels, space …)."""
    transform = turned(l, channels_last_to_first, len(kernel))
    shape = (4 * filters, channels, *kernel)
    if l.generation == 1:
        what = "W" if name == "kernel" else "U"
        wanted: list[Wanted] = [(f"cell/{what}_{gate}", (*kernel, channels, filters)) for gate in _GATES]
    else:
        wanted = [(f"cell/{name}", (*kernel, channels, 4 * filters))]
    return parameter(
        b, l, "weight" if name == "kernel" else "recurrent_weight", wanted, shape,
        lambda arrays: np.concatenate([transform(a) for a in arrays]),
    )  # fmt: skip


def _projected(b: Builder, l: Layer, value: ir.Value, channels: int, filters: int, kernel: tuple[int, ...]) -> ir.Value:
    """The input's convolution: (time, batch, channels, …) to (time, batch, 4 * filters, …)."""
    rank = len(kernel)
    bias: ir.Value | None = None
    if l.config.flag("use_bias", True):
        wanted: list[Wanted] = (
            [(f"cell/b_{gate}", (filters,)) for gate in _GATES]
            if l.generation == 1
            else [("cell/bias", (4 * filters,))]
        )
        bias = parameter(b, l, "bias", wanted, (4 * filters,), np.concatenate)
    strides = l.config.integers("strides", rank, 1, least=1, also=("subsample",))
    dilation = l.config.integers("dilation_rate", rank, 1, least=1)
    kind = l.config.choice("padding", "valid", "valid", "same", also=("border_mode",))
    time, batch, *rest = shape_of(value)
    if all(isinstance(d, int) for d in rest):
        joined = b.reshape(value, [-1, *(d for d in rest if isinstance(d, int))])
    else:
        joined = b.op("Reshape", value, b.op("Concat", [-1], b.op("Shape", value, start=2), axis=0))
        joined.shape = ir.Shape([None, *rest])
    padding = padding_of(kind, rest[1:], kernel, strides, dilation)
    made = b.op(
        "Conv",
        joined,
        _kernel(b, l, "kernel", channels, filters, kernel),
        bias,
        kernel_shape=list(kernel),
        strides=list(strides) if any(s != 1 for s in strides) else None,
        dilations=list(dilation) if any(d != 1 for d in dilation) else None,
        **padding.attributes,
    )
    after = shape_of(made)[1:]
    fixed = [d for d in after if isinstance(d, int)]
    if len(fixed) == len(after) and isinstance(time, int):
        return b.reshape(made, [time, -1, *fixed])
    target = b.op("Concat", b.op("Shape", value, start=0, end=2), b.op("Shape", made, start=1), axis=0)
    out = b.op("Reshape", made, target)
    out.shape = ir.Shape([time, batch, *after])
    return out


def _zeros(b: Builder, projected: ir.Value, filters: int) -> ir.Value:
    """The state to begin with."""
    _, batch, _, *space = shape_of(projected)
    fixed = [d for d in (batch, *space) if isinstance(d, int)]
    if len(fixed) == 1 + len(space):
        return b.const(np.zeros((fixed[0], filters, *fixed[1:]), np.float32), "zeros")
    parts = [b.op("Shape", projected, start=1, end=2), b.const([filters], "filters"), b.op("Shape", projected, start=3)]
    made = b.op("Expand", b.const(0.0, "zero"), b.op("Concat", *parts, axis=0))
    made.shape = ir.Shape([batch, filters, *space])
    return made
