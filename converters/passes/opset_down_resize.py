"""Lowering: Resize."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lower


def _sizes(b: Rewriter) -> list[int] | None:
    value = b.input_at(3)
    return None if value is None else b.ints(3, "the list of sizes")


@lower("Resize", 19)
def symmetric(b: Rewriter) -> None:
    """``half_pixel_symmetric`` is ``half_pixel`` where scale times size is a whole number."""
    if b.attribute("coordinate_transformation_mode", "half_pixel") != "half_pixel_symmetric":
        return
    if b.input_at(3) is None:
        x, scales = b.data(), b.constant(2, "the list of scales")
        axes = b.attribute("axes", list(range(b.rank(x))))
        for axis, scale in zip(axes, [] if scales is None else scales.reshape(-1), strict=True):
            if scale != 1.0 and not (b.size(x, axis) * float(scale)).is_integer():
                raise Cannot("coordinate_transformation_mode='half_pixel_symmetric' is not there before")
    b.set(coordinate_transformation_mode="half_pixel")


@lower("Resize", 18)
def axes_and_policy(b: Rewriter) -> None:
    """Before 18 all axes are named, nothing is antialiased and the aspect ratio is the caller's business."""
    x = b.data()
    if b.attribute("keep_aspect_ratio_policy", "stretch") != "stretch" and b.input_at(3) is not None:
        _aspect(b)
    b.set(keep_aspect_ratio_policy=None)
    axes = b.attribute("axes")
    if b.attribute("antialias", 0) and b.attribute("mode", "nearest") != "nearest":
        _never_smaller(b, axes)
    b.set(antialias=None, axes=None)
    if axes is None:
        return
    rank = b.rank(x)
    places = [a % rank for a in axes]
    if places == list(range(rank)):
        return
    roi = b.input_at(1)
    if roi is not None and b.dims(roi) != (0,):
        full = np.concatenate([np.zeros(rank), np.ones(rank)])
        b.feed(1, _scatter(b, full.astype(b.dtype(roi).numpy()), [*places, *(rank + p for p in places)], 1, "roi"))
    if b.input_at(3) is not None:
        b.feed(3, b.op("ScatterElements", b.op("Shape", x), places, b.data(3), axis=0))
    else:
        b.feed(2, _scatter(b, np.ones(rank, np.float32), places, 2, "scales"))


def _scatter(b: Rewriter, full: np.ndarray, places: list[int], i: int, name: str):
    value = b.data(i)
    if value.const_value is None:
        return b.op("ScatterElements", full, places, value, axis=0)
    given = b.constant(i, name)
    full[places] = [] if given is None else given.reshape(-1)
    return b.const(full, name)


def _aspect(b: Rewriter) -> None:
    """One scale for all axes: what it gives is asked for by sizes, where it gives whole numbers."""
    x, sizes = b.data(), _sizes(b) or []
    axes = b.attribute("axes", list(range(b.rank(x))))
    ratios = [want / b.size(x, a) for want, a in zip(sizes, axes, strict=True)]
    scale = min(ratios) if b.attribute("keep_aspect_ratio_policy") == "not_larger" else max(ratios)
    got = [b.size(x, a) * scale for a in axes]
    if any(abs(g - round(g)) > 1e-6 for g in got):
        raise Cannot("keep_aspect_ratio_policy with sizes that must be rounded is not there before")
    b.feed(3, [round(g) for g in got], "sizes")


def _never_smaller(b: Rewriter, axes: list[int] | None) -> None:
    x = b.data()
    axes = list(range(b.rank(x))) if axes is None else axes
    sizes = _sizes(b)
    if sizes is not None:
        smaller = any(want < b.size(x, a) for want, a in zip(sizes, axes, strict=True))
    else:
        scales = b.constant(2, "the list of scales")
        smaller = scales is None or bool((scales < 1).any())
    if smaller:
        raise Cannot("antialias=1 is not there before")


@lower("Resize", 13)
def all_inputs(b: Rewriter) -> None:
    """Before 13 the region and the scales must be given, empty where they are not used."""
    for i, name in ((1, "roi"), (2, "scales")):
        if b.input_at(i) is None:
            b.feed(i, np.zeros(0, np.float32), name)
