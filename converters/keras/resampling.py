"""Resizing of pictures as tensorflow does it: one matrix per axis, where no ONNX Resize says the same.

Every method of ``tf.image.resize`` is separable and linear, so for a known size it is exactly a product with a
matrix of weights. The rules are those of tensorflow's kernels (ResizeArea, ResizeBicubic, ScaleAndTranslate).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

METHODS = ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic")
_TABLE = 1024
"""entries of tensorflow's table of bicubic coefficients"""


def rows_of_nearest(size: int, target: int) -> np.ndarray:
    """Source row of each target row: floor((i + 0.5) * size / target), in float32 as tensorflow computes it."""
    scale = np.float32(size) / np.float32(target)
    places = np.floor((np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale).astype(np.int64)
    return np.minimum(places, size - 1)


def matrix(method: str, size: int, target: int, antialias: bool) -> np.ndarray:
    """Return the (target, size) weights of a method along one axis.

    Raises:
        ValueError: no such method.
    """
    if method == "nearest":
        return np.eye(size, dtype=np.float32)[rows_of_nearest(size, target)]
    if method == "area":
        return _area(size, target)
    if method == "bicubic" and not antialias:
        return _bicubic(size, target)
    radius, kernel = _KERNELS[method]
    return _spans(size, target, radius, kernel, antialias)


def _area(size: int, target: int) -> np.ndarray:
    """Mean over the piece of the source that a target element covers."""
    scale = size / target
    out = np.zeros((target, size))
    for i in range(target):
        start, end = i * scale, (i + 1) * scale
        for j in range(math.floor(start), math.ceil(end)):
            out[i, min(j, size - 1)] += max(min(end, j + 1) - max(start, j), 0.0)
    return (out / out.sum(axis=1, keepdims=True)).astype(np.float32)


def _keys(x: float) -> float:
    """Cubic convolution of Keys, a = -0.5."""
    if x >= 2:
        return 0.0
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x >= 1 else ((1.5 * x - 2.5) * x) * x + 1


def _bicubic(size: int, target: int) -> np.ndarray:
    """Four neighbours weighted by Keys' cubic, its argument rounded to 1/1024; those outside do not count."""
    scale = np.float32(size) / np.float32(target)
    out = np.zeros((target, size))
    for i in range(target):
        place = float((np.float32(i) + np.float32(0.5)) * scale - np.float32(0.5))
        first = math.floor(place)
        offset = math.floor((place - first) * _TABLE + 0.5) / _TABLE
        weights = [_keys(1 + offset), _keys(offset), _keys(1 - offset), _keys(2 - offset)]
        inside = [(first - 1 + k, w) for k, w in enumerate(weights) if 0 <= first - 1 + k < size]
        total = sum(w for _, w in inside)
        for j, w in inside:
            out[i, j] += w / total if abs(total) >= 1000 * np.finfo(np.float32).tiny else 0.0
    return out.astype(np.float32)


def _lanczos(radius: float) -> Callable[[float], float]:
    def kernel(x: float) -> float:
        if x > radius:
            return 0.0
        if x <= 1e-3:
            return 1.0
        return radius * math.sin(math.pi * x) * math.sin(math.pi * x / radius) / (math.pi * math.pi * x * x)

    return kernel


def _gaussian(x: float) -> float:
    """Radius 1.5, standard deviation a third of it."""
    return 0.0 if x >= 1.5 else math.exp(-x * x / (2 * 0.5 * 0.5))


def _mitchell(x: float) -> float:
    """Mitchell and Netravali, B = C = 1/3."""
    if x >= 2:
        return 0.0
    if x >= 1:
        return (((-7 / 18) * x + 2) * x - 10 / 3) * x + 16 / 9
    return (((7 / 6) * x - 2) * x) * x + 8 / 9


_KERNELS: dict[str, tuple[float, Callable[[float], float]]] = {
    "bilinear": (1.0, lambda x: max(0.0, 1 - x)),
    "bicubic": (2.0, _keys),
    "lanczos3": (3.0, _lanczos(3.0)),
    "lanczos5": (5.0, _lanczos(5.0)),
    "gaussian": (1.5, _gaussian),
    "mitchellcubic": (2.0, _mitchell),
}


def _spans(size: int, target: int, radius: float, kernel: Callable[[float], float], antialias: bool) -> np.ndarray:
    """Weights of a kernel, stretched when shrinking with antialias, normalised; tensorflow's ScaleAndTranslate."""
    inverse = float(np.float32(1) / (np.float32(target) / np.float32(size)))
    stretch = max(inverse, 1.0) if antialias else 1.0
    out = np.zeros((target, size))
    for i in range(target):
        centre = float(np.float32(i + 0.5) * np.float32(inverse))
        if not 0 <= centre <= size:
            continue
        start = min(max(math.ceil(centre - radius * stretch - 0.5), 0), size - 1)
        end = min(max(math.floor(centre + radius * stretch - 0.5), 0), size - 1) + 1
        weights = [kernel(abs((j + 0.5 - centre) / stretch)) for j in range(start, end)]
        total = sum(weights)
        if abs(total) >= 1000 * np.finfo(np.float32).tiny:
            out[i, start:end] = [w / total for w in weights]
    return out.astype(np.float32)
