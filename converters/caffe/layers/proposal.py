"""Proposal of Faster R-CNN: the C++ layer (PVANet, Intel, OpenVINO) and py-faster-rcnn's Python layer."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from netferry.converters.caffe.layers.detections import LOWEST, suppress
from netferry.converters.caffe.registry import Declined, Layer, layer
from netferry.errors import LimitExceeded, MalformedFile, quoted
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_MOST_ANCHORS = 1_000_000
_LARGEST = 1_000_000
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LIST = rf"(?:!!python/tuple\s*)?[\[(]\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*,?\s*[\])]"
_ENTRY = re.compile(
    rf"""(?P<quote>['"]?)(?P<key>[a-z_]{{1,40}})(?P=quote)[ ]*:[ ]*(?P<value>{_LIST}|{_NUMBER})[ ]*(?:[,\n]\s*|$)"""
)


@dataclass(frozen=True)
class Settings:
    """Settings of a proposal layer; sizes in pixels of the network's input."""

    stride: int = 16
    base: int = 16
    least: float = 16.0
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    scales: tuple[float, ...] = (8.0, 16.0, 32.0)
    before: int = 6000
    after: int = 300
    overlap: float = 0.7
    drop_small: bool = False
    """py-faster-rcnn drops boxes below the least size; the C++ layer sets their score to 0"""


@layer("Proposal")
def proposal(b: Builder, l: Layer, scores: ir.Value, deltas: ir.Value, info: ir.Value) -> tuple[ir.Value, ...]:
    """Regions (R, 5) of rows [image, x1, y1, x2, y2], and their scores (R) as second top.

    The anchors and their order are those of proposal_layer.cpp; a fork with other settings is refused.

    Args:
        scores: (N, 2 * anchors, H, W), background first.
        deltas: (N, 4 * anchors, H, W).
        info: (N or 1, 3 or more) rows [height, width, scale (or scale_h, scale_w)].
    """
    p = l.param("proposal_param")
    default = Settings()
    settings = Settings(
        stride=p.int("feat_stride", default.stride, least=1),
        base=p.int("base_size", default.base, least=1),
        least=p.float("min_size", default.least),
        ratios=tuple(p.floats("ratio")) or default.ratios,
        scales=tuple(p.floats("scale")) or default.scales,
        before=p.int("pre_nms_topn", default.before, least=1),
        after=p.int("post_nms_topn", default.after, least=1),
        overlap=p.float("nms_thresh", default.overlap),
    )
    if p.unread():
        raise Declined(f"settings of a fork that is not known: {', '.join(p.unread())}")
    return _regions(b, l, settings, scores, deltas, info)


@layer("Python:rpn.proposal_layer.ProposalLayer")
def python_proposal(b: Builder, l: Layer, scores: ir.Value, deltas: ir.Value, info: ir.Value) -> tuple[ir.Value, ...]:
    """py-faster-rcnn's Python layer with the settings of its TEST phase (config.py); nothing of it is run.

    Only ``feat_stride`` and ``scales`` can be given, in ``param_str``, which a parser of three rules reads.
    """
    p = l.param("python_param")
    p.ignore("module", "layer", "share_in_parallel")
    given = read_param_str(p.str("param_str"))
    unknown = set(given) - {"feat_stride", "scales"}
    if unknown:
        raise Declined(f"param_str has {', '.join(map(quoted, sorted(unknown)))}; only feat_stride and scales are read")
    stride = given.get("feat_stride", (0.0,))
    if len(stride) != 1 or stride[0] < 1 or stride[0] != int(stride[0]):
        raise MalformedFile("param_str needs feat_stride, a whole number of at least 1", layer=l.name)
    settings = Settings(stride=int(stride[0]), scales=given.get("scales", Settings.scales), drop_small=True)
    rois, score = _regions(b, l, settings, scores, deltas, info)
    return rois, b.op("Unsqueeze", score, b.const([1]))


def read_param_str(text: str) -> dict[str, tuple[float, ...]]:
    """Read ``'key': number`` and ``'key': [numbers]``, apart by line ends or commas, in braces or not.

    Raises:
        Declined: anything else, a name given twice, more than 1000 characters.
    """
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1].strip()
    out: dict[str, tuple[float, ...]] = {}
    at = 0
    while at < len(body) <= 1000:
        match = _ENTRY.match(body, at)
        if match is None or match["key"] in out:
            break
        out[match["key"]] = tuple(float(n) for n in re.findall(_NUMBER, match["value"]))
        at = match.end()
    if at < len(body) or not all(math.isfinite(n) for numbers in out.values() for n in numbers):
        raise Declined(f"param_str {quoted(text)} is not understood (and never evaluated)")
    return out


def anchors_of(settings: Settings, where: str) -> np.ndarray:
    """The anchors around cell 0, (ratios * scales, 4) float32 corners in pixels (generate_anchors).

    The C++ layer rounds halves up, the Python layer to even.
    """
    if len(settings.ratios) * len(settings.scales) > 10_000:
        raise LimitExceeded(
            f"anchors of {len(settings.ratios)} ratios and {len(settings.scales)} scales (limit 10000)", layer=where
        )
    if not all(1 / _LARGEST <= v <= _LARGEST for v in settings.ratios + settings.scales):
        raise MalformedFile(f"ratios and scales of anchors must be above 0 (1e-6 to {_LARGEST})", layer=where)
    exact = np.float64 if settings.drop_small else np.float32
    rounded = np.round if settings.drop_small else lambda x: np.floor(x + exact(0.5))
    ratios, scales = np.array(settings.ratios, exact), np.array(settings.scales, exact)
    width = rounded(np.sqrt(exact(settings.base * settings.base) / ratios))
    height = rounded(width * ratios)
    half = np.stack([np.outer(side, scales).reshape(-1) - 1 for side in (width, height)], axis=1) / 2
    middle = (settings.base - 1) / 2
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)


def _regions(
    b: Builder, l: Layer, settings: Settings, scores: ir.Value, deltas: ir.Value, info: ir.Value
) -> tuple[ir.Value, ir.Value]:
    anchors = anchors_of(settings, l.name)
    if max(settings.stride, settings.base, abs(settings.least)) > _LARGEST:
        raise MalformedFile(f"feat_stride, base_size or min_size is above {_LARGEST}", layer=l.name)
    H, W, total = _check_sizes(l, scores, deltas, len(anchors))
    shift = np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).reshape(-1, 1, 2) * settings.stride
    tiled = (np.tile(shift, 2) + anchors).astype(np.float32).reshape(-1, 4)
    size = tiled[:, 2:] - tiled[:, :2] + 1

    score = b.op("Slice", scores, b.const([len(anchors)]), b.const([2 * len(anchors)]), b.const([1]))
    score = b.reshape(b.op("Transpose", score, perm=[0, 2, 3, 1]), [0, total])
    split = b.reshape(deltas, [0, len(anchors), 4, H * W])
    delta = b.reshape(b.op("Transpose", split, perm=[0, 3, 1, 2]), [0, total, 4])
    move, stretch = b.op("Split", delta, outputs=2, axis=2, num_outputs=2)
    extent = b.const(size, "size")
    centre = b.op("Add", b.op("Mul", move, extent), b.const(tiled[:, :2] + np.float32(0.5) * size, "centre"))
    reach = b.op("Mul", b.op("Mul", b.op("Exp", stretch), extent), b.const(0.5))
    limit, least = _picture(b, l, info, settings.least)
    low, high = (b.op("Max", b.op("Min", b.op(way, centre, reach), limit), b.const(0.0)) for way in ("Sub", "Add"))
    boxes = b.op("Concat", low, high, axis=2)
    one = b.const(1.0, "one")
    fits = b.op("GreaterOrEqual", b.op("Add", b.op("Sub", high, low), one), least)
    large = b.op("Equal", b.op("ReduceSum", b.op("Cast", fits, to=ir.DataType.INT64), b.const([2]), keepdims=0), 2)
    score = b.op("Where", large, score, b.const(LOWEST if settings.drop_small else 0.0))

    count = min(settings.before, total)
    best, at = b.op("TopK", score, b.const([count], "count"), outputs=2, axis=1)
    chosen = b.op("Expand", b.op("Unsqueeze", at, b.const([2])), b.const([1, 1, 4]))
    boxes = b.op("GatherElements", boxes, chosen, axis=1)
    low, high = b.op("Split", boxes, outputs=2, axis=2, num_outputs=2)
    inclusive = b.op("Concat", low, b.op("Add", high, one), axis=2)  # a corner counts as a pixel: areas have + 1
    rows = suppress(
        b, inclusive, b.op("Unsqueeze", best, b.const([1])),
        most=min(settings.after, count), overlap=settings.overlap, least_score=LOWEST,
    )  # fmt: skip
    where = b.op("Gather", rows, b.const([0, 2]), axis=1)
    image = b.op("Cast", b.op("Slice", rows, b.const([0]), b.const([1]), b.const([1])), to=ir.DataType.FLOAT)
    return b.op("Concat", image, b.op("GatherND", boxes, where), axis=1), b.op("GatherND", best, where)


def _check_sizes(l: Layer, scores: ir.Value, deltas: ir.Value, anchors: int) -> tuple[int, int, int]:
    for value, each in ((scores, 2), (deltas, 4)):
        dims = shape_of(value)
        if len(dims) != 4 or (isinstance(dims[1], int) and dims[1] != each * anchors):
            raise MalformedFile(
                f"{anchors} anchors need N x {each * anchors} x H x W, the bottom has {dims}", layer=l.name
            )
    H, W = (l.fixed(scores, axis, "Proposal") for axis in (2, 3))
    if not 0 < H * W * anchors <= _MOST_ANCHORS:
        raise LimitExceeded(f"{H} x {W} x {anchors} anchors (limit {_MOST_ANCHORS})", layer=l.name)
    if (l.fixed(deltas, 2, "Proposal"), l.fixed(deltas, 3, "Proposal")) != (H, W):
        raise MalformedFile("scores and deltas differ in height or width", layer=l.name)
    return H, W, H * W * anchors


def _picture(b: Builder, l: Layer, info: ir.Value, least: float) -> tuple[ir.Value, ir.Value]:
    """Largest corner and least size of a box, (N or 1, 1, 2) in the order width, height."""
    dims = shape_of(info)
    values = l.fixed(info, -1 if len(dims) < 3 else 1, "Proposal")
    if values < 3:
        raise MalformedFile(f"the picture's info has height, width and scale, this one {values} numbers", layer=l.name)
    flat = b.reshape(info, [-1, 1, values])
    extent = b.op("Gather", flat, b.const([1, 0]), axis=2)
    scale = b.op("Gather", flat, b.const([3, 2] if values > 3 else [2, 2]), axis=2)
    return b.op("Sub", extent, b.const(1.0)), b.op("Mul", scale, b.const(least, "min_size"))
