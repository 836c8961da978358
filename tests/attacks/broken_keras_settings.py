"""Broken architectures of Keras: JSON that is none, settings and graphs that nothing justifies."""

from __future__ import annotations

import gzip
import json
from typing import Any

from tests.attacks import unusual_keras
from tests.attacks.making import Make, config, stored

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""

_PICTURE = [None, 8, 8, 3]


def layer(kind: str, shape: list[Any] | None = None, **settings: Any) -> Make:
    """A network of one layer, in JSON."""
    given = {"name": "l", "batch_input_shape": shape or [None, 3], **settings}
    return stored("net.json", json.dumps(unusual_keras.sequential({"class_name": kind, "config": given})).encode())


def graph(*nodes: tuple[str, Any], outputs: Any = (("d", 0, 0),), inputs: Any = (("a", 0, 0),)) -> Make:
    """A functional network: layers of Dense with these inbound nodes."""
    layers = [unusual_keras._input("a")]
    layers += [{**unusual_keras.dense(name=n), "name": n, "inbound_nodes": inbound} for n, inbound in nodes]
    return stored("net.json", json.dumps(unusual_keras._functional(layers, list(inputs), list(outputs))).encode())


def _wrapped(depth: int) -> Make:
    inner = unusual_keras.dense()
    for i in range(depth):
        inner = {
            "class_name": "TimeDistributed",
            "config": {"name": f"t{i}", "layer": inner, "batch_input_shape": [None] * 3},
        }
    return stored("net.json", json.dumps(unusual_keras.sequential(inner)).encode())


CASES |= {
    "keras-units-0": config(units=0),
    "keras-config-missing": stored("net.json", b'{"class_name": "Sequential"}'),
    "keras-config-is-a-list-of-numbers": stored("net.json", b'{"class_name": "Sequential", "config": [1, 2]}'),
    "keras-layers-is-an-object": stored("net.json", b'{"class_name": "Sequential", "config": {"layers": {}}}'),
    "keras-class-is-a-list": stored("net.json", b'{"class_name": ["Sequential"], "config": {"layers": []}}'),
    "keras-json-utf-16": stored("net.json", json.dumps(unusual_keras.sequential()).encode("utf-16")),
    "keras-json-latin-1": stored("net.json", b'{"class_name": "S\xe9quential", "config": {}}'),
    "keras-json-comments": stored("net.json", b"// mine\n" + json.dumps(unusual_keras.sequential()).encode()),
    "keras-yaml": stored("net.yaml", b"class_name: Sequential\nconfig:\n  name: m\n  layers: []\n"),
    "keras-json-gzipped": stored("net.json.gz", gzip.compress(json.dumps(unusual_keras.sequential()).encode())),
    "keras-cycle": graph(("d", [[["e", 0, 0, {}]]]), ("e", [[["d", 0, 0, {}]]])),
    "keras-layer-reads-itself": graph(("d", [[["d", 0, 0, {}]]])),
    "keras-layer-name-twice": graph(("d", [[["a", 0, 0, {}]]]), ("d", [[["d", 0, 0, {}]]])),
    "keras-inbound-of-nobody": graph(("d", [[["nobody", 0, 0, {}]]])),
    "keras-inbound-node-9": graph(("d", [[["a", 9, 0, {}]]])),
    "keras-inbound-node-negative": graph(("d", [[["a", -1, 0, {}]]])),
    "keras-inbound-tensor-9": graph(("d", [[["a", 0, 9, {}]]])),
    "keras-inbound-is-a-number": graph(("d", [[7]])),
    "keras-inbound-is-an-object": graph(("d", {"args": 5})),
    "keras-inbound-args-is-a-number": graph(("d", [{"args": 5, "kwargs": {}}])),
    "keras-output-of-nobody": graph(("d", [[["a", 0, 0, {}]]]), outputs=(("z", 0, 0),)),
    "keras-output-is-a-number": graph(("d", [[["a", 0, 0, {}]]]), outputs=(1,)),
    "keras-input-of-nobody": graph(("d", [[["a", 0, 0, {}]]]), inputs=(("z", 0, 0),)),
    "keras-wrapped-200-times": _wrapped(200),
    "keras-conv-kernel-0": layer("Conv2D", _PICTURE, filters=2, kernel_size=[0, 0]),
    "keras-conv-stride-0": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3], strides=[0, 1]),
    "keras-conv-larger-than-its-input": layer("Conv2D", _PICTURE, filters=2, kernel_size=[9, 9], padding="valid"),
    "keras-conv-groups-that-do-not-divide": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3], groups=2),
    "keras-conv-padding-unknown": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3], padding="some"),
    "keras-conv-kernel-of-three": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3, 3]),
    "keras-conv-filters-huge": layer("Conv2D", _PICTURE, filters=1 << 40, kernel_size=[3, 3]),
    "keras-pool-larger-than-its-input": layer("MaxPooling2D", _PICTURE, pool_size=[9, 9], padding="valid"),
    "keras-pool-of-text": layer("MaxPooling2D", _PICTURE, pool_size="2x2"),
    "keras-reshape-of-two-unknowns": layer("Reshape", _PICTURE, target_shape=[-1, -1]),
    "keras-reshape-that-does-not-fit": layer("Reshape", _PICTURE, target_shape=[5]),
    "keras-reshape-of-an-object": layer("Reshape", _PICTURE, target_shape={"a": 1}),
    "keras-permute-of-one-axis-twice": layer("Permute", _PICTURE, dims=[1, 1, 2]),
    "keras-permute-of-axis-9": layer("Permute", _PICTURE, dims=[1, 2, 9]),
    "keras-cropping-of-everything": layer("Cropping2D", _PICTURE, cropping=[[4, 4], [4, 4]]),
    "keras-padding-negative": layer("ZeroPadding2D", _PICTURE, padding=[[-9, -9], [0, 0]]),
    "keras-embedding-of-terabytes": layer("Embedding", [None, 3], input_dim=1 << 40, output_dim=64),
    "keras-lstm-units-huge": layer("LSTM", [None, 4, 3], units=1 << 34),
    "keras-lstm-of-a-matrix": layer("LSTM", [None, 3], units=2),
    "keras-axis-9": layer("BatchNormalization", _PICTURE, axis=9),
    "keras-axis-of-text": layer("BatchNormalization", _PICTURE, axis="last"),
    "keras-activation-is-a-number": layer("Activation", activation=3),
    "keras-bidirectional-of-nothing": layer("Bidirectional", [None, 4, 3], layer=None),
    "keras-rnn-of-cells-that-are-none": layer("RNN", [None, 4, 3], cell={"class_name": "Dense", "config": {"units": 3}}),
}  # fmt: skip
