"""Suppression with a falling threshold (``eta`` below 1 in SSD's nms_param), which NonMaxSuppression does not have."""

from __future__ import annotations

import numpy as np

from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


def suppress_adaptively(
    b: Builder,
    boxes: ir.Value,
    scores: ir.Value,
    *,
    classes: int,
    candidates: int,
    overlap: float,
    eta: float,
    least_score: float,
) -> ir.Value:
    """Return the rows (image, class, box) that survive, as :func:`detections.suppress` does, in the same order.

    ApplyNMSFast of bbox_util.cpp: from the best candidate down, a box stays where its IoU with every kept box is at
    most the threshold; while the threshold is above 0.5, each kept box of the class multiplies it by ``eta``.
    A Scan over the candidates carries the kept ones and the thresholds of all images and classes together.

    Args:
        boxes: (N, P, 4) corners, no corner below the first.
        scores: (N, classes, P).
        candidates: how many of each class are looked at.
    """
    N = shape_of(scores)[0]
    best, at = b.op("TopK", scores, b.const([candidates], "candidates"), outputs=2, axis=2)
    spread = b.op("Expand", b.op("Unsqueeze", boxes, b.const([1])), b.const([1, classes, 1, 1]))
    chosen = b.op("Expand", b.op("Unsqueeze", at, b.const([3])), b.const([1, 1, 1, 4]))
    sorted_boxes = b.op("GatherElements", spread, chosen, axis=2)
    low, high = b.op("Split", sorted_boxes, outputs=2, axis=3, num_outputs=2)
    area = b.op("ReduceProd", b.op("Sub", high, low), b.const([3]), keepdims=0)
    zero = b.const(0.0, "zero")
    nothing_kept = b.op("Mul", best, zero)
    limit = b.op("Add", b.op("Slice", nothing_kept, b.const([0]), b.const([1]), b.const([2])), b.const(overlap))
    steps = b.const(np.arange(candidates, dtype=np.int64), "steps")

    body = b.subgraph(f"{b.layer_name}.suppress")
    kept = body.input("kept", [N, classes, candidates])
    threshold = body.input("threshold", [N, classes, 1])
    box = body.input("box", [N, classes, 4])
    mine = body.input("area", [N, classes])
    score = body.input("score", [N, classes])
    step = body.input("step", [], ir.DataType.INT64)
    near, far = body.op("Split", body.op("Unsqueeze", box, b.const([2])), outputs=2, axis=3, num_outputs=2)
    sides = body.op("Max", body.op("Sub", body.op("Min", high, far), body.op("Max", low, near)), zero)
    both = body.op("ReduceProd", sides, b.const([3]), keepdims=0)
    union = body.op("Sub", body.op("Add", area, body.op("Unsqueeze", mine, b.const([2]))), both)
    iou = body.op("Where", body.op("Greater", both, zero), body.op("Div", both, union), zero)
    worst = body.op("ReduceMax", body.op("Mul", iou, kept), b.const([2]), keepdims=1)
    candidate = body.op("Greater", body.op("Unsqueeze", score, b.const([2])), b.const(least_score, "least_score"))
    stays = body.op("And", body.op("LessOrEqual", worst, threshold), candidate)
    now = body.op("And", body.op("Equal", steps, step), stays)
    falls = body.op("And", stays, body.op("Greater", threshold, b.const(0.5)))
    body.output(body.op("Where", now, b.const(1.0), kept))
    body.output(body.op("Where", falls, body.op("Mul", threshold, b.const(eta, "eta")), threshold))
    body.finish()

    float32, shape = ir.DataType.FLOAT, shape_of(best)
    final, _ = b.op(
        "Scan",
        nothing_kept,
        limit,
        sorted_boxes,
        area,
        best,
        steps,
        outputs=2,
        types=[(float32, shape), (float32, (*shape[:2], 1))],
        body=body.graph,
        num_scan_inputs=4,
        scan_input_axes=[2, 2, 2, 0],
    )
    rows = b.op("Transpose", b.op("NonZero", final), perm=[1, 0])
    number = b.op("Unsqueeze", b.op("GatherND", at, rows), b.const([1]))
    return b.op("Concat", b.op("Slice", rows, b.const([0]), b.const([2]), b.const([1])), number, axis=1)
