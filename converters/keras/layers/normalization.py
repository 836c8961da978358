"""Normalisations: batch, layer, group, RMS, unit length, spectral."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT, channels_first
from netferry.converters.keras.registry import Slot, below, layer, slots_of
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role


def _batch_slots(spec: Spec) -> list[Slot]:
    slots = [Slot("gamma")] if spec.config.get("scale", True) else []
    slots += [Slot("beta")] if spec.config.get("center", True) else []
    slots += [Slot("moving_mean", False), Slot("moving_variance", False)]
    if spec.config.get("renorm"):
        slots += [Slot(n, False) for n in ("renorm_mean", "renorm_stddev")]
    return slots


@layer("BatchNormalization", "SyncBatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2",
       weights=_batch_slots, mask="keep")  # fmt: skip
def batch_normalization(b: Builder, l: Layer, x: KT) -> KT:
    """(x - moving mean) / sqrt(moving variance + epsilon) * gamma + beta, per channel."""
    axes = l.config.whole_numbers("axis", -1)
    l.config.ignore("momentum", "renorm", "virtual_batch_size", "adjustment", "mode")
    if l.config.take("mode", 0) == 1:
        raise UnsupportedOption("mode=1 (statistics per sample) is not supported", layer=l.path)
    epsilon = l.config.number("epsilon", 1e-3)
    if l.kwargs.get("training") is True and l.generation <= 2 and l.spec.trainable:
        return _by_batch(b, l, x, axes, epsilon)
    if len(axes) != 1:
        return _over_axes(b, l, x, axes, epsilon)
    size = l.dim(x, axes[0])
    axis = axes[0] % x.rank
    if axis == 0:
        raise l.config.bad("axis", axes, "axes other than the batch's")
    transform = None
    variant: object = None
    if x.flat is not None:
        value, order, transform, variant = x.value, x.order, x.flat.rows, ("flat", x.flat.sizes, x.flat.order)
    else:
        order = x.order
        if order[1] != axis:
            rest = [a for a in order if a not in (axis, 0)]
            order = (0, axis, *sorted(rest))
        value = x.to(b, order)

    def part(slot: str, name: str, default: float, role: Role) -> ir.Value:
        if slot == "gamma" and not l.config.flag("scale", True):
            return b.const(np.full(size, default, np.float32), name)
        if slot == "beta" and not l.config.flag("center", True):
            return b.const(np.full(size, default, np.float32), name)
        return l.weight(b, slot, name, (size,), role=role, transform=transform, variant=variant)

    made = b.op(
        "BatchNormalization",
        value,
        part("gamma", "weight", 1.0, Role.LEARNABLE),
        part("beta", "bias", 0.0, Role.LEARNABLE),
        part("moving_mean", "running_mean", 0.0, Role.STATE),
        part("moving_variance", "running_var", 1.0, Role.STATE),
        epsilon=epsilon,
        momentum=min(max(_momentum(l), 0.0), 1.0),
    )
    return x.like(made) if x.flat is not None else KT(made, order)


def _over_axes(b: Builder, l: Layer, x: KT, axes: Sequence[int], epsilon: float) -> KT:
    """Statistics for each element of several axes: Keras 2 keeps them in the tensor's rank, other sizes 1."""
    kept = {a % x.rank for a in axes}
    if not axes or len(kept) != len(axes) or 0 in kept or any(not -x.rank <= a < x.rank for a in axes):
        raise l.config.bad("axis", axes, f"axes of a tensor of rank {x.rank}")
    shape = [l.dim(x, a) if a in kept else 1 for a in range(x.rank)]
    value, order = (x.logical(b), (0, 1)) if x.flat is not None else (x.value, x.order)

    def part(slot: str, name: str, role: Role) -> ir.Value:
        return l.weight(b, slot, name, shape, role=role, transform=lambda a: a.transpose(order), variant=order)

    variance = b.op("Add", part("moving_variance", "running_var", Role.STATE), b.const(epsilon, "epsilon"))
    made = b.op("Sub", value, part("moving_mean", "running_mean", Role.STATE))
    made = b.op("Div", made, b.op("Sqrt", variance))
    if l.config.flag("scale", True):
        made = b.op("Mul", made, part("gamma", "weight", Role.LEARNABLE))
    if l.config.flag("center", True):
        made = b.op("Add", made, part("beta", "bias", Role.LEARNABLE))
    return KT(made, order)


def _by_batch(b: Builder, l: Layer, x: KT, axes: Sequence[int], epsilon: float) -> KT:
    """Statistics of the batch at hand, where a call says ``training=True``: generators of pictures are used so."""
    value, order = (x.logical(b), (0, 1)) if x.flat is not None else (x.value, x.order)
    kept = {a % x.rank for a in axes}
    others = b.const([i for i, axis in enumerate(order) if axis not in kept], "axes")
    far = b.op("Sub", value, b.op("ReduceMean", value, others, keepdims=1))
    variance = b.op("ReduceMean", b.op("Mul", far, far), others, keepdims=1)
    made = b.op("Div", far, b.op("Sqrt", b.op("Add", variance, b.const(epsilon, "epsilon"))))
    sizes = [l.dim(x, a) for a in axes]
    whole = [l.dim(x, axis) if axis in kept else 1 for axis in range(x.rank)]
    stored = sizes if len(axes) == 1 else whole
    for slot, name in (("moving_mean", "running_mean"), ("moving_variance", "running_var")):
        l.weight(b, slot, name, stored, role=Role.STATE)  # nobody reads them, but they are the layer's
    for slot, name, setting, op in (("gamma", "weight", "scale", "Mul"), ("beta", "bias", "center", "Add")):
        if l.config.flag(setting, True):
            lying = [whole[axis] for axis in order]
            part = l.weight(
                b, slot, name, stored, to=lying, variant=("batch", order),
                transform=lambda a: a.reshape(whole).transpose(order),
            )  # fmt: skip
            made = b.op(op, made, part)
    return KT(made, order)


def _momentum(l: Layer) -> float:
    value = l.config.take("momentum", 0.99)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.99


def _gamma_beta(spec: Spec) -> list[Slot]:
    rms = bool(spec.config.get("rms_scaling", False))
    gamma = [Slot("gamma")] if rms or spec.config.get("scale", True) else []
    return gamma if rms or not spec.config.get("center", True) else [*gamma, Slot("beta")]


@layer("LayerNormalization", weights=_gamma_beta, mask="keep")
def layer_normalization(b: Builder, l: Layer, x: KT) -> KT:
    """Mean 0 and variance 1 over the given axes of each sample."""
    axes = sorted(l.config.axes("axis", x.rank))
    epsilon = l.config.number("epsilon", 1e-3)
    rms = l.config.flag("rms_scaling", False)
    center = l.config.flag("center", True) and not rms
    scale = l.config.flag("scale", True) or rms
    sizes = [l.dim(x, a, "the size of a normalised axis") for a in axes]
    last = axes == list(range(x.rank - len(axes), x.rank))
    in_place = x.flat is None and [x.order[i] for i in range(x.rank - len(axes), x.rank)] == axes
    if rms:
        return _root_mean_square(b, l, x, axes, sizes, epsilon, "gamma", around_mean=True)
    if last and (in_place or not _pays(x)):
        value = x.value if in_place else x.logical(b)
        order = x.order if in_place else tuple(range(x.rank))
        weight = l.weight(b, "gamma", "weight", sizes) if scale else b.const(np.ones(sizes, np.float32), "weight")
        bias = l.weight(b, "beta", "bias", sizes) if center else None
        made = b.op("LayerNormalization", value, weight, bias, axis=x.rank - len(axes), epsilon=epsilon)
        return KT(made, order)
    value, order = (x.logical(b), (0, 1)) if x.flat is not None else (x.value, x.order)
    places = b.const(sorted(order.index(a) for a in axes), "axes")
    centred = b.op("Sub", value, b.op("ReduceMean", value, places, keepdims=1))
    spread = b.op("ReduceMean", b.op("Mul", centred, centred), places, keepdims=1)
    made = b.op("Div", centred, b.op("Sqrt", b.op("Add", spread, b.const(epsilon, "epsilon"))))
    if scale:
        made = b.op("Mul", made, along(b, l, "gamma", "weight", axes, sizes, order))
    if center:
        made = b.op("Add", made, along(b, l, "beta", "bias", axes, sizes, order))
    return KT(made, order)


def _pays(x: KT) -> bool:
    """Whether to compute among channels-first axes rather than to move them."""
    return x.flat is None and x.rank in (3, 4, 5) and x.order == channels_first(x.rank)


def along(
    b: Builder, l: Layer, slot: str, name: str, axes: Sequence[int], sizes: Sequence[int], order: Sequence[int]
) -> ir.Value:
    """Add a weight that lies along some of Keras's axes, shaped to broadcast over a value in ``order``."""
    places = [order.index(a) for a in axes]
    first = min(places)
    moved = sorted(range(len(axes)), key=lambda i: places[i])
    shape = [1] * (len(order) - first)
    for i in moved:
        shape[places[i] - first] = sizes[i]
    if len(shape) == len(sizes) and moved == list(range(len(sizes))):
        return l.weight(b, slot, name, sizes)
    return l.weight(
        b, slot, name, sizes, transform=lambda a: a.transpose(moved).reshape(shape), variant=(tuple(order), "along")
    )


def _root_mean_square(
    b: Builder,
    l: Layer,
    x: KT,
    axes: list[int],
    sizes: list[int],
    epsilon: float,
    slot: str,
    *,
    around_mean: bool = False,
) -> KT:
    """x over its root mean square; with ``around_mean`` over its standard deviation, as Keras's rms_scaling has it."""
    value, order = (x.logical(b), (0, 1)) if x.flat is not None else (x.value, x.order)
    places = b.const(sorted(order.index(a) for a in axes), "axes")
    spread = b.op("Sub", value, b.op("ReduceMean", value, places, keepdims=1)) if around_mean else value
    square = b.op("ReduceMean", b.op("Mul", spread, spread), places, keepdims=1)
    made = b.op("Div", value, b.op("Sqrt", b.op("Add", square, b.const(epsilon, "epsilon"))))
    return KT(b.op("Mul", made, along(b, l, slot, "weight", axes, sizes, order)), order)


@layer("RMSNormalization", weights=("scale",), mask="keep")
def rms_normalization(b: Builder, l: Layer, x: KT) -> KT:
    """x / sqrt(mean(x^2) + epsilon) * scale."""
    axes = sorted(l.config.axes("axis", x.rank))
    sizes = [l.dim(x, a, "the size of a normalised axis") for a in axes]
    return _root_mean_square(b, l, x, axes, sizes, l.config.number("epsilon", 1e-6), "scale")


@layer("GroupNormalization", weights=_gamma_beta, mask="keep")
def group_normalization(b: Builder, l: Layer, x: KT) -> KT:
    """Mean 0 and variance 1 over groups of channels and all of space; groups=-1 means one per channel."""
    groups = l.config.integer("groups", 32)
    l.config.integer("axis", -1)
    (axis,) = l.config.axes("axis", x.rank)
    epsilon = l.config.number("epsilon", 1e-3)
    size = l.dim(x, axis)
    groups = size if groups == -1 else groups
    if groups < 1 or size % groups:
        raise MalformedFile(f"{size} channels do not divide into {groups} groups", layer=l.path)
    order = (0, axis, *(a for a in range(1, x.rank) if a != axis))
    value = x.to(b, order)
    scale = (
        l.weight(b, "gamma", "weight", (size,))
        if l.config.flag("scale", True)
        else b.const(np.ones(size, np.float32), "weight")
    )
    bias = (
        l.weight(b, "beta", "bias", (size,))
        if l.config.flag("center", True)
        else b.const(np.zeros(size, np.float32), "bias")
    )
    if x.rank == 2:
        made = _in_groups(b, b.op("Unsqueeze", value, b.const([2], "axes")), scale, bias, groups, epsilon)
        return KT(b.op("Squeeze", made, b.const([2], "axes")), (0, 1))
    if groups == size:
        return KT(b.op("InstanceNormalization", value, scale, bias, epsilon=epsilon), order)
    return KT(_in_groups(b, value, scale, bias, groups, epsilon), order)


def _in_groups(b: Builder, value: ir.Value, scale: ir.Value, bias: ir.Value, groups: int, epsilon: float) -> ir.Value:
    types = [(ir.DataType.FLOAT, shape_of(value))]  # ONNX infers nothing for this operator
    return b.op("GroupNormalization", value, scale, bias, num_groups=groups, epsilon=epsilon, types=types)


@layer("UnitNormalization", mask="keep")
def unit_normalization(b: Builder, l: Layer, x: KT) -> KT:
    """Euclidean length 1 over the given axes; a length below 1e-6 counts as 1e-6."""
    axes = sorted(l.config.axes("axis", x.rank))
    value, order = (x.logical(b), (0, 1)) if x.flat is not None else (x.value, x.order)
    places = b.const(sorted(order.index(a) for a in axes), "axes")
    square = b.op("ReduceSumSquare", value, places, keepdims=1)
    length = b.op("Sqrt", b.op("Max", square, b.const(1e-12, "least")))
    return KT(b.op("Div", value, length), order)


def _spectral_slots(spec: Spec) -> list[Slot]:
    inner = spec.inner(spec.config.get("layer"))
    found = below("layer", slots_of(inner))
    return [*found, Slot("vector_u", False)] if spec.generation == 3 else [*found, Slot("sn_u", False)]


@layer("SpectralNormalization", weights=_spectral_slots, mask="keep")
def spectral_normalization(b: Builder, l: Layer, x: KT) -> KT:
    """A wrapped layer; at inference its kernel is used as training left it."""
    l.config.ignore("power_iterations")
    return l.inner(b, l.config.take("layer"), "layer", x)
