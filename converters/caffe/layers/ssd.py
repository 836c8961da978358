"""PriorBox of SSD (github.com/weiliu89/caffe, branch ssd); its DetectionOutput is in ssd_detection.py."""

from __future__ import annotations

import math

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Declined, Layer, layer
from netferry.errors import LimitExceeded, MalformedFile
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_MOST_PRIORS = 1_000_000
_MOST_KINDS = 10_000


@layer("PriorBox")
def prior_box(b: Builder, l: Layer, x: ir.Value, *image: ir.Value) -> ir.Value:
    """The prior boxes of a feature map, (1, 2, H*W*priors*4): corners relative to the image, then their variances.

    Only the sizes of the bottoms matter, so the boxes are computed here, in the order and the precision of
    prior_box_layer.cpp: sizes are cut to integers, centres are float32.
    """
    p = l.param("prior_box_param")
    p.ignore("num_priors")
    for name in ("fixed_size", "fixed_ratio", "density"):
        if p.has(name):
            raise Declined(f"prior_box_param.{name} is of a fork that is not read")
    sizes = _box_sizes(l, p)
    clip, offset = p.bool("clip", False), p.float("offset", 0.5)
    variance = _variance(l, p)
    H, W = (l.fixed(x, axis, "PriorBox") for axis in (2, 3)) if len(x.shape or ()) == 4 else (0, 0)
    image_h, image_w = _image_size(l, p, image)
    step_h, step_w = _steps(l, p, image_h, image_w, H, W)
    if not 0 < H * W * len(sizes) <= _MOST_PRIORS:
        raise LimitExceeded(f"{H} x {W} x {len(sizes)} prior boxes (limit {_MOST_PRIORS})", layer=l.name)
    with np.errstate(all="ignore"):  # absurd settings overflow; the check below names them
        priors = _priors(sizes, variance, (W, H), (image_w, image_h), (step_w, step_h), offset, clip=clip)
    if not np.isfinite(priors).all():
        raise MalformedFile("prior_box_param gives boxes beyond any number", layer=l.name)
    return b.op("Identity", b.const(priors, "priors"))


def _priors(
    sizes: list[tuple[float, float]],
    variance: list[float],
    cells: tuple[int, int],
    image: tuple[int, int],
    step: tuple[float, float],
    offset: float,
    *,
    clip: bool,
) -> np.ndarray:
    """(1, 2, cells * priors * 4) float32; pairs are (across, down)."""
    W, H = cells
    centre_x = (np.arange(W, dtype=np.float32) + np.float32(offset)) * np.float32(step[0])
    centre_y = (np.arange(H, dtype=np.float32) + np.float32(offset)) * np.float32(step[1])
    half = np.array(sizes, np.float32).astype(np.float64) / 2
    centres = np.empty((H, W, len(sizes), 4), np.float64)
    centres[..., 0::2] = centre_x[None, :, None, None]
    centres[..., 1::2] = centre_y[:, None, None, None]
    boxes = ((centres + np.concatenate([-half, half], axis=1)) / np.array(image * 2, np.float64)).astype(np.float32)
    if clip:
        boxes = boxes.clip(0, 1)
    variances = np.broadcast_to(np.array(variance).astype(np.float32), boxes.shape)
    return np.stack([boxes.reshape(-1), variances.reshape(-1)])[None]


def _box_sizes(l: Layer, p: Params) -> list[tuple[float, float]]:
    """(width, height) in pixels of each prior of a cell, in Caffe's order."""
    smallest, largest = p.floats("min_size"), p.floats("max_size")
    if not smallest or min(smallest) <= 0:
        raise MalformedFile("prior_box_param.min_size must be given, above 0", layer=l.name)
    if largest and (len(largest) != len(smallest) or any(a <= i for a, i in zip(largest, smallest, strict=True))):
        raise MalformedFile("prior_box_param needs one max_size, above it, for each min_size", layer=l.name)
    if max(smallest + largest) >= 2**31:
        raise MalformedFile("prior_box_param has a box of 2^31 pixels or more", layer=l.name)
    flip, given_ratios = p.bool("flip", True), p.floats("aspect_ratio")
    if len(given_ratios) > 1000 or len(smallest) * (2 * len(given_ratios) + 2) > _MOST_KINDS:
        raise LimitExceeded(
            f"prior boxes of {len(smallest)} sizes and {len(given_ratios)} ratios (limit {_MOST_KINDS})", layer=l.name
        )
    ratios: list[float] = [1.0]
    for given in given_ratios:
        ratio = float(np.float32(given))
        if not 0 < ratio < math.inf:
            raise MalformedFile(f"prior_box_param.aspect_ratio: {given} is not above 0", layer=l.name)
        if any(abs(ratio - known) < 1e-6 for known in ratios):
            continue
        ratios.append(ratio)
        if flip:
            ratios.append(float(np.float32(1.0 / ratio)))
    sizes: list[tuple[float, float]] = []
    for i, small in enumerate(smallest):
        side = float(int(small))
        sizes.append((side, side))
        if largest:
            both = math.sqrt(int(small) * int(largest[i]))
            sizes.append((both, both))
        sizes.extend((side * math.sqrt(r), side / math.sqrt(r)) for r in ratios if abs(r - 1.0) >= 1e-6)
    return sizes


def _variance(l: Layer, p: Params) -> list[float]:
    variance = p.floats("variance") or [0.1]
    if len(variance) not in (1, 4) or min(variance) <= 0:
        raise MalformedFile("prior_box_param.variance takes one or four numbers above 0", layer=l.name)
    return variance


def _image_size(l: Layer, p: Params, image: tuple[ir.Value, ...]) -> tuple[int, int]:
    if p.has("img_h") or p.has("img_w"):
        if p.has("img_size"):
            raise MalformedFile("prior_box_param has both img_size and img_h/img_w", layer=l.name)
        return p.int("img_h", least=1), p.int("img_w", least=1)
    if p.has("img_size"):
        size = p.int("img_size", least=1)
        return size, size
    if not image or len(image[0].shape or ()) != 4:
        raise MalformedFile("PriorBox needs the image as second bottom, or img_size", layer=l.name)
    return l.fixed(image[0], 2, "PriorBox"), l.fixed(image[0], 3, "PriorBox")


def _steps(l: Layer, p: Params, image_h: int, image_w: int, height: int, width: int) -> tuple[float, float]:
    """Pixels from cell to cell: down, across."""
    if p.has("step_h") or p.has("step_w"):
        if p.has("step"):
            raise MalformedFile("prior_box_param has both step and step_h/step_w", layer=l.name)
        steps = p.float("step_h"), p.float("step_w")
    elif p.has("step"):
        steps = p.float("step"), p.float("step")
    else:
        return float(np.float32(image_h) / np.float32(max(height, 1))), float(
            np.float32(image_w) / np.float32(max(width, 1))
        )
    if min(steps) <= 0:
        raise MalformedFile("prior_box_param.step must be above 0", layer=l.name)
    return steps
