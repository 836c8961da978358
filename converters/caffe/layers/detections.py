"""Rows of detections, shared by the detection layers: SSD's, YOLO's."""

from __future__ import annotations

import numpy as np

from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

LOWEST = float(np.finfo(np.float32).min)
"""-FLT_MAX: the score of what is no candidate"""


def just_below(number: float) -> float:
    """The largest float32 below ``number``: NonMaxSuppression compares with ``>`` where a fork says ``>=``."""
    return float(np.nextafter(np.float32(min(max(number, LOWEST), -LOWEST)), np.float32(-np.inf)))


def overlap_limit(threshold: float) -> float:
    """An IoU threshold within NonMaxSuppression's range; an IoU never exceeds 1."""
    return min(max(threshold, 0.0), 1.0)


def suppress(
    b: Builder, boxes: ir.Value, scores: ir.Value, *, most: int, overlap: float, least_score: float
) -> ir.Value:
    """Return the rows (image, class, box) that survive non-maximum suppression: images and classes ascending, scores
    descending.

    Args:
        boxes: (images, boxes, 4) corners.
        scores: (images, classes, boxes).
        most: how many to keep per image and class.
        overlap: boxes that overlap a better one by more than this IoU go.
        least_score: only scores above it are candidates.
    """
    return b.op(
        "NonMaxSuppression",
        boxes,
        scores,
        b.const([most], "most"),
        b.const([overlap_limit(overlap)], "overlap"),
        b.const([min(max(least_score, LOWEST), -LOWEST)], "least_score"),
    )


def detections(
    b: Builder, image: ir.Value, label: ir.Value, score: ir.Value, box: ir.Value, batch: ir.Value
) -> ir.Value:
    """Return the blob 1 x 1 x K x 7 of rows [image, label, score, xmin, ymin, xmax, ymax].

    Where nothing was found in the whole batch there is one row [image, -1, -1, -1, -1, -1, -1] per image, as SSD's
    Caffe writes it (detection_output_layer.cpp, 'fake results').

    Args:
        image, label, score: (K, 1) each, image of any integer type.
        box: (K, 4) corners.
        batch: a value whose axis 0 is the batch.
    """
    rows = b.op("Concat", b.op("Cast", image, to=ir.DataType.FLOAT), label, score, box, axis=1)
    count = b.op("Shape", batch, start=0, end=1)
    images = b.op("Range", b.const(0), b.op("Squeeze", count, b.const([0])), b.const(1))
    column = b.reshape(b.op("Cast", images, to=ir.DataType.FLOAT), [-1, 1])
    nothing = b.op("Pad", column, b.const([0, 0, 0, 6]), b.const(-1.0))
    empty = b.op("Equal", b.op("Shape", rows, start=0, end=1), b.const([0]))
    wanted = b.op("Where", empty, count, b.const([0]))
    stand_in = b.op("Slice", nothing, b.const([0]), wanted, b.const([0]))
    return b.op("Unsqueeze", b.op("Concat", rows, stand_in, axis=0), b.const([0, 1]))


def columns(b: Builder, rows: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Split the rows of :func:`suppress` into image, class and box index, (K, 1) each."""
    image, kind, box = b.op("Split", rows, outputs=3, axis=1, num_outputs=3)
    return image, kind, box
