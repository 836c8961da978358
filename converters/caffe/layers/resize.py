"""Other sizes of maps: Interp, Upsample, Resize.

Rules: interp_layer.cpp of the DeepLab and PSPNet forks; upsample_layer.cpp of SegNet's fork (with a mask) and of the
YOLO forks (without); resize_layer.cpp of github.com/happynear/caffe-windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Declined, Layer, layer
from netferry.converters.caffe.windows import BLOB_LIMIT, check_constant, check_size
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


def _plane(l: Layer, x: ir.Value) -> tuple[int, int]:
    """Height and width."""
    if len(shape_of(x)) != 4:
        raise MalformedFile(f"{l.type} needs 4 axes, a bottom has {len(shape_of(x))}", layer=l.name)
    return l.fixed(x, 2, l.type), l.fixed(x, 3, l.type)


def _check(l: Layer, x: ir.Value, size: tuple[int, int]) -> None:
    check_size(l, (*shape_of(x)[1:2], *size))


@layer("Interp")
def interp(b: Builder, l: Layer, x: ir.Value, *reference: ir.Value) -> ir.Value:
    """Bilinear resize whose corner pixels stay corners, of the bottom cut by negative pads.

    The size comes from ``shrink_factor``, ``zoom_factor`` or both (first shrunk, then zoomed), from ``height`` and
    ``width``, or from a second bottom.
    """
    p = l.param("interp_param")
    before, after = p.int("pad_beg", 0), p.int("pad_end", 0)
    if before > 0 or after > 0:
        raise MalformedFile("interp_param: pads are 0 or negative (they cut)", layer=l.name)
    old = _plane(l, x)
    cut = (old[0] + before + after, old[1] + before + after)
    if min(cut) < 1:
        raise MalformedFile(f"pads {before} and {after} leave nothing of {old}", layer=l.name)
    new = _interp_size(l, p, cut, reference)
    _check(l, x, new)
    if cut != old:
        starts, ends = [-before] * 2, [old[0] + after, old[1] + after]
        x = b.op("Slice", x, b.const(starts, "starts"), b.const(ends, "ends"), b.const([2, 3], "axes"))
    if new == cut:
        return x if cut != old else b.op("Identity", x)
    return b.op(
        "Resize",
        x,
        None,
        None,
        b.const(list(new), "size"),
        axes=[2, 3],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


def _interp_size(l: Layer, p: Params, cut: tuple[int, int], reference: Sequence[ir.Value]) -> tuple[int, int]:
    shrink, zoom = p.int("shrink_factor", 1, least=1), p.int("zoom_factor", 1, least=1)
    height, width = p.int("height", 0, least=0), p.int("width", 0, least=0)
    if reference:
        if len(reference) > 1 or any(p.has(n) for n in ("shrink_factor", "zoom_factor", "height", "width")):
            raise MalformedFile("a second bottom gives the size: no other bottoms and no settings do", layer=l.name)
        return _plane(l, reference[0])
    factors = p.has("shrink_factor") or p.has("zoom_factor")
    if p.has("height") and p.has("width") and p.has("shrink_factor") == p.has("zoom_factor"):
        return height, width
    if not factors:
        raise MalformedFile("interp_param needs a factor, or height and width", layer=l.name)
    shrunk = tuple((d - 1) // shrink + 1 for d in cut)
    zoomed = [d + (d - 1) * (zoom - 1) for d in shrunk]
    return zoomed[0], zoomed[1]


@layer("Upsample")
def upsample(b: Builder, l: Layer, x: ir.Value, *mask: ir.Value) -> ir.Value:
    """Without a mask the nearest pixel, ``scale`` times as large; with one it undoes a MAX pooling."""
    if len(mask) > 1:
        raise MalformedFile(f"Upsample takes one or two bottoms, not {1 + len(mask)}", layer=l.name)
    p = l.param("upsample_param")
    return _unpool(b, l, p, x, mask[0]) if mask else _nearest(b, l, p, x)


def _nearest(b: Builder, l: Layer, p: Params, x: ir.Value) -> ir.Value:
    """Darknet's ``stride`` is the factor, and ``scale`` then multiplies the values; alone ``scale`` is the factor."""
    H, W = _plane(l, x)
    gain = 1.0
    if any(p.has(n) for n in ("stride", "stride_h", "stride_w")):
        both = p.int("stride", 2, least=1)
        factors = [p.int("stride_h", both, least=1), p.int("stride_w", both, least=1)]
        gain = p.float("scale", 1.0)
    else:
        scale = p.float("scale", 1.0)
        if not 1 <= scale <= BLOB_LIMIT or scale != int(scale):
            raise MalformedFile(f"upsample_param.scale: {scale} is not a whole number above 0", layer=l.name)
        factors = [int(scale)] * 2
    _check(l, x, (H * factors[0], W * factors[1]))
    if factors != [1, 1]:
        x = b.op(
            "Resize",
            x,
            None,
            b.const(np.array([1, 1, *factors], np.float32), "scales"),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    elif gain == 1:
        return b.op("Identity", x)
    return x if gain == 1 else b.op("Mul", x, gain)


def _unpool(b: Builder, l: Layer, p: Params, x: ir.Value, mask: ir.Value) -> ir.Value:
    """Values go where the mask (indices within the plane, as floats) says, 0 elsewhere.

    Caffe's indices count within a plane and ONNX's MaxUnpool within the whole tensor, so this scatters by plane.
    """
    H, W = _plane(l, x)
    l.same_dims(x, mask)
    height, width = p.int("upsample_h", 0, least=0), p.int("upsample_w", 0, least=0)
    scale = p.int("scale", 2)
    scales = (p.int("scale_h", scale), p.int("scale_w", scale))
    pads = p.bool("pad_out_h", False), p.bool("pad_out_w", False)
    if not (height and width):
        if min(scales) < 2:
            raise MalformedFile(f"upsample_param: scales {scales} are not above 1", layer=l.name)
        height, width = H * scales[0] - pads[0], W * scales[1] - pads[1]
    _check(l, x, (height, width))
    C = l.fixed(x, 1, "Upsample")
    spread = b.reshape(x, [0, C, H * W])
    places = b.op("Cast", b.reshape(mask, [0, C, H * W]), to=ir.DataType.INT64)
    shape = b.op("Concat", b.op("Shape", x, start=0, end=1), b.const([C, height * width], "planes"), axis=0)
    N = shape_of(x)[0]
    empty = b.op("ConstantOfShape", shape, types=[(ir.DataType.FLOAT, (N, C, height * width))])
    return b.reshape(b.op("ScatterElements", empty, places, spread, axis=2), [0, C, height, width])


@layer("Resize")
def resize(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Bilinear resize where pixel i looks at i * old / new; beyond the last row and column lie zeros."""
    p = l.param("resize_param")
    known = {"height", "width", "is_pyramid_test", "out_height_scale", "out_width_scale"}
    given = {k for m in l.message.messages("resize_param") for k in m}
    if not given or given - known:
        raise Declined("resize_param of a fork that netferry does not know")
    old = _plane(l, x)
    if p.bool("is_pyramid_test", False):
        scales = (p.float("out_height_scale"), p.float("out_width_scale"))
        if not all(0 < s <= BLOB_LIMIT for s in scales):
            raise MalformedFile(f"resize_param: scales {scales} are not in 0 .. 2^31 - 1", layer=l.name)
        new = tuple(int(np.float32(s) * d) for s, d in zip(scales, old, strict=True))
        if min(new) < 1:
            raise MalformedFile(f"resize_param: scales {scales} leave nothing of {old}", layer=l.name)
        p.ignore("height", "width")
    else:
        new = (p.int("height", least=1), p.int("width", least=1))
        p.ignore("out_height_scale", "out_width_scale")
    _check(l, x, (new[0], new[1]))
    rows, columns = (_weights(l, d, n) for d, n in zip(old, new, strict=True))
    return b.op("MatMul", b.op("MatMul", b.const(rows, "rows"), x), b.const(columns.T, "columns"))


def _weights(l: Layer, old: int, new: int) -> np.ndarray:
    """The (new, old) matrix that interpolates one axis."""
    check_constant(l, old * new)
    at = np.arange(new, dtype=np.float32) * np.float32(old / new)
    first = np.floor(at).astype(np.int64)
    part = at - first
    out = np.zeros((new, old + 1), np.float32)
    out[np.arange(new), first] = 1 - part
    out[np.arange(new), first + 1] += part
    return out[:, :old]
