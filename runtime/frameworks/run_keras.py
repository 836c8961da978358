"""A script: runs a Keras file in Keras. ``python run_keras.py FOLDER``; imports nothing of netferry.

Reads ``request.json`` and ``inputs.npz`` in FOLDER, writes ``result.json`` and ``outputs.npz``. Keras 3 files run in
Keras 3, older ones in tf_keras (or a Keras 2 that is installed as ``keras``). No code in a file is run: a file with a
Lambda, or with operations that touch files, is refused before Keras sees it, and safe_mode stays on.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
import sys
import traceback
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_TOUCHES_FILES = re.compile(
    r"(^|[._/])io[._]|py_?func|numpy_function|read_?file|write_?file|save|restore|delete_?", re.I
)
_MAX_CALLS = 8


class Refused(Exception):
    """The file asks to run code."""


class Missing(Exception):
    """A package is not installed."""


def keras_of(generation: int) -> tuple[Any, str]:
    """Return the Keras that such a file belongs to, and its name with version."""
    if generation >= 3:
        wanted = os.environ.get("KERAS_BACKEND")
        backends = [wanted] if wanted else ["tensorflow", "jax", "torch"]
        found = next((b for b in backends if importlib.util.find_spec(b)), None)
        if importlib.util.find_spec("keras") is None or found is None:
            raise Missing("keras" if found else backends[0])
        os.environ["KERAS_BACKEND"] = found
        keras = importlib.import_module("keras")
        if int(keras.__version__.split(".")[0]) < 3:
            raise Missing("keras 3")
        backend = importlib.import_module(found)
        return keras, f"keras {keras.__version__} on {found} {backend.__version__}"
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if importlib.util.find_spec("tensorflow") is None:
        raise Missing("tensorflow")
    backend = importlib.import_module("tensorflow")
    for name in ("tf_keras", "keras"):
        if importlib.util.find_spec(name) is None:
            continue
        keras = importlib.import_module(name)
        if int(keras.__version__.split(".")[0]) < 3:
            return keras, f"{name} {keras.__version__} on tensorflow {backend.__version__}"
    raise Missing("tf_keras")


def architecture(path: Path) -> Any:
    """Return the configuration that a file holds, as plain data, or None."""
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    if head.startswith(b"\x89HDF"):
        h5py = importlib.import_module("h5py")
        with h5py.File(path, "r") as file:
            raw = file.attrs.get("model_config")
        if raw is None:
            return None
        return json.loads(raw.decode() if isinstance(raw, bytes) else str(raw))
    return json.loads(path.read_text("utf-8"))


def refuse_code(raw: Any) -> None:
    """Raise :class:`Refused` where a configuration holds code, or operations that touch files."""
    queue = [raw]
    while queue:
        item = queue.pop()
        if isinstance(item, str) and item[:1] in "{[" and ("class_name" in item or "node" in item):
            with contextlib.suppress(ValueError):
                queue.append(json.loads(item))
        if isinstance(item, list):
            queue.extend(item)
        if not isinstance(item, dict):
            continue
        kind, config = item.get("class_name"), item.get("config")
        if kind in ("Lambda", "__lambda__") or (isinstance(config, dict) and "function_type" in config):
            raise Refused(f"the file holds Python code (layer {item.get('name') or kind!r})")
        module = item.get("module")
        root = module.split(".")[0] if isinstance(module, str) else "keras"
        if root not in ("keras", "tf_keras", "tensorflow", "builtins", "keras_nlp", "keras_hub", "keras_cv"):
            raise Refused(f"the file names the module {module!r}")
        if isinstance(config, dict):
            for key in ("function", "node_def"):
                text = json.dumps(config.get(key, ""))
                if kind in ("TFOpLambda", "TensorFlowOpLayer", "ClassMethod") and _TOUCHES_FILES.search(text):
                    raise Refused(f"the file holds an operation that may touch files: {text[:200]}")
        queue.extend(v for k, v in item.items() if k not in ("compile_config", "training_config"))


def load(keras: Any, generation: int, files: list[str]) -> Any:
    """Return the model of an architecture (with or without weights) and a weights file, either way round."""
    configs = [architecture(Path(f)) for f in files]
    paths = [f for f, c in zip(files, configs, strict=True) if c is not None]
    weights = [f for f, c in zip(files, configs, strict=True) if c is None]
    first = paths[0]
    with open(first, "rb") as file:
        text = file.read(1) not in (b"\x89", b"P")
    custom: dict[str, Any] = {}
    if generation < 3:
        custom = {"relu6": lambda x: keras.activations.relu(x, max_value=6)}
    if text:
        model = keras.models.model_from_json(Path(first).read_text("utf-8"), custom_objects=custom)
    else:
        safe = {"safe_mode": True} if first.endswith(".keras") or generation >= 3 else {}
        model = keras.models.load_model(first, custom_objects=custom, compile=False, **safe)
    for file in [*weights, *paths[1:]]:
        model.load_weights(file)
    return model


def arranged(model: Any, given: dict[str, np.ndarray], as_nchw: list[str]) -> list[np.ndarray]:
    """Return the values of the model's inputs in its order and layout."""
    tensors = list(model.inputs)
    names = [t.name.split(":")[0] for t in tensors]
    values = [given[n] for n in names] if set(names) <= set(given) else list(given.values())[: len(tensors)]
    keys = names if set(names) <= set(given) else list(given)
    out = []
    for tensor, value, name in zip(tensors, values, keys, strict=False):
        last = np.moveaxis(value, 1, -1) if value.ndim > 3 else value
        turned = "*" in as_nchw or name in as_nchw or (not fits(tensor, value) and fits(tensor, last))
        out.append(last if turned else value)
    return out


def fits(tensor: Any, value: np.ndarray) -> bool:
    """Whether a value has the shape that an input declares."""
    shape = tuple(tensor.shape)
    return len(shape) == value.ndim and all(d is None or d == v for d, v in zip(shape, value.shape, strict=True))


def flat(value: Any) -> list[Any]:
    """Outputs in order, whatever they are nested in."""
    if isinstance(value, dict):
        return [v for item in value.values() for v in flat(item)]
    return [v for item in value for v in flat(item)] if isinstance(value, (list, tuple)) else [value]


@contextlib.contextmanager
def watched(keras: Any, model: Any, seen: dict[str, list[np.ndarray]]) -> Any:
    """Note what every layer gives while the model runs, by the path of layer names inside nested models."""
    base = keras.layers.Layer
    original = base.__call__
    stack: list[str] = []

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        inside = self is not model
        if inside:
            stack.append(self.name)
        try:
            out = original(self, *args, **kwargs)
            if inside:
                rows = seen.setdefault("/".join(stack), [])
                if len(rows) < _MAX_CALLS:
                    with contextlib.suppress(Exception):  # symbolic inside a tf.function: no values
                        rows.extend(array(v) for v in flat(out))
            return out
        finally:
            if inside:
                stack.pop()

    base.__call__ = call
    try:
        yield
    finally:
        base.__call__ = original


def array(value: Any) -> np.ndarray:
    """A tensor of any backend as an array that needs no pickle."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    out = np.asarray(value)
    if out.dtype.kind == "O":
        return np.char.decode(out.astype(bytes), "utf-8")
    return out.astype(np.float32) if out.dtype.kind == "V" or out.dtype.name == "bfloat16" else out


def run(folder: Path) -> dict[str, Any]:
    """Answer the request of a folder."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    for file in request["files"]:
        refuse_code(architecture(Path(file)))
    keras, name = keras_of(request["generation"])
    model = load(keras, request["generation"], request["files"])
    stored = np.load(folder / "inputs.npz", allow_pickle=False)
    arrays: dict[str, np.ndarray] = {}
    cases: list[dict[str, Any]] = []
    taps: dict[str, int] = {}
    for number, names in enumerate(request["cases"]):
        given = {n: stored[f"{number}:{i}"] for i, n in enumerate(names)}
        for layer in getattr(model, "layers", ()):
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states()
            elif getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()
        seen: dict[str, list[np.ndarray]] = {}
        try:
            values = arranged(model, given, request.get("inputs_as_nchw", []))
            call = values[0] if len(values) == 1 else values
            with watched(keras, model, seen) if number == request.get("tap") else contextlib.nullcontext():
                made = [array(v) for v in flat(model(call, training=False))]
        except Exception as error:
            cases.append({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]})
            continue
        outputs = list(getattr(model, "output_names", []))
        if len(outputs) != len(made):
            outputs = [str(i) for i in range(len(made))]
        cases.append({"outputs": outputs})
        arrays.update({f"{number}:{i}": v for i, v in enumerate(made)})
        for path, rows in seen.items():
            taps[path] = len(rows)
            arrays.update({f"tap:{path}:{i}": v for i, v in enumerate(rows)})
    np.savez(folder / "outputs.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return {"framework": name, "cases": cases, "taps": taps}


def main() -> None:
    folder = Path(sys.argv[1])
    try:
        result = run(folder)
    except Missing as error:
        result = {"missing": str(error)}
    except Refused as error:
        result = {"refused": str(error)}
    except Exception as error:
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]}
    (folder / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
