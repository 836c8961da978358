"""Calls of operators as a person would write them in plain torch; what has no such form is called by its name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

Renderer = Callable[["Call"], "str | None"]
_LARGE = 2**31 - 1


@dataclass
class Call:
    """One call: its arguments by parameter, defaults filled in.

    Attributes:
        node: the node of the fx graph.
        text: writes any argument as code.
        given: arguments by parameter; those of a ``*parameter`` as a tuple.
    """

    node: fx.Node
    text: Callable[[Any], str]
    given: dict[str, Any]

    def __getitem__(self, name: str) -> str:
        return self.text(self.given[name])

    @property
    def floating(self) -> bool:
        """Whether the result is known to be of floating point."""
        return self.node.meta.get("netferry.floating") is True


def call_text(node: fx.Node, text: Callable[[Any], str], helper: Callable[[Any], str], *, unsigned: bool) -> str:
    """Write the call of one of netferry's functions.

    Args:
        node: the call.
        text: writes an argument.
        helper: gives the name of a function that the file has to hold.
        unsigned: uint16, uint32 and uint64 occur: what is wrapped for their sake is called by its name.
    """
    function: Any = node.target
    bound = inspect.signature(function).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    renderer = _FORMS.get((function.__module__.rpartition(".")[2], function.__name__))
    if renderer is not None and not (unsigned and hasattr(function, "__wrapped__")):
        written = renderer(Call(node, text, dict(bound.arguments)))
        if written is not None:
            return written
    parameters = inspect.signature(function).parameters
    settings = {
        k: v for k, v in node.kwargs.items() if k not in parameters or not _same(v, parameters[k].default)
    }  # fmt: skip
    parts = [*map(text, node.args), *(f"{k}={text(v)}" for k, v in settings.items())]
    return f"{helper(function)}({', '.join(parts)})"


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def literal(value: Any) -> str:
    """A Python value as code; strings are quoted, infinities spelled."""
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(literal, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, str):
        return f'"{value}"' if value.isprintable() and not set(value) & {'"', "\\"} else repr(value)
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be written as code")


def atom(text: str) -> str:
    """The text in brackets where an operator beside it could tear it apart."""
    depth, quote = 0, ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif depth == 0 and (c in " +*/<>=&|^~@%" or (c == "-" and i == 0)):
            return f"({text})"
    return text


def _template(pattern: str, *names: str) -> Renderer:
    """A form that only fills in its operands; ``{0}`` is the first of ``names``."""

    def render(call: Call) -> str:
        return pattern.format(*(call[name] for name in names))

    return render


def _infix(symbol: str, a: str = "A", b: str = "B") -> Renderer:
    def render(call: Call) -> str:
        return f"{atom(call[a])} {symbol} {atom(call[b])}"

    return render


def _div(call: Call) -> str | None:
    return f"{atom(call['A'])} / {atom(call['B'])}" if call.floating else None


def _pow(call: Call) -> str | None:
    plain = isinstance(call.given["Y"], (int, float)) and call.floating
    return f"{atom(call['X'])} ** {atom(call['Y'])}" if plain else None


def _clip(call: Call) -> str | None:
    low, high = call.given["min"], call.given["max"]
    if (low, high) == (0.0, 6.0):
        return f"F.relu6({call['input']})"
    if isinstance(low, float) and isinstance(high, float) and low <= high:
        return f"F.hardtanh({call['input']}, {literal(low)}, {literal(high)})"
    one = [f"{n}={literal(v)}" for n, v in (("min", low), ("max", high)) if isinstance(v, (int, float))]
    return f"{atom(call['input'])}.clamp({one[0]})" if len(one) == 1 and None in (low, high) else None


def _many(symbol: str) -> Renderer:
    def render(call: Call) -> str:
        return f" {symbol} ".join(atom(call.text(v)) for v in call.given["data_0"])

    return render


def _extreme(name: str) -> Renderer:
    def render(call: Call) -> str | None:
        values = call.given["data_0"]
        return f"torch.{name}({', '.join(map(call.text, values))})" if len(values) == 2 else None

    return render


def _cast(call: Call) -> str | None:
    from netferry.runtime.torch.dtypes import torch_dtype

    kind = torch_dtype(call.given["to"])
    return f"{atom(call['input'])} != 0" if kind is torch.bool else f"{atom(call['input'])}.to({kind})"


def _numbers(value: Any) -> list[int] | None:
    """A list of whole numbers that is known when the code is written."""
    known = isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value)
    return list(value) if known else None


def _zero_inside(value: Any) -> bool:
    """Whether a shape holds a literal 0, which would copy the input's dimension."""
    if isinstance(value, fx.Node):
        made = getattr(value.target, "__name__", "")
        return made == "as_list" or (made in ("join", "listed") and any(map(_zero_inside, value.args)))
    return value == 0 if isinstance(value, int) else any(_zero_inside(v) for v in value)


def _reshape(call: Call) -> str | None:
    shape = call.given["shape"]
    if not call.given["allowzero"] and _zero_inside(shape):
        known = _numbers(shape)
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


def _flatten(call: Call) -> str | None:
    return f"{atom(call['input'])}.flatten(1)" if call.given["axis"] == 1 else None


def _squeeze(call: Call) -> str | None:
    axes = call.given["axes"]
    if axes is None:
        return f"{atom(call['data'])}.squeeze()"
    known = _numbers(axes)
    return None if known is None else f"{atom(call['data'])}.squeeze({_axes(known)})"


def _axes(axes: list[int]) -> str:
    return str(axes[0]) if len(axes) == 1 else literal(tuple(axes))


def _unsqueeze(call: Call) -> str | None:
    known = _numbers(call.given["axes"])
    return f"{atom(call['data'])}.unsqueeze({known[0]})" if known is not None and len(known) == 1 else None


def _transpose(call: Call) -> str | None:
    order = _numbers(call.given["perm"])
    return None if order is None else f"{atom(call['data'])}.permute({', '.join(map(str, order))})"


def _concat(call: Call) -> str:
    return f"torch.cat([{', '.join(map(call.text, call.given['inputs']))}], {call['axis']})"


def _split(call: Call) -> str | None:
    sizes = _numbers(call.given["split"])
    if sizes is None:
        return None
    size = sizes[0] if len(set(sizes)) == 1 else sizes
    return f"{atom(call['input'])}.split({literal(size)}, {call['axis']})"


def _slice(call: Call) -> str | None:
    starts, ends = _numbers(call.given["starts"]), _numbers(call.given["ends"])
    axes = call.given["axes"]
    if starts is None or ends is None:
        return None
    places = list(range(len(starts))) if axes is None else _numbers(axes)
    steps = [1] * len(starts) if call.given["steps"] is None else _numbers(call.given["steps"])
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


def _pad(call: Call) -> str | None:
    pads, axes = _numbers(call.given["pads"]), call.given["axes"]
    value = call.given["constant_value"]
    if call.given["mode"] != "constant" or axes is not None or isinstance(value, fx.Node) or pads is None:
        return None
    n = len(pads) // 2
    flat = [v for axis in reversed(range(n)) for v in (pads[axis], pads[axis + n])]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    end = "" if value in (None, 0) else f", value={literal(value)}"
    return f"F.pad({call['data']}, {literal(tuple(flat))}{end})"


def _pad_sides(call: Call) -> str:
    pads = call.given["pads"]
    n = len(pads) // 2
    flat = tuple(v for axis in reversed(range(n)) for v in (pads[axis], pads[axis + n]))
    return f"F.pad({call['x']}, {literal(flat)})"


def _gather(call: Call) -> str | None:
    at = call.given["indices"]
    return f"{atom(call['data'])}.select({call['axis']}, {call['indices']})" if isinstance(at, int) else None


def _reduction(name: str, keyword: str = "dim") -> Renderer:
    def render(call: Call) -> str | None:
        axes = call.given["axes"]
        known = _numbers(axes) if axes is not None else None
        if not call.floating or not known:
            return None
        keep = ", keepdim=True" if call.given["keepdims"] else ""
        return f"{atom(call['data'])}.{name}({_axes(known)}{keep})"

    return render


def _conv(call: Call) -> str | None:
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


def _global(name: str) -> Renderer:
    def render(call: Call) -> str | None:
        rank = call.node.meta.get("netferry.rank")
        axes = None if rank is None or rank < 3 else _axes(list(range(2, rank)))
        return None if axes is None else f"{atom(call['X'])}.{name}({axes}, keepdim=True)"

    return render


def _swish(call: Call) -> str | None:
    return f"F.silu({call['X']})" if call.given["alpha"] == 1.0 else None


def _lrn(call: Call) -> str | None:
    size = call.given["size"]
    numbers = ", ".join(literal(call.given[k]) for k in ("alpha", "beta", "bias"))
    return f"F.local_response_norm({call['X']}, {size}, {numbers})" if size % 2 and call.floating else None


def _resize(call: Call) -> str | None:
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


# numbers on the host ---------------------------------------------------------------------------------------------


def _shape(call: Call) -> str:
    start, end = call.given["start"], call.given["end"]
    whole = not start and end is None
    return f"{atom(call['x'])}.shape" + ("" if whole else f"[{start or ''}:{'' if end is None else end}]")


def _picked(call: Call) -> str | None:
    at = call.given["at"]
    if isinstance(at, int):
        return f"{atom(call['x'])}[{at}]"
    known = _numbers(at)
    if known is None:
        return None
    x = atom(call["x"])
    return literal_list([f"{x}[{i}]" for i in known])


def _as_number(call: Call) -> str | None:
    """The only element of a list that is written out."""
    text = call["x"]
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else ""
    return inside if inside and "," not in inside and _balanced(inside) else None


def literal_list(items: list[str]) -> str:
    """Items as a list."""
    return f"[{', '.join(items)}]"


def _host_cast(call: Call) -> str | None:
    """Of a single number."""
    x, to = call.given["x"], call.given["to"]
    if not isinstance(x, fx.Node) or x.meta.get("netferry.rank") != 0:
        return None
    kind = "bool" if to == 9 else "float" if to in (1, 10, 11, 16) else ""
    return f"{kind}({call['x']})" if kind else call["x"] if _is_whole(x) else None


def _is_whole(x: fx.Node) -> bool:
    return getattr(x.target, "__name__", "") in ("gather", "size") and not x.meta.get("netferry.floating")


def _join(call: Call) -> str:
    parts = []
    for x in call.given["xs"]:
        text = call.text(x)
        whole = text.startswith("[") and text.endswith("]") and _balanced(text[1:-1])
        parts.append(text[1:-1] if whole else f"*{atom(text)}")
    return f"[{', '.join(p for p in parts if p)}]"


def _balanced(text: str) -> bool:
    """Whether brackets close in order, so that the text is the inside of one list."""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if depth < 0:
            return False
    return depth == 0


def _listed(call: Call) -> str | None:
    x = call.given["x"]
    return f"[{call['x']}]" if isinstance(x, fx.Node) and x.meta.get("netferry.rank") == 0 else None


def _scalars(symbol: str) -> Renderer:
    def render(call: Call) -> str | None:
        sides = [call.given["a"], call.given["b"]]
        plain = all(
            isinstance(s, (int, float)) or (isinstance(s, fx.Node) and s.meta.get("netferry.rank") == 0) for s in sides
        )
        return f"{atom(call['a'])} {symbol} {atom(call['b'])}" if plain else None

    return render


def _as_tensor(call: Call) -> str:
    return f"torch.tensor({call['x']}, dtype={call['dtype']}, device={call['like']}.device)"


_UNARY = {
    ("activation", "Relu"): ("F.relu({0})", "X"), ("activation", "Sigmoid"): ("torch.sigmoid({0})", "X"),
    ("activation", "Tanh"): ("torch.tanh({0})", "input"), ("activation", "HardSwish"): ("F.hardswish({0})", "X"),
    ("activation", "Mish"): ("F.mish({0})", "X"), ("activation", "Softsign"): ("F.softsign({0})", "input"),
    ("activation", "LeakyRelu"): ("F.leaky_relu({0}, {1})", "X", "alpha"),
    ("activation", "Elu"): ("F.elu({0}, {1})", "X", "alpha"),
    ("activation", "Celu"): ("F.celu({0}, {1})", "X", "alpha"),
    ("activation", "Gelu"): ("F.gelu({0}, approximate={1})", "X", "approximate"),
    ("activation", "HardSigmoid"): ("torch.clamp({0} * {1} + {2}, 0, 1)", "X", "alpha", "beta"),
    ("activation", "Softmax"): ("torch.softmax({0}, {1})", "input", "axis"),
    ("activation", "LogSoftmax"): ("torch.log_softmax({0}, {1})", "input", "axis"),
    ("arithmetic", "Neg"): ("torch.neg({0})", "X"), ("arithmetic", "Abs"): ("torch.abs({0})", "X"),
    ("arithmetic", "Sqrt"): ("torch.sqrt({0})", "X"), ("arithmetic", "Exp"): ("torch.exp({0})", "input"),
    ("arithmetic", "Log"): ("torch.log({0})", "input"), ("arithmetic", "Floor"): ("torch.floor({0})", "X"),
    ("arithmetic", "Ceil"): ("torch.ceil({0})", "X"), ("arithmetic", "Round"): ("torch.round({0})", "X"),
    ("arithmetic", "Reciprocal"): ("torch.reciprocal({0})", "X"), ("arithmetic", "Sign"): ("torch.sign({0})", "input"),
    ("linear", "MatMul"): ("torch.matmul({0}, {1})", "A", "B"),
    ("logic", "Where"): ("torch.where({0}, {1}, {2})", "condition", "X", "Y"),
    ("shape", "Identity"): ("{0}", "input"),
    ("glue", "positions"): ("torch.where({0} < 0, {0} + {1}, {0})", "indices", "size"),
    ("glue", "reversed_input"): ("{0}.flip(1 if {1} else 0)", "x", "batch_first"),
    ("host", "same"): ("{0}", "x"), ("host", "size"): ("{0}.numel()", "x"),
    **{
        ("trigonometry", name): (f"torch.{name.lower()}({{0}})", "input")
        for name in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")
    },
}  # fmt: skip

_FORMS: dict[tuple[str, str], Renderer] = {
    **{key: _template(*form) for key, form in _UNARY.items()},
    **{
        (module, name): _infix(symbol)
        for module, name, symbol in (
            ("arithmetic", "Add", "+"), ("arithmetic", "Sub", "-"), ("arithmetic", "Mul", "*"), ("logic", "And", "&"),
            ("logic", "Or", "|"), ("logic", "Xor", "^"), ("logic", "Equal", "=="), ("logic", "Greater", ">"),
            ("logic", "GreaterOrEqual", ">="), ("logic", "Less", "<"), ("logic", "LessOrEqual", "<="),
        )
    },
    ("logic", "Not"): lambda call: f"~{atom(call['X'])}",
    ("arithmetic", "Div"): _div,
    ("arithmetic", "Pow"): _pow,
    ("arithmetic", "Clip"): _clip,
    ("arithmetic", "Sum"): _many("+"),
    ("arithmetic", "Max"): _extreme("maximum"),
    ("arithmetic", "Min"): _extreme("minimum"),
    ("shape", "Cast"): _cast,
    ("shape", "Reshape"): _reshape,
    ("shape", "Flatten"): _flatten,
    ("shape", "Squeeze"): _squeeze,
    ("shape", "Unsqueeze"): _unsqueeze,
    ("shape", "Transpose"): _transpose,
    ("shape", "Concat"): _concat,
    ("shape", "Split"): _split,
    ("shape", "Slice"): _slice,
    ("shape", "Pad"): _pad,
    ("indexing", "Gather"): _gather,
    ("reduction", "ReduceMean"): _reduction("mean"),
    ("reduction", "ReduceSum"): _reduction("sum"),
    ("reduction", "ReduceMax"): _reduction("amax"),
    ("reduction", "ReduceMin"): _reduction("amin"),
    ("activation", "Swish"): _swish,
    ("pooling", "GlobalAveragePool"): _global("mean"),
    ("pooling", "GlobalMaxPool"): _global("amax"),
    ("normalization", "LRN"): _lrn,
    ("resize", "Resize"): _resize,
    ("glue", "pad_sides"): _pad_sides,
    ("host", "shape"): _shape,
    ("host", "gather"): _picked,
    ("host", "join"): _join,
    ("host", "listed"): _listed,
    ("host", "as_tensor"): _as_tensor,
    ("host", "as_number"): _as_number,
    ("host", "cast"): _host_cast,
    ("convolution", "Conv"): _conv,
    ("host", "add"): _scalars("+"),
    ("host", "subtract"): _scalars("-"),
    ("host", "multiply"): _scalars("*"),
}  # fmt: skip
"""How calls are written, by file and name of the function."""
