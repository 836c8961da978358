"""Detection heads: yolo, region and detection, with their raw outputs; boxes are made of them in boxes.py.

Rules: yolo_layer.c, region_layer.c and detection_layer.c of pjreddie/darknet; ``scale_x_y`` and ``new_coords`` as in
AlexeyAB's fork.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from netferry.converters.darknet.registry import Head, Layer, layer
from netferry.converters.darknet.tree import read_tree, tree_softmax
from netferry.errors import LimitExceeded
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

MOST_BOXES = 1_000_000


@layer("yolo")
def yolo(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """YOLOv3 and v4: logistic on x, y, objectness and classes; (N, boxes * (5 + classes), H, W) as it came in."""
    s = l.section
    channels, high, wide = l.image(x)
    classes, total = s.int("classes", 20, least=1), s.int("num", 1, least=1)
    s.ignore(
        "embedding_layer", "track_history_size", "sim_thresh", "dets_for_track", "dets_for_show", "track_ciou_norm"
    )
    anchors = _anchors(l, total)
    mask = s.ints("mask") or list(range(total))
    if not all(0 <= m < total for m in mask):
        raise l.fail(f"mask={mask} names anchors beyond num={total}")
    boxes = len(mask)
    _check_channels(l, channels, high, wide, boxes, 4, classes)
    stretch, plain = s.float("scale_x_y", 1.0), bool(s.int("new_coords", 0))
    spread = b.reshape(x, [0, boxes, 5 + classes, high * wide])
    place, size, rest = b.op("Split", spread, b.const([2, 2, 1 + classes], "entries"), outputs=3, axis=2)
    if not plain:
        place, rest = b.op("Sigmoid", place), b.op("Sigmoid", rest)
    if stretch != 1:
        place = b.op("Sub", b.op("Mul", place, stretch), 0.5 * (stretch - 1))
    y = b.reshape(b.op("Concat", place, size, rest, axis=2), [0, channels, high, wide])
    net = [l.net.int("width", 0), l.net.int("height", 0)]
    chosen = anchors[mask] / np.array([max(n, 1) for n in net])

    def boxes_of(b: Builder) -> tuple[ir.Value, ir.Value]:
        reach = (lambda v: b.op("Mul", b.op("Mul", v, v), 4.0)) if plain else (lambda v: b.op("Exp", v))
        return _grid_boxes(b, y, boxes, classes, (high, wide), chosen, reach)

    l.heads.append(Head(l.name, classes, boxes_of))
    return y


@layer("region")
def region(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """YOLOv2: logistic on x, y and objectness, softmax (or logistic) on the classes, or on each group of a tree."""
    s = l.section
    channels, high, wide = l.image(x)
    coords, classes, boxes = s.int("coords", 4, least=4), s.int("classes", 20, least=1), s.int("num", 1, least=1)
    background = bool(s.int("background", 0))
    s.ignore("log", "sqrt", "map")  # map: which classes of the tree COCO has, for its evaluation
    tree = read_tree(s.str("tree", ""), l.folder) if s.has("tree") else None
    if tree is not None and background:
        raise l.unsupported("background beside a tree is not supported")
    if tree is not None and tree.classes != classes:
        raise l.fail(f"the tree has {tree.classes} classes, the section {classes}")
    anchors = _anchors(l, boxes)
    _check_channels(l, channels, high, wide, boxes, coords, classes)
    spread = b.reshape(x, [0, boxes, coords + 1 + classes, high * wide])
    sizes = b.const([2, coords - 2, 1, classes], "entries")
    place, size, sure, kind = b.op("Split", spread, sizes, outputs=4, axis=2)
    if background and s.int("softmax", 0):  # the place of objectness is one more class
        every = b.op("Softmax", b.op("Concat", sure, kind, axis=2), axis=2)
        sure, kind = b.op("Split", every, b.const([1, classes], "entries"), outputs=2, axis=2)
    elif tree is not None:
        s.ignore("softmax")
        kind = tree_softmax(b, kind, tree, 2)
    else:
        kind = b.op("Softmax", kind, axis=2) if s.int("softmax", 0) else b.op("Sigmoid", kind)
    sure = sure if background else b.op("Sigmoid", sure)
    y = b.op("Concat", b.op("Sigmoid", place), size, sure, kind, axis=2)
    y = b.reshape(y, [0, channels, high, wide])
    parts = anchors / np.array([wide, high])

    def boxes_of(b: Builder) -> tuple[ir.Value, ir.Value]:
        return _grid_boxes(b, y, boxes, classes, (high, wide), parts, lambda v: b.op("Exp", v), coords)

    why = "with background=1 there is no objectness" if background else ""
    if tree is not None:
        why = "with a tree, a class's score is a walk down the tree; the raw outputs have the groups"
    l.heads.append(Head(l.name, classes, boxes_of, why))
    return y


@layer("iseg")
def iseg(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Instance segmentation: logistic on a map per class, the ids behind them as they came."""
    classes, ids = l.section.int("classes", 20, least=1), l.section.int("ids", 32, least=0)
    channels, _, _ = l.image(x)
    if channels != classes + ids:
        raise l.fail(f"{classes} classes and {ids} ids need as many channels, there are {channels}")
    if not ids:
        return b.op("Sigmoid", x)
    maps, rest = b.op("Split", x, b.const([classes, ids], "entries"), outputs=2, axis=1)
    return b.op("Concat", b.op("Sigmoid", maps), rest, axis=1)


@layer("detection")
def detection(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """YOLOv1: class scores of all cells, then confidences, then boxes, as one vector; softmax on classes if asked."""
    s = l.section
    coords, classes, boxes = s.int("coords", 1, least=1), s.int("classes", 1, least=1), s.int("num", 1, least=1)
    side, root = s.int("side", 7, least=1), bool(s.int("sqrt", 0))
    cells, numbers = side * side, l.features(x)
    if cells * ((1 + coords) * boxes + classes) != numbers:
        raise l.fail(f"{side} x {side} cells of {classes} classes and {boxes} boxes do not make {numbers} numbers")
    s.ignore("reorg", "randomize")
    y = x
    if s.int("softmax", 0):
        flat = b.reshape(x, [0, numbers])
        kinds, rest = b.op("Split", flat, [cells * classes, numbers - cells * classes], outputs=2, axis=1)
        kinds = b.reshape(b.op("Softmax", b.reshape(kinds, [0, cells, classes]), axis=2), [0, cells * classes])
        y = b.reshape(b.op("Concat", kinds, rest, axis=1), [0, numbers, 1, 1])
    if coords != 4:
        return y
    _check_boxes(l, cells * boxes)

    def boxes_of(b: Builder) -> tuple[ir.Value, ir.Value]:
        sizes = [cells * classes, cells * boxes, cells * boxes * 4]
        kinds, sure, place = b.op("Split", b.reshape(y, [0, numbers]), sizes, outputs=3, axis=1)
        place = b.reshape(place, [0, cells, boxes, 4])
        centre, size = b.op("Split", place, [2, 2], outputs=2, axis=3)
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(1, cells, 1, 2).astype(np.float32)
        centre = b.op("Mul", b.op("Add", centre, b.const(grid, "grid")), 1 / side)
        half = b.op("Mul", b.op("Mul", size, size) if root else size, 0.5)
        corners = b.op("Concat", b.op("Sub", centre, half), b.op("Add", centre, half), axis=3)
        scores = b.op("Mul", b.reshape(kinds, [0, cells, 1, classes]), b.reshape(sure, [0, cells, boxes, 1]))
        scores = b.op("Transpose", b.reshape(scores, [0, cells * boxes, classes]), perm=[0, 2, 1])
        return b.reshape(corners, [0, cells * boxes, 4]), scores

    l.heads.append(Head(l.name, classes, boxes_of))
    return y


def _anchors(l: Layer, boxes: int) -> np.ndarray:
    """(boxes, 2) width and height; 0.5 where the cfg gives none."""
    _check_boxes(l, boxes)
    given: Sequence[float] = l.section.floats("anchors")
    if given and len(given) < 2 * boxes:
        raise l.fail(f"{len(given)} anchors for num={boxes}: width and height of each are needed")
    numbers = given[: 2 * boxes] or [0.5] * (2 * boxes)
    if not all(0 <= v <= 1e6 for v in numbers):
        raise l.fail("an anchor is not within 0 to a million")
    return np.array(numbers, np.float64).reshape(-1, 2)


def _check_boxes(l: Layer, count: int) -> None:
    if count > MOST_BOXES:
        raise LimitExceeded(f"{count} boxes (at most {MOST_BOXES})", layer=l.name)


def _check_channels(l: Layer, channels: int, high: int, wide: int, boxes: int, coords: int, classes: int) -> None:
    need = boxes * (coords + 1 + classes)
    if channels != need:
        raise l.fail(f"{boxes} boxes of {coords} + 1 + {classes} entries need {need} channels, there are {channels}")
    _check_boxes(l, boxes * high * wide)


def _grid_boxes(
    b: Builder,
    y: ir.Value,
    boxes: int,
    classes: int,
    extent: tuple[int, int],
    anchors: np.ndarray,
    reach: Callable[[ir.Value], ir.Value],
    coords: int = 4,
) -> tuple[ir.Value, ir.Value]:
    """Corners (N, M, 4) as parts of the picture and scores (N, classes, M) of an activated map.

    Args:
        anchors: (boxes, 2) width and height as parts of the picture.
        reach: turns the map's width and height into factors of the anchors.
    """
    high, wide = extent
    cells = high * wide
    spread = b.reshape(y, [0, boxes, coords + 1 + classes, cells])
    sizes = [2, 2, 1, classes] if coords == 4 else [2, 2, coords - 4, 1, classes]
    parts = b.op("Split", spread, b.const(sizes, "entries"), outputs=len(sizes), axis=2)
    place, size, sure, kind = parts[0], parts[1], parts[-2], parts[-1]
    grid = np.stack(np.meshgrid(np.arange(wide), np.arange(high))).reshape(1, 1, 2, cells).astype(np.float32)
    extents = b.const(np.array([wide, high], np.float32).reshape(1, 1, 2, 1), "cells")
    centre = b.op("Div", b.op("Add", place, b.const(grid, "grid")), extents)
    halves = b.const((anchors / 2).astype(np.float32).reshape(1, boxes, 2, 1), "half_anchors")
    half = b.op("Mul", reach(size), halves)
    corners = b.op("Concat", b.op("Sub", centre, half), b.op("Add", centre, half), axis=2)
    scores = b.op("Transpose", b.op("Mul", kind, sure), perm=[0, 2, 1, 3])
    corners = b.op("Transpose", corners, perm=[0, 1, 3, 2])
    return b.reshape(corners, [0, boxes * cells, 4]), b.reshape(scores, [0, classes, boxes * cells])
