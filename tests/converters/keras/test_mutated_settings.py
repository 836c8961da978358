"""Settings in the place of others, judged by the real Keras: what it takes is answered as it answers, or refused."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import NetferryError
from tests.converters.keras.oracle import Case, in_memory

PICTURE, STEPS, VECTOR = (8, 8, 3), (6, 4), (5,)
LAYERS: dict[str, tuple[int, ...]] = {
    "L.Dense(4, activation='relu')": VECTOR,
    "L.Conv2D(4, 3, strides=2, padding='same')": PICTURE,
    "L.Conv1D(4, 3, padding='causal', dilation_rate=2)": STEPS,
    "L.DepthwiseConv2D(3, depth_multiplier=2)": PICTURE,
    "L.SeparableConv2D(4, 3)": PICTURE,
    "L.Conv2DTranspose(4, 3, strides=2, padding='same')": PICTURE,
    "L.MaxPooling2D(2)": PICTURE,
    "L.AveragePooling2D(3, strides=2, padding='same')": PICTURE,
    "L.GlobalAveragePooling2D(keepdims=True)": PICTURE,
    "L.UpSampling2D((2, 3), interpolation='bilinear')": PICTURE,
    "L.ZeroPadding2D(((1, 0), (2, 1)))": PICTURE,
    "L.Cropping2D(((1, 0), (2, 1)))": PICTURE,
    "L.BatchNormalization()": PICTURE,
    "L.LayerNormalization()": PICTURE,
    "L.GroupNormalization(groups=3)": PICTURE,
    "L.UnitNormalization()": PICTURE,
    "L.Reshape((4, -1))": PICTURE,
    "L.Permute((2, 1, 3))": PICTURE,
    "L.LSTM(3, return_sequences=True)": STEPS,
    "L.GRU(3)": STEPS,
    "L.Bidirectional(L.GRU(3))": STEPS,
    "L.TimeDistributed(L.Dense(3))": STEPS,
    "L.RNN([L.LSTMCell(3), L.GRUCell(2)])": STEPS,
    "L.PReLU(shared_axes=[1])": PICTURE,
    "L.ReLU(6.0, negative_slope=0.1, threshold=0.2)": PICTURE,
    "L.Softmax(axis=1)": PICTURE,
    "L.Rescaling(0.5, offset=1.0)": PICTURE,
    "L.Dot(axes=2)([x, x])": STEPS,
    "L.Concatenate(axis=1)([x, x])": STEPS,
}
_TRAINING = {"name", "trainable", "dtype", "seed", "module", "registered_name", "class_name", "build_config"}
TEXTS = [
    "same",
    "valid",
    "causal",
    "channels_first",
    "channels_last",
    "tanh",
    "nearest",
    "bilinear",
    "sum",
    "ave",
    None,
]
NUMBERS = [0, 1, 2, 3, -1, -2, 0.5, 7, None, True, [2], [1, 2]]
LISTS = [[1, 1], [2, 2], [1, 2], [3, 1], [0, 1], [-1], [1], [2], [1, 2, 3], [3, 2, 1], [[1, 1], [0, 2]], 1, 2, None]


def others(value: Any) -> list[Any]:
    """What may stand in the place of a setting."""
    if isinstance(value, bool):
        return [True, False, None, 0, 1]
    return NUMBERS if isinstance(value, (int, float)) else LISTS if isinstance(value, list) else TEXTS


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Settings that say what is computed, with their places."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        if key not in _TRAINING and not key.endswith(("initializer", "regularizer", "constraint", "dropout")):
            yield from leaves(inner, (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_what_keras_takes_is_right_or_refused(case: Case, layer: str) -> None:
    request: dict[str, Any] = {
        "shapes": [LAYERS[layer]], "dtypes": ["float32"], "seed": 3, "length": 4, "scale": 1.0, "zeros": False,
        "kinds": ["json"],
    }  # fmt: skip
    case.keras.make(model=layer, folder=str(case.folder), **request)
    plain = json.loads((case.folder / "model.json").read_text())
    at = max(i for i, one in enumerate(plain["config"]["layers"]) if one["class_name"] != "InputLayer")
    places = list(leaves(plain["config"]["layers"][at]["config"]))
    chance = random.Random(f"{layer} {case.keras.generation}")
    for number in range(6):
        changed = copy.deepcopy(plain)
        path, value = chance.choice(places)
        holder: Any = changed["config"]["layers"][at]["config"]
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = chance.choice(others(value))
        folder = case.folder / str(number)
        folder.mkdir()
        text = json.dumps(changed)
        answer = case.keras.ask(model=f"keras.models.model_from_json({text!r})", folder=str(folder), **request)
        (folder / "model.json").write_text(text)
        weights = None if "error" in answer else Path(folder, answer["weights"])
        try:
            model = read(folder / "model.json", ReadOptions(weights=weights))
        except NetferryError:
            continue
        if weights is not None:
            if model.uninitialised:
                continue  # refused when it is written
            Case(case.keras, folder).compare(in_memory(model), 1e-4)
