"""EinsumDense: a kernel contracted with the input as an equation says."""

from __future__ import annotations

import re

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layers.dense import project
from netferry.converters.keras.layout import KT
from netferry.converters.keras.quantized import is_int8, restore, rounded, slots
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder

_FORMS = (r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)", r"\.\.\.([a-zA-Z]+),([a-zA-Z]+)->\.\.\.([a-zA-Z]+)",
          r"([a-zA-Z]{2,})\.\.\.,([a-zA-Z]+)->([a-zA-Z]+)\.\.\.")  # fmt: skip


def _slots(spec: Spec) -> list[Slot]:
    return slots(spec, "kernel", *(["bias"] if spec.config.get("bias_axes") is not None else []))


def _sizes(l: Layer) -> list[int | None]:
    value = l.config.take("output_shape")
    items = value if isinstance(value, list) else [value]
    if not all(v is None or (isinstance(v, int) and not isinstance(v, bool) and 0 < v < 2**31) for v in items):
        raise l.config.bad("output_shape", value, "a list of sizes")
    return items


def _along_kernel(scale: np.ndarray, kernel: str, out: str) -> np.ndarray:
    """A scale that lies along the output's axes, brought to the kernel's; axes that are summed have one scale."""
    places = [out.index(c) for c in kernel if c in out]
    rest = [i for i in range(len(out)) if i not in places]
    if scale.ndim != len(out) or any(scale.shape[i] != 1 for i in rest):
        raise ValueError("the scale does not lie along the output")
    shape = [scale.shape[out.index(c)] if c in out else 1 for c in kernel]
    return scale.transpose(*places, *rest).reshape(shape)


@layer("EinsumDense", weights=_slots, mask="keep")
def einsum_dense(b: Builder, l: Layer, x: KT) -> KT:
    """Einstein's sum of input and kernel; a matrix on the last axis becomes what Dense becomes."""
    equation = l.config.text("equation").replace(" ", "")
    given = _sizes(l)
    bias_axes = l.config.take("bias_axes", None)
    form = next((i for i, p in enumerate(_FORMS) if re.fullmatch(p, equation)), None)
    if form is None or not (bias_axes is None or isinstance(bias_axes, str)):
        raise l.config.bad("equation", equation, "of the form X,Y->Z, ...X,Y->...Z or X...,Y->Z...")
    match = re.fullmatch(_FORMS[form], equation)
    assert match is not None
    left, middle, right = match.groups()
    elided = x.rank - len(left)
    if elided < 0 or (form == 0 and elided):
        raise MalformedFile(f"{equation} does not fit a tensor of rank {x.rank}", layer=l.path)
    lead = elided if form == 1 else 0
    size_in = {c: x.shape[lead + i] for i, c in enumerate(left)}
    # the setting leaves out the batch and what an ellipsis in front stands for
    skipped = 0 if lead else 1
    named = right[skipped:]
    if len(given) < len(named):
        raise l.config.bad("output_shape", given, f"sizes for {named}")
    size_out = {c: given[i] for i, c in enumerate(named)}
    for c, size in size_out.items():
        if isinstance(size, int) and isinstance(size_in.get(c), int) and size != size_in[c]:
            raise l.config.bad("output_shape", given, f"the input's {size_in[c]} along axis {c}")
    sizes: dict[str, int] = {}
    for c in middle:
        size = size_out.get(c) or size_in.get(c)
        if not isinstance(size, int):
            raise MalformedFile(f"the size of axis {c} of the kernel is not known", layer=l.path)
        sizes[c] = size
    shape = [sizes[c] for c in middle]
    if is_int8(l.spec):
        if form != 0:
            raise UnsupportedOption(f"{equation} with int8 weights", layer=l.path)
        restore(l, "kernel", lambda scale: _along_kernel(scale, middle, right))
        x = rounded(b, l, x, [i for i, c in enumerate(left) if c not in right])
    matrix = len(middle) == 2 and middle[0] == left[-1] and right == left[:-1] + middle[1] and middle[1] not in left
    if matrix and form != 2 and bias_axes in (None, middle[1]):
        bias = l.weight(b, "bias", "bias", (shape[1],)) if bias_axes is not None else None
        made = project(b, l, x, "kernel", "weight", shape[0], shape[1], bias)
        return activate(b, l, made, l.config.take("activation", None))
    made = b.op("Einsum", x.logical(b), l.weight(b, "kernel", "weight", shape), equation=equation)
    if bias_axes is not None:
        if not bias_axes or any(c not in right for c in bias_axes):
            raise l.config.bad("bias_axes", bias_axes, f"letters of {right}")
        behind = right[min(right.find(c) for c in bias_axes) :]
        ends = [1] * (elided if form == 2 else 0)
        dims = [(size_out.get(c) or size_in.get(c)) if c in bias_axes else 1 for c in behind]
        if not all(isinstance(d, int) for d in dims):
            raise MalformedFile("a bias along an axis of unknown size", layer=l.path)
        made = b.op("Add", made, l.weight(b, "bias", "bias", [*(int(d or 1) for d in dims), *ends]))
    return activate(b, l, KT.of(made), l.config.take("activation", None))
