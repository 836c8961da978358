"""Runs in a child process that holds tensorflow: builds models with the real Keras, saves them, computes outputs.

Started as ``python maker.py 2`` (tf_keras) or ``python maker.py 3`` (keras). Reads one JSON request per line and
answers with one JSON line on the real standard output. Imports nothing of netferry.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
GENERATION = int(sys.argv[1])
os.environ["TF_USE_LEGACY_KERAS"] = "1" if GENERATION == 2 else "0"

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else is printed is talk

import numpy as np  # noqa: E402

if GENERATION == 2:
    import tf_keras as keras
else:
    import keras
import tensorflow as tf  # noqa: E402


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Build, fill, save and run one model."""
    keras.backend.clear_session()
    rng = np.random.default_rng(request["seed"])
    names: dict[str, Any] = {"keras": keras, "L": keras.layers, "np": np, "tf": tf}
    names["ops"] = getattr(keras, "ops", None)
    shapes, dtypes = request["shapes"], request["dtypes"]
    inputs = [
        keras.Input(tuple(shape), dtype=dtype, name=f"in{i}")
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    names["xs"], names["x"] = inputs, inputs[0]
    made: Any = eval(request["model"], names)
    if isinstance(made, keras.Model) and not request.get("nested"):
        model = made
    else:
        if isinstance(made, keras.layers.Layer):
            made = made(inputs[0] if len(inputs) == 1 else inputs)
        model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, made)
    fill(model, rng)
    if request.get("calibrate"):
        calibrate(model, rng, request["scale"])
    folder = Path(request["folder"])
    kinds = ["h5"] if request.get("one_file") else request.get("kinds", ["h5", "json", "keras"])
    if "h5" in kinds:
        model.save(folder / "model.h5")
    if "keras" in kinds:
        model.save(folder / "model.keras")
    if "folder" in kinds:
        keras.saving.save_model(model, folder / "model.folder", zipped=False)
    if "json" in kinds:
        (folder / "model.json").write_text(model.to_json())
        model.save_weights(folder / ("weights.h5" if GENERATION == 2 else "model.weights.h5"))
    arrays: dict[str, np.ndarray] = {}
    for batch in (1, 3):
        given = [
            values(rng, (batch, *(d or request["length"] + batch for d in s)), t, request)
            for s, t in zip(shapes, dtypes, strict=True)
        ]
        fed = [tf.constant(v) if v.dtype.kind == "U" else v for v in given]
        out = model(fed[0] if len(fed) == 1 else fed, training=False)
        for i, value in enumerate(given):
            arrays[f"{batch}:in{i}"] = value
        for i, value in enumerate(flat(out)):
            array: Any = np.asarray(value)
            if array.dtype.name == "bfloat16":
                array = array.astype(np.float32)
            if array.dtype.kind in "OS":
                array = np.asarray([v.decode() for v in array.ravel()], str).reshape(array.shape)
            arrays[f"{batch}:out{i}"] = array
    np.savez(folder / "case.npz", **arrays)  # pyright: ignore[reportArgumentType]
    learnable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    state = sum(int(np.prod(w.shape)) for w in model.non_trainable_weights if not unknown(w))
    weights = "weights.h5" if GENERATION == 2 else "model.weights.h5"
    noise = rounding(model, rng, arrays["3:in0"]) if request.get("calibrate") else 0.0
    return {"learnable": learnable, "state": state, "weights": weights, "layers": census(model), "noise": noise}


def census(model: Any) -> dict[str, int]:
    """Count layers by class; with the activation, where it is not linear, and with inputs beyond the second."""
    counts: dict[str, int] = {}
    for layer in all_layers(model):
        kind = type(layer).__name__
        activation = getattr(layer, "activation", None)
        name = getattr(activation, "__name__", "linear" if activation is None else type(activation).__name__)
        for key in (kind, f"activation {name}", *["merge"] * (len(as_list(getattr(layer, "input", None))) - 2)):
            counts[key] = counts.get(key, 0) + 1
    return counts


def all_layers(model: Any) -> list[Any]:
    """Layers, with those of models inside, and in Keras 3 operations that are no layers."""
    if GENERATION == 2:
        return list(model._flatten_layers(include_self=False, recursive=True))
    found: list[Any] = []
    for layer in getattr(model, "operations", model.layers):
        found += all_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def calibrate(model: Any, rng: np.random.Generator, scale: float) -> None:
    """Weights that let a deep network's signals live: He's kernels, moving statistics near those of real data.

    Values drawn without regard to depth fade or explode, and a comparison of faded signals proves nothing.
    """
    for weight in model.weights:
        shape, name = tuple(weight.shape), getattr(weight, "path", weight.name)
        if len(shape) >= 2:
            depthwise = "depthwise" in name
            fan_in = np.prod(shape[:-2]) if depthwise else np.prod(shape[:-1])
            weight.assign(rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32))
        elif not any(t in name for t in ("gamma", "scale", "variance", "count")):
            weight.assign(rng.uniform(-0.2, 0.2, shape).astype(np.float32))
        elif "variance" in name and "moving" not in name:  # of Normalization, which nobody adapted
            weight.assign(rng.uniform(0.5, 2.0, shape).astype(np.float32))
    damp(model)
    shift(model, rng)
    finalize(model)
    norms = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    if norms:
        kept = [layer.momentum for layer in norms]
        for layer in norms:
            layer.momentum = 0.0
        shape = tuple(d or 64 for d in model.input_shape[1:])
        model((rng.uniform(-1, 1, (4, *shape)) * scale).astype(np.float32), training=True)
        for layer, momentum in zip(norms, kept, strict=True):
            layer.momentum = momentum
            spread = rng.uniform(0.8, 1.25, layer.moving_variance.shape)
            layer.moving_variance.assign(np.asarray(layer.moving_variance) * spread + 1e-3)


def damp(model: Any) -> None:
    """Weaken the branch of each residual sum, as training does (its last scale often starts at 0: Goyal et al. 2017).

    At full strength a hundred random blocks amplify a rounding of the input to 1e-4 of the output, by Keras's own
    arithmetic too: no two programs agree better then. NASNet sums convolutions with each other, and pools and
    identities carry the signal past them: there all of them are weakened.
    """
    places = {id(layer): i for i, layer in enumerate(model.layers)}
    for layer in model.layers:
        inputs = as_list(getattr(layer, "input", None)) if type(layer).__name__ == "Add" else []
        makers = [behind(t) for t in inputs]
        found = [m for m in makers if type(m).__name__ in ("BatchNormalization", "Conv2D")]
        if len(makers) < 2 or not found:
            continue
        last = max(found, key=lambda m: places.get(id(m), -1))
        for maker in found if model.name.startswith("NASNet") else [last]:
            scale = getattr(maker, "gamma", None) if "Batch" in type(maker).__name__ else maker.kernel
            if scale is not None:
                scale.assign(np.asarray(scale) * 0.25)


def shift(model: Any, rng: np.random.Generator) -> None:
    """Shift batch norms up, so that most units are at work.

    With shifts about 0, normalised units that are cut at 0 amplify a rounding by a fifth in every layer (Yang et al.,
    A Mean Field Theory of Batch Normalization, 2019), which 50 of them make a thousandfold. The Inceptions have most
    such layers between sums, or no sums.
    """
    low = 1.5 if model.name.startswith("inception") else 0.4
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization" and getattr(layer, "beta", None) is not None:
            layer.beta.assign(rng.uniform(low, low + 0.8, layer.beta.shape).astype(np.float32))


def behind(tensor: Any) -> Any:
    """The layer that made a value, seen through dropouts and squeeze-and-excite's products."""
    maker = getattr(tensor._keras_history, "operation", None) or tensor._keras_history.layer
    return behind(as_list(maker.input)[0]) if type(maker).__name__ in ("Dropout", "Multiply") else maker


def rounding(model: Any, rng: np.random.Generator, x: np.ndarray) -> float:
    """How far Keras's own result moves, relative to its largest value, when each input moves by about one rounding."""
    moved = (x * (1 + 1e-7 * rng.choice([-1.0, 1.0], x.shape))).astype(np.float32)
    before, after = (np.asarray(model(v, training=False)) for v in (x, moved))
    return float(np.abs(after - before).max() / np.abs(before).max())


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [v for k in value for v in flat(value[k])]
    return [v for item in value for v in flat(item)] if isinstance(value, (list, tuple)) else [value]


def unknown(weight: Any) -> bool:
    """Whether it is a table of tokens or a variable of open size, which adapt() filled."""
    return not hasattr(weight, "assign") or None in tuple(weight.shape)


def fill(model: Any, rng: np.random.Generator) -> None:
    """Give every weight seeded values that are no symmetric accident; variances stay positive."""
    for weight in model.weights:
        if unknown(weight):
            continue
        shape = tuple(weight.shape)
        name = getattr(weight, "path", weight.name)
        if "summary" in name:  # of Discretization: no numbers but a description of the data
            continue
        if np.dtype(weight.dtype if isinstance(weight.dtype, str) else weight.dtype.as_numpy_dtype).kind != "f":
            continue
        if "variance" in name or "stddev" in name:
            value = rng.uniform(0.5, 2.0, shape)
        elif name.endswith(("kernel_scale", "embeddings_scale")):  # of int8 values, which stay as Keras drew them
            value = rng.uniform(60, 130, shape)
        elif "gamma" in name or name.endswith("scale"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.uniform(-1, 1, shape) / max(1.0, np.sqrt(np.prod(shape[:-1], dtype=float)) / 2)
        weight.assign(value.astype(np.float32))
    finalize(model)


def finalize(model: Any) -> None:
    """Let Normalization, which computes with copies of its weights, take those that were assigned."""
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, request: dict[str, Any]) -> np.ndarray:
    """Seeded input of a type; ``zeros`` is the share of trailing steps set to 0 (for masks)."""
    if dtype.startswith(("int", "uint")):
        out = rng.integers(request["low"], request["high"], shape).astype(dtype)
    elif dtype == "string":
        out = np.asarray(rng.choice(request["words"], shape), str)
    elif dtype == "bool":
        out = rng.integers(0, 2, shape).astype(bool)
    else:
        out = (rng.uniform(-1, 1, shape) * request["scale"]).astype(dtype)
    if request["zeros"] and len(shape) > 1:
        for row in range(shape[0]):
            keep = 1 + int(rng.integers(shape[1]))
            out[row, keep:] = 0
    return out


def public_classes() -> list[str]:
    """Names under which Keras exports its layers."""
    return [n for n in dir(keras.layers) if isinstance(getattr(keras.layers, n), type)]


def main() -> None:
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer = {"classes": public_classes()} if request.get("classes") else make(request)
        except Exception:
            answer = {"error": traceback.format_exc()}
        ANSWERS.write(json.dumps(answer) + "\n")
        ANSWERS.flush()


main()
