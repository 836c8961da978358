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


def _norm(shape: list[int], axis: int) -> dict[str, Any]:
    """Statistics for each of a fixed batch."""
    tensor = {"shape": shape, "dtype": "float32", "keras_history": ["a", 0, 0]}
    call = {"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}
    rows = [("InputLayer", "a", {"batch_shape": shape}, []), ("BatchNormalization", "n", {"axis": axis}, [call])]
    layers = [
        {"class_name": kind, "name": name, "config": {"name": name, "dtype": "float32", **own}, "inbound_nodes": nodes}
        for kind, name, own, nodes in rows
    ]
    ends = {"input_layers": [["a", 0, 0]], "output_layers": [["n", 0, 0]]}
    return {"class_name": "Functional", "keras_version": "3.10.0", "config": {"name": "m", "layers": layers, **ends}}


_TENSOR = {"shape": [None, 3], "dtype": "float32", "keras_history": ["a", 0, 2**31]}
_CALL = {"args": [{"class_name": "__keras_tensor__", "config": _TENSOR}], "kwargs": {}}
_COUNTED = {
    "class_name": "Functional", "module": "keras", "keras_version": "3.10.0",
    "config": {"name": "net", "layers": [
        {"class_name": "InputLayer", "name": "a", "config": {"name": "a", "batch_shape": [None, 3], "dtype": "float32"}, "inbound_nodes": []},
        {"class_name": "Activation", "name": "r", "config": {"name": "r", "activation": "relu", "dtype": "float32"}, "inbound_nodes": [_CALL]},
    ], "input_layers": [["a", 0, 0]], "output_layers": [["r", 0, 0]]},
}  # fmt: skip
"""Keras 3: an output of such a number was counted up to"""

CASES |= {
    "keras-norm-of-the-batch": stored("net.json", json.dumps(_norm([5, 3], 0)).encode()),
    "keras-norm-of-a-batch-of-numbers": stored("net.json", json.dumps(_norm([5], -1)).encode()),
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
    "keras-inbound-tensor-of-two-billions": graph(("d", [[["a", 0, 2**31, {}]]])),
    "keras-inbound-tensor-of-two-billions-and-a-shape": stored("net.json", json.dumps(_COUNTED).encode()),
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
    "keras-lstm-units-beyond-memory": layer("LSTM", [None, 4, 3], units=1717989184),
    "keras-lstm-of-a-matrix": layer("LSTM", [None, 3], units=2),
    "keras-axis-9": layer("BatchNormalization", _PICTURE, axis=9),
    "keras-axis-of-text": layer("BatchNormalization", _PICTURE, axis="last"),
    "keras-activation-is-a-number": layer("Activation", activation=3),
    "keras-bidirectional-of-nothing": layer("Bidirectional", [None, 4, 3], layer=None),
    "keras-rnn-of-cells-that-are-none": layer("RNN", [None, 4, 3], cell={"class_name": "Dense", "config": {"units": 3}}),
}  # fmt: skip


def _half(kind: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": "half", "units": 2, **settings}}


_STEPS = [None, 4, 3]
CASES |= {
    "keras-bidirectional-of-dense": layer("Bidirectional", _STEPS, layer=_half("Dense")),
    "keras-bidirectional-of-bidirectional": layer("Bidirectional", _STEPS, layer={"class_name": "Bidirectional", "config": {"name": "b", "layer": _half("LSTM")}}),
    "keras-bidirectional-of-two-forwards": layer("Bidirectional", _STEPS, layer=_half("LSTM", go_backwards=False), backward_layer=_half("LSTM", go_backwards=False)),
    "keras-bidirectional-of-sequences-and-states": layer("Bidirectional", _STEPS, layer=_half("LSTM", return_sequences=True), backward_layer=_half("LSTM", go_backwards=True)),
    "keras-rnn-of-a-layer": layer("RNN", _STEPS, cell=_half("LSTM")),
    "keras-rnn-of-no-cells": layer("RNN", _STEPS, cell={"class_name": "StackedRNNCells", "config": {"cells": []}}),
    "keras-unit-normalization-axis-9": layer("UnitNormalization", _PICTURE, axis=9),
    "keras-layer-normalization-axis-9": layer("LayerNormalization", _PICTURE, axis=[9]),
    "keras-layer-normalization-axis-twice": layer("LayerNormalization", _PICTURE, axis=[1, 1]),
    "keras-group-normalization-axis-9": layer("GroupNormalization", _PICTURE, groups=1, axis=9),
    "keras-normalization-axis-9": layer("Normalization", _PICTURE, axis=[9], mean=[0.0] * 3, variance=[1.0] * 3),
    "keras-prelu-axis-9": layer("PReLU", _PICTURE, shared_axes=[9]),
    "keras-conv-kernel-of-one": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3]),
    "keras-padding-of-one": layer("ZeroPadding2D", _PICTURE, padding=[1]),
    "keras-relu-with-a-negative-cap": layer("ReLU", max_value=-2.0),
    "keras-relu-with-a-negative-slope": layer("ReLU", negative_slope=-0.5),
    "keras-bins-in-no-order": layer("Discretization", bin_boundaries=[1.0, 3.0, 2.0]),
    "keras-einsum-of-other-sizes": layer("EinsumDense", _STEPS, equation="abc,cd->abd", output_shape=[5, 2]),
    "keras-class-is-an-object": stored("net.json", json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": [{"class_name": {"name": "d", "nb_filter": 4}}]}}).encode()),
    "keras-data-format-of-keras-1": layer("MaxPooling2D", _PICTURE, data_format="tf"),
}  # fmt: skip
