"""YOLO: Region of version 2's forks; the detection outputs of github.com/eric612/MobileNet-YOLO."""

from __future__ import annotations

import numpy as np

from netferry.converters.caffe.layers.detections import columns, detections, just_below, suppress
from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Declined, Layer, layer
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_MOST_BOXES = 1_000_000


@layer("Region")
def region(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Activate YOLOv2's raw output, (N, boxes * (coords + 1 + classes), H, W) in and out.

    Two forks: with ``num`` (Intel's training toolbox) x, y and the objectness go through a sigmoid and the classes
    through a softmax, in place. With ``boxes_of_each_grid`` (caffe_yolo_v2) the memory is reordered to cell, box,
    entry as Darknet's ``flatten`` does, under the old shape; only the objectness, and with ``softmax`` the classes,
    are activated.
    """
    p = l.param("region_param")
    classes, coords = p.int("classes", 20, least=1), p.int("coords", 4, least=2)
    if p.has("num") == p.has("boxes_of_each_grid"):
        raise Declined("needs num or boxes_of_each_grid in region_param, which tell its forks apart")
    inside = p.has("num")
    boxes = p.int("num" if inside else "boxes_of_each_grid", least=1)
    softmax = True if inside else p.bool("softmax", False)
    if not inside and coords != 4:
        raise UnsupportedOption(f"region_param.coords: {coords} is not supported (only 4)", layer=l.name)
    W, H = (int(v) for v in _extent(l, x))
    channels = l.fixed(x, 1, "Region")
    _check_channels(l, channels, boxes, coords, classes)
    if inside:
        spread = b.reshape(x, [0, boxes, coords + 1 + classes, H * W])
        sizes = [2, coords - 2, 1, classes] if coords > 2 else [2, 1, classes]
    else:
        spread = b.reshape(b.op("Transpose", x, perm=[0, 2, 3, 1]), [0, H * W * boxes, coords + 1 + classes])
        sizes = [coords, 1, classes]
    parts = list(b.op("Split", spread, b.const(sizes, "entries"), outputs=len(sizes), axis=2))
    for i in (0, -2) if inside else (-2,):
        parts[i] = b.op("Sigmoid", parts[i])
    if softmax:
        parts[-1] = b.op("Softmax", parts[-1], axis=2)
    return b.reshape(b.op("Concat", *parts, axis=2), [0, channels, H, W])


def _check_channels(l: Layer, channels: int, boxes: int, coords: int, classes: int) -> None:
    need = boxes * (coords + 1 + classes)
    if channels != need:
        raise MalformedFile(
            f"{boxes} boxes of {coords} + 1 + {classes} entries need {need} channels, the bottom has {channels}",
            layer=l.name,
        )


@layer("YoloDetectionOutput")
def yolo_detection_output(b: Builder, l: Layer, first: ir.Value, *second: ir.Value) -> ir.Value:
    """YOLOv2: 1 x 1 x K x 7 rows [image, label from 1, score, corners], best first, suppressed across classes.

    Several maps share the anchors, which are in cells. Caffe's layer reads one image (it gives every row image 0);
    here each image of a batch is suppressed by itself and has its number.
    """
    p = l.param("yolo_detection_output_param")
    p.ignore("side", "label_map_file")
    if p.int("coords", 4) != 4:
        raise UnsupportedOption("yolo_detection_output_param.coords: only 4 is supported", layer=l.name)
    boxes, classes = p.int("num_box", 5, least=1), p.int("num_classes", 20, least=1)
    biases = _biases(l, p)
    if len(biases) < boxes:
        raise MalformedFile(f"{boxes} boxes need {2 * boxes} biases", layer=l.name)
    if len(second) > 1:
        raise MalformedFile(f"one or two bottoms, not {1 + len(second)}", layer=l.name)
    parts = [_cells(b, l, x, biases[:boxes] / _extent(l, x), classes, softmax=True) for x in (first, *second)]
    floor = just_below(p.float("confidence_threshold", 0.01))
    return _found(b, parts, first, floor, p.float("nms_threshold", 0.45))


@layer("Yolov3DetectionOutput")
def yolov3_detection_output(b: Builder, l: Layer, first: ir.Value, *others: ir.Value) -> ir.Value:
    """YOLOv3: rows as of YoloDetectionOutput; anchors are in pixels, ``mask`` chooses those of each map."""
    p = l.param("yolov3_detection_output_param")
    boxes, classes = p.int("num_box", 3, least=1), p.int("num_classes", 20, least=1)
    biases, mask, scales = _biases(l, p), p.ints("mask"), p.floats("anchors_scale")
    groups, maps = p.int("mask_group_num", 2, least=1), (first, *others)
    if len(maps) != groups or len(scales) < groups or len(mask) // groups < boxes:
        raise MalformedFile(
            f"{len(maps)} bottoms, {groups} mask groups, {len(scales)} anchor scales and {len(mask)} masks "
            f"for {boxes} boxes do not fit",
            layer=l.name,
        )
    if not all(0 <= m < len(biases) for m in mask) or not all(1e-6 <= s <= 1e6 for s in scales):
        raise MalformedFile("a mask names no anchor, or an anchor scale is not within 1e-6 to 1e6", layer=l.name)
    parts: list[tuple[ir.Value, ir.Value, ir.Value]] = []
    for i, x in enumerate(maps):
        chosen = biases[mask[i * (len(mask) // groups) :][:boxes]]
        parts.append(_cells(b, l, x, chosen / (_extent(l, x) * scales[i]), classes, softmax=False))
    floor = p.float("confidence_threshold", 0.01)
    return _found(b, parts, first, floor, p.float("nms_threshold", 0.45))


def _biases(l: Layer, p: Params) -> np.ndarray:
    biases = p.floats("biases")
    if not biases or len(biases) % 2 or not all(0 <= v <= 1e6 for v in biases):
        raise MalformedFile("biases are pairs of width and height, up to a million each", layer=l.name)
    return np.array(biases, np.float64).reshape(-1, 2)


def _extent(l: Layer, x: ir.Value) -> np.ndarray:
    """Width and height of a map in cells."""
    if len(shape_of(x)) != 4:
        raise MalformedFile(f"a map has shape N x C x H x W, not {shape_of(x)}", layer=l.name)
    return np.array([l.fixed(x, 3, l.type), l.fixed(x, 2, l.type)], np.float64)


def _cells(
    b: Builder, l: Layer, x: ir.Value, anchors: np.ndarray, classes: int, *, softmax: bool
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Corners (N, M, 4), score of the best class (N, M) and that class (N, M) of one map, by cell, then box.

    Args:
        anchors: (boxes, 2) width and height as parts of the picture.
    """
    W, H = (int(v) for v in _extent(l, x))
    boxes = len(anchors)
    _check_channels(l, l.fixed(x, 1, l.type), boxes, 4, classes)
    if not 0 < H * W * boxes <= _MOST_BOXES:
        raise LimitExceeded(f"{H} x {W} x {boxes} boxes (limit {_MOST_BOXES})", layer=l.name)
    spread = b.reshape(x, [0, boxes, 5 + classes, H * W])
    entries = b.const([2, 2, 1, classes], "entries")
    move, stretch, sure, kind = b.op("Split", spread, entries, outputs=4, axis=2)
    grid = np.stack(np.meshgrid(np.arange(W), np.arange(H))).reshape(1, 1, 2, H * W).astype(np.float32)
    cells = b.const(np.array([W, H], np.float32).reshape(1, 1, 2, 1), "cells")
    centre = b.op("Div", b.op("Add", b.op("Sigmoid", move), b.const(grid, "grid")), cells)
    half = b.const((anchors / 2).astype(np.float32).reshape(1, boxes, 2, 1), "half_anchors")
    reach = b.op("Mul", b.op("Exp", stretch), half)
    corners = b.op("Concat", b.op("Sub", centre, reach), b.op("Add", centre, reach), axis=2)
    likely = b.op("Softmax", kind, axis=2) if softmax else b.op("Sigmoid", kind)
    score = b.op("Mul", b.op("ReduceMax", likely, b.const([2]), keepdims=1), b.op("Sigmoid", sure))
    best = b.op("ArgMax", likely, axis=2, keepdims=1)
    return (
        b.reshape(b.op("Transpose", corners, perm=[0, 3, 1, 2]), [0, H * W * boxes, 4]),
        b.reshape(b.op("Transpose", score, perm=[0, 3, 1, 2]), [0, H * W * boxes]),
        b.reshape(b.op("Transpose", best, perm=[0, 3, 1, 2]), [0, H * W * boxes]),
    )


def _found(
    b: Builder, parts: list[tuple[ir.Value, ir.Value, ir.Value]], batch: ir.Value, floor: float, overlap: float
) -> ir.Value:
    """Suppress the boxes of all maps together and return the rows; an IoU equal to the threshold suppresses too."""

    def joined(index: int) -> ir.Value:
        values = [part[index] for part in parts]
        return b.op("Concat", *values, axis=1) if len(values) > 1 else values[0]

    boxes, scores, kinds = joined(0), joined(1), joined(2)
    total = sum(int(v) for part in parts for v in shape_of(part[1])[1:] if isinstance(v, int))
    scores3 = b.op("Unsqueeze", scores, b.const([1]))
    rows = suppress(b, boxes, scores3, most=total, overlap=just_below(overlap), least_score=floor)
    image, _, _ = columns(b, rows)
    where = b.op("Gather", rows, b.const([0, 2]), axis=1)
    kind = b.op("Add", b.op("Cast", b.op("GatherND", kinds, where), to=ir.DataType.FLOAT), b.const(1.0))
    last = b.const([1])
    return detections(
        b,
        image,
        b.op("Unsqueeze", kind, last),
        b.op("Unsqueeze", b.op("GatherND", scores, where), last),
        b.op("GatherND", boxes, where),
        batch,
    )
