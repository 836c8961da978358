"""Architectures with anything in the place of anything: an error of ours or a model, nothing else."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import NetferryError

JUNK: list[Any] = [None, True, -1, 0, 3, 2**40, -7, 1.5, float("nan"), "", "same", "\x1b[2J", [], [1], [None], {}, {"a": 1},
                   [[1, 2], [3]], [0, 0, 0]]  # fmt: skip


def conv_net() -> dict[str, Any]:
    """A functional net over many families, as Keras 2 writes it."""
    rows: list[tuple[str, dict[str, Any]]] = [
        ("Rescaling", {"scale": 0.5, "offset": [0.0, 1.0, 2.0]}),
        ("ZeroPadding2D", {"padding": [[1, 1], [0, 1]]}),
        ("Conv2D", {"filters": 4, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same", "activation": "relu"}),
        ("BatchNormalization", {"axis": [3], "epsilon": 0.001}),
        ("LeakyReLU", {"alpha": 0.1}),
        ("DepthwiseConv2D", {"kernel_size": [3, 3], "depth_multiplier": 2, "padding": "same"}),
        ("PReLU", {"shared_axes": [1, 2]}),
        ("MaxPooling2D", {"pool_size": [2, 2], "strides": [1, 1], "padding": "same"}),
        ("SeparableConv2D", {"filters": 4, "kernel_size": [2, 2], "dilation_rate": [1, 1]}),
        ("Conv2DTranspose", {"filters": 3, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same"}),
        ("UpSampling2D", {"size": [2, 2], "interpolation": "bilinear"}),
        ("Cropping2D", {"cropping": [[1, 1], [1, 1]]}),
        ("LayerNormalization", {"axis": [3]}),
        ("Permute", {"dims": [2, 1, 3]}),
        ("Reshape", {"target_shape": [-1, 3]}),
        ("Dropout", {"rate": 0.5}),
        ("TimeDistributed", {"layer": {"class_name": "Dense", "config": {"name": "inner", "units": 4}}}),
        ("Flatten", {}),
        ("Dense", {"units": 3, "activation": "softmax"}),
    ]
    shape = [None, 8, 8, 3]
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
         "config": {"name": "x", "batch_input_shape": shape, "dtype": "float32"}}
    ]  # fmt: skip
    before = "x"
    for i, (kind, config) in enumerate(rows):
        name = f"l{i}"
        node = [[[before, 0, 0, {}]]]
        layers.append({"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": node})
        before = name
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [[before, 0, 0]]}
    return {"class_name": "Functional", "keras_version": "2.15.0", "backend": "tensorflow", "config": config}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.extend(places(item, (*path, key)))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_mutated_architectures(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "m.json"
    base = conv_net()
    path.write_text(json.dumps(base))
    read(path, ReadOptions())
    everywhere = places(base)
    for _ in range(60):
        changed = copy.deepcopy(base)
        where = chance.choice(everywhere)
        holder: Any = changed
        for key in where[:-1]:
            holder = holder[key]
        holder[where[-1]] = chance.choice(JUNK)
        path.write_text(json.dumps(changed))
        try:
            read(path, ReadOptions())
        except NetferryError as error:
            assert "\x1b" not in str(error)
