"""Arithmetic as a person would write it."""

from __future__ import annotations

from netferry.runtime.torch.source.writing import Call, Renderer, atom, axes_text, literal, whole_numbers


def quotient(call: Call) -> str | None:
    """Return how torch code says ``div``, or None where it has no short form."""
    return f"{atom(call['A'])} / {atom(call['B'])}" if call.floating else None


def power(call: Call) -> str | None:
    """Return how torch code says ``pow``, or None where it has no short form."""
    plain = isinstance(call.given["Y"], (int, float)) and call.floating
    return f"{atom(call['X'])} ** {atom(call['Y'])}" if plain else None


def clip(call: Call) -> str | None:
    """Return how torch code says ``clip``, or None where it has no short form."""
    low, high = call.given["min"], call.given["max"]
    if (low, high) == (0.0, 6.0):
        return f"F.relu6({call['input']})"
    if isinstance(low, float) and isinstance(high, float) and low <= high:
        return f"F.hardtanh({call['input']}, {literal(low)}, {literal(high)})"
    one = [f"{n}={literal(v)}" for n, v in (("min", low), ("max", high)) if isinstance(v, (int, float))]
    return f"{atom(call['input'])}.clamp({one[0]})" if len(one) == 1 and None in (low, high) else None


def many(symbol: str) -> Renderer:
    """Return how torch code says ``many``, or None where it has no short form."""

    def render(call: Call) -> str:
        return f" {symbol} ".join(atom(call.text(v)) for v in call.given["data_0"])

    return render


def extreme(name: str) -> Renderer:
    """Return how torch code says ``extreme``, or None where it has no short form."""

    def render(call: Call) -> str | None:
        values = call.given["data_0"]
        return f"torch.{name}({', '.join(map(call.text, values))})" if len(values) == 2 else None

    return render


def reduction(name: str, keyword: str = "dim") -> Renderer:
    """Return how torch code says ``reduction``, or None where it has no short form."""

    def render(call: Call) -> str | None:
        axes = call.given["axes"]
        known = whole_numbers(axes) if axes is not None else None
        if not call.floating or not known:
            return None
        keep = ", keepdim=True" if call.given["keepdims"] else ""
        return f"{atom(call['data'])}.{name}({axes_text(known)}{keep})"

    return render


def swish(call: Call) -> str | None:
    """Return how torch code says ``swish``, or None where it has no short form."""
    return f"F.silu({call['X']})" if call.given["alpha"] == 1.0 else None
