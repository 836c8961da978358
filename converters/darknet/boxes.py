"""``--decode-boxes``: the outputs of detection heads as boxes and scores, suppressed per class as Darknet does.

Rules: get_network_boxes and do_nms_sort of pjreddie/darknet: a candidate's score (objectness times class) is above the
threshold; within a class a box goes where it overlaps a better one by more than the IoU threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netferry.converters.darknet.registry import Head
from netferry.errors import UnsupportedOption
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir


@dataclass(frozen=True)
class Thresholds:
    """Which boxes stay."""

    score: float = 0.25
    overlap: float = 0.45


def decode(b: Builder, heads: list[Head], thresholds: Thresholds) -> dict[str, ir.Value]:
    """Return the outputs ``boxes`` (K, 4: left, top, right, bottom as parts of the picture), ``scores`` (K),
    ``classes`` (K) and ``images`` (K, the place in the batch), best first within image and class.

    Raises:
        UnsupportedOption: no detection head, or heads of different classes.
    """
    if not heads:
        raise UnsupportedOption("decode_boxes needs a yolo, region or detection section; the net has none")
    for head in heads:
        if head.refusal:
            raise UnsupportedOption(f"decode_boxes: {head.refusal}", layer=head.layer)
    if len({head.classes for head in heads}) > 1:
        raise UnsupportedOption("the detection heads differ in their classes")
    with b.layer("boxes", "detections"):
        parts = [head.boxes(b) for head in heads]
        corners, scores = (
            b.op("Concat", *values, axis=axis) if len(values) > 1 else values[0]
            for values, axis in (([p[0] for p in parts], 1), ([p[1] for p in parts], 2))
        )
        most = b.const(np.array([2**31 - 1], np.int64), "most")
        overlap = b.const(np.array([thresholds.overlap], np.float32), "overlap")
        least = b.const(np.array([thresholds.score], np.float32), "least_score")
        rows = b.op("NonMaxSuppression", corners, scores, most, overlap, least)
        image, kind, _ = b.op("Split", rows, outputs=3, axis=1, num_outputs=3)
        where = b.op("Gather", rows, b.const([0, 2], "image_and_box"), axis=1)
        last = b.const([1], "last")
        return {
            "boxes": b.op("GatherND", corners, where),
            "scores": b.op("GatherND", scores, rows),
            "classes": b.op("Squeeze", kind, last),
            "images": b.op("Squeeze", image, last),
        }
