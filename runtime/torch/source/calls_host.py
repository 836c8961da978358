"""Arithmetic on sizes, as plain Python."""

from __future__ import annotations

from torch import fx

from netferry.runtime.torch.source.writing import Call, Renderer, atom, balanced, literal_list, whole_numbers


def shape_of(call: Call) -> str:
    """Return how torch code says ``shape``, or None where it has no short form."""
    start, end = call.given["start"], call.given["end"]
    whole = not start and end is None
    return f"{atom(call['x'])}.shape" + ("" if whole else f"[{start or ''}:{'' if end is None else end}]")


def picked(call: Call) -> str | None:
    """Return how torch code says ``picked``, or None where it has no short form."""
    at = call.given["at"]
    if isinstance(at, int):
        return f"{atom(call['x'])}[{at}]"
    known = whole_numbers(at)
    if known is None:
        return None
    x = atom(call["x"])
    return literal_list([f"{x}[{i}]" for i in known])


def as_number(call: Call) -> str | None:
    """The only element of a list that is written out."""
    text = call["x"]
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else ""
    return inside if inside and "," not in inside and balanced(inside) else None


def host_cast(call: Call) -> str | None:
    """Of a single number."""
    x, to = call.given["x"], call.given["to"]
    if not isinstance(x, fx.Node) or x.meta.get("netferry.rank") != 0:
        return None
    kind = "bool" if to == 9 else "float" if to in (1, 10, 11, 16) else ""
    return f"{kind}({call['x']})" if kind else call["x"] if _is_whole(x) else None


def _is_whole(x: fx.Node) -> bool:
    return getattr(x.target, "__name__", "") in ("gather", "size") and not x.meta.get("netferry.floating")


def joined(call: Call) -> str:
    """Return how torch code says ``join``, or None where it has no short form."""
    parts = []
    for x in call.given["xs"]:
        text = call.text(x)
        whole = text.startswith("[") and text.endswith("]") and balanced(text[1:-1])
        parts.append(text[1:-1] if whole else f"*{atom(text)}")
    return f"[{', '.join(p for p in parts if p)}]"


def listed(call: Call) -> str | None:
    """Return how torch code says ``listed``, or None where it has no short form."""
    x = call.given["x"]
    return f"[{call['x']}]" if isinstance(x, fx.Node) and x.meta.get("netferry.rank") == 0 else None


def scalars(symbol: str) -> Renderer:
    """Return how torch code says ``scalars``, or None where it has no short form."""

    def render(call: Call) -> str | None:
        sides = [call.given["a"], call.given["b"]]
        plain = all(
            isinstance(s, (int, float)) or (isinstance(s, fx.Node) and s.meta.get("netferry.rank") == 0) for s in sides
        )
        return f"{atom(call['a'])} {symbol} {atom(call['b'])}" if plain else None

    return render


def as_tensor(call: Call) -> str:
    """Return how torch code says ``as tensor``, or None where it has no short form."""
    return f"torch.tensor({call['x']}, dtype={call['dtype']}, device={call['like']}.device)"
