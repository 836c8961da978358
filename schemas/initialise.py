"""Values for parameters that have none: the fillers of the source frameworks, seeded.

Caffe's rules are those of caffe/filler.hpp; ``msra`` is He et al. 2015, ``xavier`` Glorot & Bengio 2010.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.errors import UnsupportedOption, quoted


def fill(filler: dict[str, Any], shape: Sequence[int], name: str, seed: int) -> np.ndarray:
    """Return float32 values of ``shape``; the same (filler, shape, name, seed) always gives the same values.

    Types: constant, uniform, gaussian, xavier, msra, positive_unitball, bilinear, truncated_normal; without a
    type ``msra``, which keeps activations in scale in a deep network of rectifiers. A gaussian with ``centred`` (an
    axis) sums to 0 over all other axes.

    Raises:
        UnsupportedOption: unknown filler type.
    """
    if 0 in shape:
        return np.zeros(shape, np.float32)
    kind = str(filler.get("type", "msra"))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "surrogatepass"))])
    number = _number(filler)
    count = int(np.prod(shape, dtype=np.int64))
    fan_in = float(filler.get("fan_in") or (count / shape[0] if len(shape) > 1 else max(count, 1)))
    fan_out = float(filler.get("fan_out") or (count / shape[1] if len(shape) > 1 else max(count, 1)))
    n = {"FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}.get(str(filler.get("variance_norm")), fan_in)
    if kind == "constant":
        return np.full(shape, number("value", 0.0), np.float32)
    if kind == "bilinear":
        return bilinear(shape)
    if kind == "uniform":
        low, high = number("min", 0.0), number("max", 1.0)
        return np.float32(low) + np.float32(high - low) * rng.random(shape, np.float32)
    if kind == "gaussian":
        draws = rng.standard_normal(shape, np.float32)
        if filler.get("centred") is not None:  # no sum over what one output reads; the spread stays
            others = tuple(i for i in range(len(shape)) if i != filler["centred"])
            draws -= draws.mean(others, keepdims=True)
            draws *= np.float32(np.sqrt(1 / max(1 - shape[int(filler["centred"])] / count, 0.5)))
        return np.float32(number("mean", 0.0)) + np.float32(number("std", 1.0)) * draws
    if kind == "truncated_normal":
        draws = np.clip(rng.standard_normal(shape, np.float32), -2, 2)
        return np.float32(number("mean", 0.0)) + np.float32(number("std", 0.05)) * draws
    if kind == "xavier":
        bound = np.float32(np.sqrt(3.0 / max(n, 1.0)))
        return bound * (2 * rng.random(shape, np.float32) - 1)
    if kind == "msra":
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2.0 / max(n, 1.0)))
    if kind == "positive_unitball":
        values = rng.random(shape, np.float32)
        per_unit = values.reshape(shape[0], -1) if len(shape) else values.reshape(1, 1)
        return (per_unit / per_unit.sum(1, keepdims=True)).reshape(shape)
    raise UnsupportedOption(f"filler {quoted(kind)} is not known", layer=name)


def _number(filler: dict[str, Any]) -> Any:
    def number(key: str, default: float) -> float:
        return float(filler.get(key, default))

    return number


def bilinear(shape: Sequence[int]) -> np.ndarray:
    """Caffe's BilinearFiller: the upsampling kernel, repeated for every pair of channels."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise UnsupportedOption(f"the bilinear filler needs a square 4-D kernel, this one is {tuple(shape)}")
    f = np.ceil(shape[3] / 2.0)
    c = (shape[3] - 1) / (2.0 * f)
    ramp = 1 - np.abs(np.arange(shape[3]) / f - c)
    return np.broadcast_to(np.outer(ramp, ramp), shape).astype(np.float32)
