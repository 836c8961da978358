"""Layers without weights of their own, as functions of torch.nn.functional."""

from __future__ import annotations

from netferry.runtime.torch.source.writing import Call, Renderer, atom, axes_text, literal


def conv(call: Call) -> str | None:
    """A convolution whose weights are computed, or constants."""
    n = len(call.given["kernel_shape"] or call.given["strides"] or ())
    pads = call.given["pads"] or [0] * (2 * n)
    if n not in (1, 2, 3) or call.given["auto_pad"] not in ("NOTSET", "") or pads[:n] != pads[n:] or min(pads) < 0:
        return None
    settings = {
        "stride": call.given["strides"] or [1] * n, "padding": pads[:n], "dilation": call.given["dilations"] or [1] * n,
    }  # fmt: skip
    usual = {"stride": 1, "padding": 0, "dilation": 1}
    parts = [call["X"], call["W"], *([] if call.given["B"] is None else [call["B"]])]
    for name, values in settings.items():
        short = values[0] if len(set(values)) == 1 else tuple(values)
        parts += [] if short == usual[name] else [f"{name}={literal(short)}"]
    if call.given["group"] != 1:
        parts.append(f"groups={call['group']}")
    return f"F.conv{n}d({', '.join(parts)})"


def over_space(name: str) -> Renderer:
    """Return how torch code says ``global``, or None where it has no short form."""

    def render(call: Call) -> str | None:
        rank = call.node.meta.get("netferry.rank")
        axes = None if rank is None or rank < 3 else axes_text(list(range(2, rank)))
        return None if axes is None else f"{atom(call['X'])}.{name}({axes}, keepdim=True)"

    return render


def lrn(call: Call) -> str | None:
    """Return how torch code says ``lrn``, or None where it has no short form."""
    size = call.given["size"]
    numbers = ", ".join(literal(call.given[k]) for k in ("alpha", "beta", "bias"))
    return f"F.local_response_norm({call['X']}, {size}, {numbers})" if size % 2 and call.floating else None


def resize(call: Call) -> str | None:
    """Whole factors of pictures with nearest neighbours, as UpSampling layers have them."""
    scales = call.given["scales"]
    known = isinstance(scales, list) and all(isinstance(s, float) for s in scales)
    usual = (call.given["coordinate_transformation_mode"], call.given["nearest_mode"], call.given["mode"])
    if not known or call.given["sizes"] is not None or usual != ("asymmetric", "floor", "nearest"):
        return None
    if len(scales) not in (3, 4, 5) or scales[:2] != [1.0, 1.0] or call.given["axes"] is not None or not call.floating:
        return None
    if any(s != int(s) or s < 1 for s in scales[2:]):
        return None
    factor = literal(scales[2] if len(set(scales[2:])) == 1 else tuple(scales[2:]))
    return f'F.interpolate({call["X"]}, scale_factor={factor}, mode="nearest")'
