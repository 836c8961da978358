"""DetectionOutput of SSD (github.com/weiliu89/caffe, branch ssd) as NonMaxSuppression and standard operators."""

from __future__ import annotations

import math

import numpy as np

from netferry.converters.caffe.layers.detections import LOWEST, columns, detections, suppress
from netferry.converters.caffe.layers.ssd_adaptive import suppress_adaptively
from netferry.converters.caffe.registry import Declined, Layer, layer
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_MOST_CLASSES = 100_000
_CODES = {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3}


@layer("DetectionOutput")
def detection_output(
    b: Builder, l: Layer, location: ir.Value, confidence: ir.Value, prior: ir.Value, *picture: ir.Value
) -> ir.Value:
    """Decode the boxes, suppress per class, keep the best: 1 x 1 x K x 7 rows [image, label, score, corners].

    Rows come by image, then label, then falling score, as in Caffe. ``top_k`` limits the candidates of a class before
    the suppression, ``keep_top_k`` the rows of an image after it. A fourth bottom (the picture, for drawing) is not
    read.

    Args:
        location: (N, P * 4) or, without share_location, (N, P * classes * 4).
        confidence: (N, P * classes).
        prior: (1, 2, P * 4), boxes and variances.
    """
    p = l.param("detection_output_param")
    p.ignore("save_output_param", "visualize", "visualize_threshold", "save_file")
    if len(picture) > 1:
        raise Declined(f"{3 + len(picture)} bottoms (RefineDet's form)")
    classes, shared = p.int("num_classes", least=1), p.bool("share_location", True)
    background = p.int("background_label_id", 0)
    code, encoded = p.enum("code_type", _CODES, "CORNER"), p.bool("variance_encoded_in_target", False)
    keep, floor = p.int("keep_top_k", -1), p.float("confidence_threshold", LOWEST)
    nms = p.message("nms_param")
    overlap, top, eta = nms.float("nms_threshold", 0.3), nms.int("top_k", -1), nms.float("eta", 1.0)
    if overlap < 0 or not 0 < eta <= 1:
        raise MalformedFile("nms_threshold must be at least 0 and eta within (0, 1]", layer=l.name)
    if top == 0 or keep == 0:
        raise UnsupportedOption("top_k or keep_top_k of 0 keeps nothing", layer=l.name)
    priors = _check_sizes(l, location, confidence, prior, classes, 1 if shared else classes)
    if classes > _MOST_CLASSES:
        raise LimitExceeded(f"{classes} classes (limit {_MOST_CLASSES})", layer=l.name)
    labels = [c for c in range(classes) if c != background]
    if not labels:
        raise MalformedFile("there is no class besides the background", layer=l.name)

    boxes = _decode(b, location, prior, priors, 0 if shared else classes, code, encoded)
    scores = b.reshape(confidence, [0, priors, classes])
    if len(labels) < classes:
        scores = b.op("Gather", scores, b.const(labels, "labels"), axis=2)
        boxes = boxes if shared else b.op("Gather", boxes, b.const(labels, "labels"), axis=2)
    scores = b.op("Transpose", scores, perm=[0, 2, 1])
    if not shared:  # each class of an image has its own boxes: suppress as if it were an image of its own
        boxes = b.reshape(b.op("Transpose", boxes, perm=[0, 2, 1, 3]), [-1, priors, 4])
        scores = b.reshape(scores, [-1, 1, priors])
    upright = boxes if code == "CENTER_SIZE" else _upright(b, boxes)
    count = top if 0 < top < priors else priors
    if eta < 1 and overlap > 0.5:  # at 0.5 and below eta changes nothing
        sets = len(labels) if shared else 1
        rows = suppress_adaptively(
            b, upright, scores, classes=sets, candidates=count, overlap=overlap, eta=eta, least_score=max(floor, LOWEST)
        )
    else:
        candidates = _best(b, scores, top, axis=2) if count < priors else scores
        rows = suppress(b, upright, candidates, most=priors, overlap=overlap, least_score=floor)
    if 0 < keep < len(labels) * priors:
        rows = _keep(b, scores, rows, keep, len(labels) * priors)

    image, kind, _ = columns(b, rows)
    if not shared:
        kind = b.op("Mod", image, b.const(len(labels)))
        image = b.op("Div", image, b.const(len(labels)))
    label = b.op("Gather", b.const(np.array(labels, np.float32), "label"), kind)
    score = b.op("Unsqueeze", b.op("GatherND", scores, rows), b.const([1]))
    box = b.op("GatherND", boxes, b.op("Gather", rows, b.const([0, 2]), axis=1))
    return detections(b, image, label, score, box, location)


def _check_sizes(l: Layer, location: ir.Value, confidence: ir.Value, prior: ir.Value, classes: int, sets: int) -> int:
    """Return the number of priors; raise MalformedFile where the bottoms do not fit it."""
    dims = shape_of(prior)
    if len(dims) < 3 or (isinstance(dims[1], int) and dims[1] != 2):
        raise MalformedFile(f"priors have shape 1 x 2 x (4 per box), not {dims}", layer=l.name)
    priors = l.fixed(prior, 2, "DetectionOutput") // 4
    for what, value, each in (("locations", location, 4 * sets), ("confidences", confidence, classes)):
        sizes = shape_of(value)[1:]
        known = [d for d in sizes if isinstance(d, int)]
        if len(known) == len(sizes) and math.prod(known) != priors * each:
            raise MalformedFile(
                f"{priors} priors need {priors * each} {what}, the bottom has {math.prod(known)}", layer=l.name
            )
    if priors == 0:
        raise MalformedFile("there are no priors", layer=l.name)
    return priors


def _decode(
    b: Builder, location: ir.Value, prior: ir.Value, priors: int, sets: int, code: str, encoded: bool
) -> ir.Value:
    """Corners (N, P, 4), or (N, P, sets, 4) where each class has its own (DecodeBBox of bbox_util.cpp)."""
    per_class = [sets] if sets else []
    middle = [1] if sets else []
    found = b.reshape(location, [0, priors, *per_class, 4])
    if shape_of(prior)[0] != 1:
        prior = b.op("Slice", prior, b.const([0]), b.const([1]), b.const([0]))  # those of the first image serve all
    both = b.reshape(prior, [2, priors, *middle, 4])
    box, variance = (b.op("Gather", both, b.const(i), axis=0) for i in (0, 1))
    if not encoded:
        found = b.op("Mul", variance, found)
    if code == "CORNER":
        return b.op("Add", box, found)
    low, high = b.op("Split", box, outputs=2, axis=-1, num_outputs=2)
    size = b.op("Sub", high, low)
    if code == "CORNER_SIZE":
        return b.op("Add", box, b.op("Mul", found, b.op("Concat", size, size, axis=-1)))
    shift, stretch = b.op("Split", found, outputs=2, axis=-1, num_outputs=2)
    half = b.const(0.5, "half")
    centre = b.op("Add", b.op("Mul", shift, size), b.op("Mul", b.op("Add", low, high), half))
    reach = b.op("Mul", b.op("Mul", b.op("Exp", stretch), size), half)
    return b.op("Concat", b.op("Sub", centre, reach), b.op("Add", centre, reach), axis=-1)


def _upright(b: Builder, boxes: ir.Value) -> ir.Value:
    """Give boxes whose corners are swapped no area: Caffe has them overlap nothing, ONNX would turn them."""
    low, high = b.op("Split", boxes, outputs=2, axis=-1, num_outputs=2)
    return b.op("Concat", low, b.op("Max", low, high), axis=-1)


def _best(b: Builder, scores: ir.Value, count: int, axis: int) -> ir.Value:
    """Keep the ``count`` best scores along the last axis; the others become LOWEST."""
    best, at = b.op("TopK", scores, b.const([count], "count"), outputs=2, axis=axis)
    return b.op("ScatterElements", _lowest_like(b, scores), at, best, axis=axis)


def _lowest_like(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("ConstantOfShape", b.op("Shape", x), value=ir.tensor(np.array([LOWEST], np.float32)))


def _keep(b: Builder, scores: ir.Value, rows: ir.Value, count: int, per_image: int) -> ir.Value:
    """Keep each image's ``count`` best rows, in the order they have."""
    found = b.op("ScatterND", _lowest_like(b, scores), rows, b.op("GatherND", scores, rows))
    best = _best(b, b.reshape(found, [-1, per_image]), count, axis=1)
    kept = b.op("GatherND", b.op("Reshape", best, b.op("Shape", scores)), rows)
    return b.op("Compress", rows, b.op("Greater", kept, b.const(LOWEST)), axis=0)
