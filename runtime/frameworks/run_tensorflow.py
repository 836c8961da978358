"""A script: runs a SavedModel, a frozen graph or a TFLite model in TensorFlow. ``python run_tensorflow.py FOLDER``.

Reads ``request.json`` and ``inputs.npz`` in FOLDER, writes ``result.json`` and ``outputs.npz``; imports nothing of
netferry. Outputs carry the names that tf2onnx gives them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Runner = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def saved_model(tf: Any, path: str, _outputs: list[str]) -> Runner:
    """The default signature of a SavedModel."""
    loaded = tf.saved_model.load(path)
    signatures = loaded.signatures
    function = signatures["serving_default"] if "serving_default" in signatures else next(iter(signatures.values()))
    wanted = list(function.structured_input_signature[1])

    def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        named = given if set(wanted) <= set(given) else dict(zip(wanted, given.values(), strict=False))
        made = function(**{n: tf.constant(named[n]) for n in wanted})
        return {n: np.asarray(v) for n, v in made.items()}

    run.keeps = loaded  # pyright: ignore[reportFunctionMemberAccess] -- its variables die with it
    return run


def tflite(tf: Any, path: str, _outputs: list[str]) -> Runner:
    """A TFLite model in TensorFlow's interpreter, with its plain kernels."""
    kernels = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(model_path=path, experimental_op_resolver_type=kernels)

    def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for detail, value in zip(interpreter.get_input_details(), given.values(), strict=False):
            interpreter.resize_tensor_input(detail["index"], given.get(detail["name"], value).shape)
        interpreter.allocate_tensors()
        for detail, value in zip(interpreter.get_input_details(), given.values(), strict=False):
            interpreter.set_tensor(detail["index"], given.get(detail["name"], value))
        interpreter.invoke()
        return {d["name"]: np.array(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()}

    return run


def graph(tf: Any, path: str, outputs: list[str]) -> Runner:
    """A frozen graph."""
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(Path(path).read_bytes())
    made = tf.Graph()
    with made.as_default():
        tf.import_graph_def(definition, name="")

    def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with tf.compat.v1.Session(graph=made) as session:
            return dict(zip(outputs, session.run(outputs, given), strict=True))

    return run


def answer(folder: Path) -> dict[str, Any]:
    """Answer the request of a folder."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    if importlib.util.find_spec("tensorflow") is None:
        return {"missing": "tensorflow"}
    tf = importlib.import_module("tensorflow")
    kinds = {"SavedModel": saved_model, "TFLite": tflite, "frozen graph": graph}
    run = kinds[request["kind"]](tf, request["files"][0], request["outputs"])
    stored = np.load(folder / "inputs.npz", allow_pickle=False)
    arrays: dict[str, np.ndarray] = {}
    cases: list[dict[str, Any]] = []
    for number, names in enumerate(request["cases"]):
        try:
            made = run({n: stored[f"{number}:{i}"] for i, n in enumerate(names)})
        except Exception as error:
            cases.append({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]})
            continue
        if set(request["outputs"]) <= set(made):
            made = {n: made[n] for n in request["outputs"]}
        cases.append({"outputs": list(made)})
        arrays.update({f"{number}:{i}": v for i, v in enumerate(made.values())})
    np.savez(folder / "outputs.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return {"framework": f"tensorflow {tf.__version__}", "cases": cases, "taps": {}}


def main() -> None:
    folder = Path(sys.argv[1])
    try:
        result = answer(folder)
    except Exception as error:
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]}
    (folder / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
