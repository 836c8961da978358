"""Convolutions as modules."""

from __future__ import annotations

from torch import nn

from netferry.runtime.torch.facts import attribute, bias_behind, given, initializer
from netferry.runtime.torch.ops.windows import auto_pads
from netferry.runtime.torch.packing import FLAT, PLAIN
from netferry.runtime.torch.plans import Bindings, Plan, bare, bindings_key
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, static_shape

_PLACE = ("kernel_size", "stride", "padding", "dilation")


def same_or_pads(node: ir.Node, kernel: tuple[int, ...], strides: list[int], dilations: list[int]) -> list[int] | str:
    """Pads as numbers, or the mode where they depend on the input's size."""
    n, mode = len(kernel), attribute(node, "auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * (2 * n)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        if all(s == 1 for s in strides):
            return auto_pads(mode, [1 << 20] * n, kernel, strides, dilations)
        return mode
    return attribute(node, "pads", [0] * (2 * n))


def conv(node: ir.Node, *, alone: bool = False) -> Plan | None:
    weight, bias = initializer(node, 1), initializer(node, 2)
    if weight is None or (bias is None and given(node, 2)):
        return None
    shape = static_shape(weight)
    n = len(shape) - 2
    kernel, group = shape[2:], attribute(node, "group", 1)
    if n not in (1, 2, 3) or group < 1 or shape[0] % group:
        return None
    strides, dilations = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    pads = same_or_pads(node, kernel, strides, dilations)
    before = None
    padding: tuple[int, ...] = (0,) * n
    if isinstance(pads, str):
        before = ("pad_same", {"mode": pads, "kernel": list(kernel), "strides": strides, "dilations": dilations})
    elif pads[:n] == pads[n:] and min(pads) >= 0:
        padding = tuple(pads[:n])
    else:
        before = ("pad_sides", {"pads": pads})
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    sizes = {"in_channels": shape[1] * group, "out_channels": shape[0], "groups": group}
    place = (tuple(kernel), tuple(strides), padding, tuple(dilations))
    bindings, absorbs = _weights(node, weight, bias, None if alone else shape[0])
    settings = dict(zip(_PLACE, place, strict=True), bias=len(bindings) > 1)
    key = ("Conv", *sizes.values(), *place, *bindings_key(bindings))
    return Plan(lambda: bare(kind, settings, **sizes), bindings, key, before, absorbs)


def conv_transpose(node: ir.Node, *, alone: bool = False) -> Plan | None:
    weight, bias = initializer(node, 1), initializer(node, 2)
    if weight is None or (bias is None and given(node, 2)) or "output_shape" in node.attributes:
        return None
    shape = static_shape(weight)
    n = len(shape) - 2
    kernel, group = shape[2:], attribute(node, "group", 1)
    if n not in (1, 2, 3) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    if group < 1 or shape[0] % group:
        return None
    strides, dilations = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    pads, extra = attribute(node, "pads", [0] * (2 * n)), attribute(node, "output_padding", [0] * n)
    if attribute(node, "auto_pad", "NOTSET") == "VALID":
        pads = [0] * (2 * n)
    fits = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if pads[:n] != pads[n:] or min(pads) < 0 or not fits:
        return None
    if any(p > (k - 1) * d for p, k, d in zip(pads[:n], kernel, dilations, strict=True)):
        return None
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[n - 1]
    sizes = {"in_channels": shape[0], "out_channels": shape[1] * group, "groups": group}
    place = (tuple(kernel), tuple(strides), tuple(pads[:n]), tuple(dilations))
    bindings, absorbs = _weights(node, weight, bias, None if alone else shape[1] * group)
    settings = dict(zip(_PLACE, place, strict=True), output_padding=tuple(extra), bias=len(bindings) > 1)
    key = ("ConvTranspose", *sizes.values(), *place, *extra, *bindings_key(bindings))
    return Plan(lambda: bare(kind, settings, **sizes), bindings, key, absorbs=absorbs)


def _weights(
    node: ir.Node, weight: ir.Value, bias: ir.Value | None, outputs: int | None
) -> tuple[Bindings, ir.Node | None]:
    """Weight and bias of a module; a bias that an Add of the same layer gives, as tf2onnx writes it, with the Add."""
    absorbs, form = None, PLAIN
    if bias is None and outputs is not None:
        found = bias_behind(node, outputs, 1 - len(static_shape(weight)))
        same = found is not None and found[1].metadata_props.get(LAYER) == node.metadata_props.get(LAYER)
        if found is not None and same and found[0].dtype == weight.dtype:
            (bias, absorbs), form = found, FLAT
    return [(weight, PLAIN, ["weight"]), *([] if bias is None else [(bias, form, ["bias"])])], absorbs
