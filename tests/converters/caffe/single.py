"""Nets of a few layers whose inputs have the shapes of what is fed, run at two batch sizes, and in OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from netferry.converters.caffe.registry import Layer, registry
from netferry.schemas.graph import Builder, Dim
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from tests.converters.caffe import running
from tests.converters.caffe.caffemodel_writer import caffemodel
from tests.converters.caffe.conformance import Arrays, Runner

Blobs = Mapping[str, Sequence[np.ndarray]]


def seeded(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values, the same for the same arguments."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def _weights(blobs: Blobs) -> bytes:
    return caffemodel({name: ("", arrays) for name, arrays in blobs.items()})


def convert(folder: Path, layers: str, feeds: Arrays, blobs: Blobs | None = None) -> Model:
    """Write and read a net: an input per feed, then ``layers``."""
    return running.convert(folder, running.declare(feeds) + layers, None if blobs is None else _weights(blobs))


def outputs(folder: Path, layers: str, feeds: Arrays, blobs: Blobs | None = None) -> Arrays:
    """Write, read and run a net; also at twice the batch where that is dynamic, which must repeat the rows."""
    model = convert(folder, layers, feeds, blobs)
    assert not model.placeholders()
    runner = Runner(model)
    got = runner.run(feeds)
    if runner.dims and all(dims[:1] == ["batch"] for dims in runner.dims.values()):
        doubled = runner.run({k: np.concatenate([v, v]) for k, v in feeds.items()})
        for name, array in doubled.items():
            np.testing.assert_allclose(array, np.concatenate([got[name]] * 2), rtol=1e-5, atol=1e-5)
    return got


def opencv(folder: Path, layers: str, feeds: Arrays, blobs: Blobs | None = None) -> np.ndarray:
    """What OpenCV's Caffe reader computes for the last layer's first top."""
    top = layers.rsplit("top: ", 1)[1].split('"')[1]
    return running.opencv(folder, running.declare(feeds) + layers, feeds, top, _weights(blobs or {}))


def read_alone(layer: Layer, dims: Sequence[Dim], *others: Sequence[Dim]) -> Runner:
    """Call a layer's reader on inputs ``x``, ``x_1`` … of any dimensions, dynamic ones included; its top is ``y``."""
    b = Builder("net")
    bottoms = [b.input("x", d) for d in (dims, *others)]
    reader = registry.get(layer.type)
    assert reader is not None
    with b.layer(layer.name, layer.type):
        made = reader(b, layer, *bottoms)
    b.output(made if isinstance(made, ir.Value) else made[0], "y")
    return Runner(Model(ir.Model(b.graph, ir_version=10), source=Source("caffe")))
