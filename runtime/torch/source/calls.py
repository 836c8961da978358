"""Calls of operators as a person would write them in plain torch; what has no such form is called by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import fx

from netferry.runtime.torch.source.calls_host import (
    as_number,
    as_tensor,
    host_cast,
    joined,
    listed,
    picked,
    scalars,
    shape_of,
)
from netferry.runtime.torch.source.calls_layers import conv, lrn, over_space, resize
from netferry.runtime.torch.source.calls_math import clip, extreme, many, power, quotient, reduction, swish
from netferry.runtime.torch.source.calls_shape import (
    cast,
    concat,
    cut,
    flatten,
    gather,
    pad,
    pad_sides,
    reshape,
    split,
    squeeze,
    transpose,
    unsqueeze,
)
from netferry.runtime.torch.source.writing import Call, Renderer, atom, infix, template


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
    **{key: template(*form) for key, form in _UNARY.items()},
    **{
        (module, name): infix(symbol)
        for module, name, symbol in (
            ("arithmetic", "Add", "+"), ("arithmetic", "Sub", "-"), ("arithmetic", "Mul", "*"), ("logic", "And", "&"),
            ("logic", "Or", "|"), ("logic", "Xor", "^"), ("logic", "Equal", "=="), ("logic", "Greater", ">"),
            ("logic", "GreaterOrEqual", ">="), ("logic", "Less", "<"), ("logic", "LessOrEqual", "<="),
        )
    },
    ("logic", "Not"): lambda call: f"~{atom(call['X'])}",
    ("arithmetic", "Div"): quotient,
    ("arithmetic", "Pow"): power,
    ("arithmetic", "Clip"): clip,
    ("arithmetic", "Sum"): many("+"),
    ("arithmetic", "Max"): extreme("maximum"),
    ("arithmetic", "Min"): extreme("minimum"),
    ("shape", "Cast"): cast,
    ("shape", "Reshape"): reshape,
    ("shape", "Flatten"): flatten,
    ("shape", "Squeeze"): squeeze,
    ("shape", "Unsqueeze"): unsqueeze,
    ("shape", "Transpose"): transpose,
    ("shape", "Concat"): concat,
    ("shape", "Split"): split,
    ("shape", "Slice"): cut,
    ("shape", "Pad"): pad,
    ("indexing", "Gather"): gather,
    ("reduction", "ReduceMean"): reduction("mean"),
    ("reduction", "ReduceSum"): reduction("sum"),
    ("reduction", "ReduceMax"): reduction("amax"),
    ("reduction", "ReduceMin"): reduction("amin"),
    ("activation", "Swish"): swish,
    ("pooling", "GlobalAveragePool"): over_space("mean"),
    ("pooling", "GlobalMaxPool"): over_space("amax"),
    ("normalization", "LRN"): lrn,
    ("resize", "Resize"): resize,
    ("glue", "pad_sides"): pad_sides,
    ("host", "shape"): shape_of,
    ("host", "gather"): picked,
    ("host", "join"): joined,
    ("host", "listed"): listed,
    ("host", "as_tensor"): as_tensor,
    ("host", "as_number"): as_number,
    ("host", "cast"): host_cast,
    ("convolution", "Conv"): conv,
    ("host", "add"): scalars("+"),
    ("host", "subtract"): scalars("-"),
    ("host", "multiply"): scalars("*"),
}  # fmt: skip
"""How calls are written, by file and name of the function."""
