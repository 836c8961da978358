"""Fillers that keep a network's activations in scale: each kernel's spread follows from what reaches it.

The idea of layer-sequential unit variance (Mishkin & Matas 2016), with expected moments in place of measured ones, so
that no engine is needed and the same seed gives the same network everywhere. Kernels over several channels are centred:
what all channels have in common (rectified values are never below 0) then does not drown what tells pictures apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape
from netferry.schemas.model import Model
from netferry.schemas.preprocessing import Preprocessing
from netferry.schemas.tensors import array_of, filler_of, uninitialised_tensor

_PIXEL_MEAN, _PIXEL_SPREAD = 118.0, 66.0
"""of photographs, on the 0..255 scale"""
_LEAST = 1e-6
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)


@dataclass(frozen=True)
class Moments:
    """Mean and variance that a value's elements are expected to have."""

    mean: float = 0.0
    variance: float = 1.0

    @property
    def square(self) -> float:
        """Expected square."""
        return self.mean**2 + self.variance

    def through(self, function: Callable[[np.ndarray], np.ndarray]) -> Moments:
        """Moments behind an elementwise function, for a normal distribution (Gauss-Hermite quadrature)."""
        weights = _WEIGHTS / _WEIGHTS.sum()
        with np.errstate(over="ignore"):
            y = function(self.mean + math.sqrt(max(self.variance, 0.0)) * _POINTS)
        mean = float((weights * y).sum())
        return Moments(mean, max(float((weights * y * y).sum()) - mean**2, _LEAST))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "LeakyRelu": lambda x: np.where(x > 0, x, 0.1 * x),
    "PRelu": lambda x: np.where(x > 0, x, 0.25 * x),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Selu": lambda x: 1.0507 * np.where(x > 0, x, 1.6733 * np.expm1(np.minimum(x, 0))),
    "Clip": lambda x: np.clip(x, 0, 6),
    "Sigmoid": _sigmoid,
    "HardSigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Tanh": np.tanh,
    "Softplus": lambda x: np.logaddexp(0, x),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "Gelu": lambda x: x * _sigmoid(1.702 * x),
}
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_POOLS = {"MaxPool": 0.6, "GlobalMaxPool": 0.3, "AveragePool": 0.5, "GlobalAveragePool": 0.3, "ReduceMean": 0.3}
"""part of the variance that is left, for maps as smooth as those of pictures"""
_MOVERS = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten")


def scale_fillers(model: Model) -> None:
    """Give every parameter without values a filler under which activations keep mean 0 and variance 1.

    Kernels become normal with the right spread, running statistics those that are expected; biases and scales keep
    their 0 and 1. Call :meth:`Model.initialise` next.
    """
    known: dict[ir.Value, Moments] = {}
    done: set[str] = set()
    for value in model.graph.inputs:
        known[value] = _of_input(model.preprocessing.get(value.name or ""))
    for node in model.graph:
        made = _behind(node, known, done)
        for value in node.outputs:
            known[value] = made


def _of_input(recipe: Preprocessing | None) -> Moments:
    if recipe is None:
        return Moments()
    mean = float(np.mean(recipe.mean)) if recipe.mean else 0.0
    if recipe.mean_image is not None:
        mean = float(np.mean(recipe.mean_image))
    scale = float(np.mean(recipe.scale)) if recipe.scale else 1.0
    return Moments((_PIXEL_MEAN - mean) * scale, (_PIXEL_SPREAD * scale) ** 2)


def _behind(node: ir.Node, known: dict[ir.Value, Moments], done: set[str]) -> Moments:
    given = [_moments(v, known) for v in node.inputs if v is not None]
    first = given[0] if given else Moments()
    kind = node.op_type
    if kind in _PRODUCTS:
        return _product(node, first, done)
    if kind == "BatchNormalization":
        return _normalised(node, first, done)
    if kind in _FUNCTIONS:
        return first.through(_FUNCTIONS[kind])
    if kind in _POOLS:
        shift = math.sqrt(first.variance) if "Max" in kind else 0.0
        return Moments(first.mean + shift, max(first.variance * _POOLS[kind], _LEAST))
    if kind in ("Add", "Sum", "Sub"):
        sign = -1 if kind == "Sub" else 1
        return Moments(given[0].mean + sign * sum(m.mean for m in given[1:]), sum(m.variance for m in given))
    if kind == "Mul" and len(given) == 2:
        mean = given[0].mean * given[1].mean
        return Moments(mean, max(given[0].square * given[1].square - mean**2, _LEAST))
    if kind == "Div" and len(given) == 2:
        by = max(given[1].square, _LEAST)
        return Moments(first.mean / math.sqrt(by), max(first.variance / by, _LEAST))
    if kind == "Concat":
        mean = float(np.mean([m.mean for m in given]))
        return Moments(mean, float(np.mean([m.square for m in given])) - mean**2)
    return first


def _moments(value: ir.Value, known: dict[ir.Value, Moments]) -> Moments:
    if value in known:
        return known[value]
    filler = filler_of(value.const_value)
    if filler is not None:
        return Moments(float(str(filler.get("value", 0.0))), 0.0) if filler.get("type") == "constant" else Moments()
    if value.is_initializer() and value.dtype == ir.DataType.FLOAT and (array := array_of(value)) is not None:
        return Moments(float(array.mean()), float(array.var())) if array.size else Moments()
    return Moments()


def _product(node: ir.Node, x: Moments, done: set[str]) -> Moments:
    kernel = node.inputs[1]
    if kernel is None or kernel.shape is None:
        return Moments()
    shape = list(static_shape(kernel))
    if node.op_type == "MatMul":
        out_axis, fan_in = len(shape) - 1, shape[-2] if len(shape) > 1 else shape[0]
    elif node.op_type == "Gemm":
        out_axis = 0 if (t := node.attributes.get("transB")) is not None and t.as_int() else 1
        fan_in = shape[1 - out_axis]
    else:
        out_axis, fan_in = (0, math.prod(shape[1:])) if node.op_type == "Conv" else (1, math.prod(shape) // shape[1])
    source, moved = _initializer(kernel)
    if source is None:
        return Moments()
    mixed = node.op_type in ("Gemm", "MatMul") or (node.op_type == "Conv" and shape[1] >= 8)
    centred = mixed and not moved
    spread = 1 / math.sqrt(fan_in * max(x.variance if centred else x.square, _LEAST))
    filler: dict[str, object] = {"type": "gaussian", "std": spread}
    _fill(source, filler | ({"centred": out_axis} if centred else {}), done)
    return Moments(0.0, 1.0)


def _normalised(node: ir.Node, x: Moments, done: set[str]) -> Moments:
    mean, variance = node.inputs[3], node.inputs[4]
    for value, number in ((mean, x.mean), (variance, x.variance)):
        if value is not None and filler_of(value.const_value) is not None:
            _fill(value, {"type": "constant", "value": number}, done)
    return Moments(0.0, 1.0)


def _initializer(value: ir.Value) -> tuple[ir.Value | None, bool]:
    """The parameter without values behind a kernel, and whether its axes were moved on the way."""
    moved = False
    while not value.is_initializer():
        node = value.producer()
        if node is None or node.op_type not in _MOVERS or node.inputs[0] is None:
            return None, False
        value, moved = node.inputs[0], moved or node.op_type != "Identity"
    return (value, moved) if filler_of(value.const_value) is not None else (None, False)


def _fill(value: ir.Value, filler: dict[str, object], done: set[str]) -> None:
    """Replace the filler; a parameter that several layers share keeps the first one's."""
    if (name := value.name or "") in done:
        return
    done.add(name)
    tensor = uninitialised_tensor(static_shape(value), filler=filler)
    tensor.name = name
    value.const_value = tensor
