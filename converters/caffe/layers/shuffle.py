"""Channels in another order or place: ShuffleChannel and Reorg.

Rules: shuffle_channel_layer.cpp of the ShuffleNet fork; reorg_layer.cpp of the YOLOv2 forks, which is Darknet's
reorg_cpu with the size of its input.
"""

from __future__ import annotations

import numpy as np

from netferry.converters.caffe.registry import Layer, layer
from netferry.converters.caffe.windows import check_constant, check_size
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


@layer("ShuffleChannel")
def shuffle_channel(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Interleaves the groups: the first channel of each, then the second of each."""
    groups = l.param("shuffle_channel_param").int("group", least=1)
    if not 2 <= len(shape_of(x)) <= 4:
        raise MalformedFile(f"ShuffleChannel needs 2 to 4 axes, the bottom has {len(shape_of(x))}", layer=l.name)
    channels = l.fixed(x, 1, "ShuffleChannel")
    if channels % groups:
        raise MalformedFile(f"{channels} channels are no {groups} equal groups", layer=l.name)
    if groups in (1, channels):
        return b.op("Identity", x)
    check_constant(l, channels)
    order = np.arange(channels).reshape(groups, -1).T.ravel()
    return b.op("Gather", x, b.const(order, "order"), axis=1)


@layer("Reorg")
def reorg(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Planes to channels: (N, C, H, W) to (N, C * s^2, H / s, W / s); with ``reverse`` the other way.

    Forward, Darknet's indices are those of the reverse applied to a map of the input's own size, so the values come
    from places that ONNX's SpaceToDepth does not know.
    """
    p = l.param("reorg_param")
    stride, back = p.int("stride", 2, least=1), p.bool("reverse", False)
    if p.bool("flatten", False):
        raise UnsupportedOption("reorg_param.flatten is not supported", layer=l.name)
    if len(shape_of(x)) != 4:
        raise MalformedFile(f"Reorg needs 4 axes, the bottom has {len(shape_of(x))}", layer=l.name)
    C, H, W = (l.fixed(x, i, "Reorg") for i in (1, 2, 3))
    thin = C // stride**2
    if C % stride**2 or not (back or H % stride == W % stride == 0):
        raise MalformedFile(f"{C} channels of {H} x {W} do not reorder by a stride of {stride}", layer=l.name)
    check_size(l, (thin, H * stride, W * stride))
    if back:
        return b.op("DepthToSpace", x, blocksize=stride, mode="DCR")
    y = b.reshape(x, [0, thin, H, stride, W, stride])
    y = b.op("Transpose", y, perm=[0, 3, 5, 1, 2, 4])
    return b.reshape(y, [0, C * stride**2, H // stride, W // stride])
