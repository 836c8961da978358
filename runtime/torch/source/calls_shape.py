"""Operators that move elements, as methods of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from netferry.runtime.torch.source.writing import Call, atom, axes_text, literal, whole_numbers

_LARGE = 2**31 - 1


def cast(call: Call) -> str | None:
    """Return how torch code says ``cast``, or None where it has no short form."""
    from netferry.runtime.torch.dtypes import torch_dtype

    kind = torch_dtype(call.given["to"])
    return f"{atom(call['input'])} != 0" if kind is torch.bool else f"{atom(call['input'])}.to({kind})"


def _zero_inside(value: Any) -> bool:
    """Whether a shape holds a literal 0, which would copy the input's dimension."""
    if isinstance(value, fx.Node):
        made = getattr(value.target, "__name__", "")
        return made == "as_list" or (made in ("join", "listed") and any(map(_zero_inside, value.args)))
    return value == 0 if isinstance(value, int) else any(_zero_inside(v) for v in value)


def reshape(call: Call) -> str | None:
    """Return how torch code says ``reshape``, or None where it has no short form."""
    shape = call.given["shape"]
    if not call.given["allowzero"] and _zero_inside(shape):
        known = whole_numbers(shape)
        if known is None:
            return None
        x = atom(call["data"])
        if known == [0, -1]:
            return f"{x}.flatten(1)"
        sizes = [f"{x}.shape[{i}]" if n == 0 else str(n) for i, n in enumerate(known)]
        return f"{x}.reshape({', '.join(sizes)})"
    text = call.text(shape)
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") and "[*" not in text else text
    return f"{atom(call['data'])}.reshape({inner})"


def flatten(call: Call) -> str | None:
    """Return how torch code says ``flatten``, or None where it has no short form."""
    return f"{atom(call['input'])}.flatten(1)" if call.given["axis"] == 1 else None


def squeeze(call: Call) -> str | None:
    """Return how torch code says ``squeeze``, or None where it has no short form."""
    axes = call.given["axes"]
    if axes is None:
        return f"{atom(call['data'])}.squeeze()"
    known = whole_numbers(axes)
    return None if known is None else f"{atom(call['data'])}.squeeze({axes_text(known)})"


def unsqueeze(call: Call) -> str | None:
    """Return how torch code says ``unsqueeze``, or None where it has no short form."""
    known = whole_numbers(call.given["axes"])
    return f"{atom(call['data'])}.unsqueeze({known[0]})" if known is not None and len(known) == 1 else None


def transpose(call: Call) -> str | None:
    """Return how torch code says ``transpose``, or None where it has no short form."""
    order = whole_numbers(call.given["perm"])
    return None if order is None else f"{atom(call['data'])}.permute({', '.join(map(str, order))})"


def concat(call: Call) -> str:
    """Return how torch code says ``concat``, or None where it has no short form."""
    return f"torch.cat([{', '.join(map(call.text, call.given['inputs']))}], {call['axis']})"


def split(call: Call) -> str | None:
    """Return how torch code says ``split``, or None where it has no short form."""
    sizes = whole_numbers(call.given["split"])
    if sizes is None:
        return None
    size = sizes[0] if len(set(sizes)) == 1 else sizes
    return f"{atom(call['input'])}.split({literal(size)}, {call['axis']})"


def cut(call: Call) -> str | None:
    """Return how torch code says ``slice``, or None where it has no short form."""
    starts, ends = whole_numbers(call.given["starts"]), whole_numbers(call.given["ends"])
    axes = call.given["axes"]
    if starts is None or ends is None:
        return None
    places = list(range(len(starts))) if axes is None else whole_numbers(axes)
    steps = [1] * len(starts) if call.given["steps"] is None else whole_numbers(call.given["steps"])
    if places is None or steps is None or min(steps) < 1 or len(set(places)) != len(places):
        return None
    if min(places) < 0 and max(places) >= 0:
        return None
    cuts = {}
    for axis, start, end, step in zip(places, starts, ends, steps, strict=True):
        stop = "" if end >= _LARGE else str(end)
        cuts[axis] = f"{start or ''}:{stop}" + (f":{step}" if step != 1 else "")
    if min(places) >= 0:
        index = [cuts.get(axis, ":") for axis in range(max(places) + 1)]
    else:
        index = ["...", *(cuts.get(axis, ":") for axis in range(min(places), 0))]
    while index and index[-1] == ":" and "..." not in index:
        index.pop()
    return f"{atom(call['data'])}[{', '.join(index)}]" if index else call["data"]


def pad(call: Call) -> str | None:
    """Return how torch code says ``pad``, or None where it has no short form."""
    pads, axes = whole_numbers(call.given["pads"]), call.given["axes"]
    value = call.given["constant_value"]
    if call.given["mode"] != "constant" or axes is not None or isinstance(value, fx.Node) or pads is None:
        return None
    n = len(pads) // 2
    flat = [v for axis in reversed(range(n)) for v in (pads[axis], pads[axis + n])]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    end = "" if value in (None, 0) else f", value={literal(value)}"
    return f"F.pad({call['data']}, {literal(tuple(flat))}{end})"


def pad_sides(call: Call) -> str:
    """Return how torch code says ``pad sides``, or None where it has no short form."""
    pads = call.given["pads"]
    n = len(pads) // 2
    flat = tuple(v for axis in reversed(range(n)) for v in (pads[axis], pads[axis + n]))
    return f"F.pad({call['x']}, {literal(flat)})"


def gather(call: Call) -> str | None:
    """Return how torch code says ``gather``, or None where it has no short form."""
    at = call.given["indices"]
    return f"{atom(call['data'])}.select({call['axis']}, {call['indices']})" if isinstance(at, int) else None
