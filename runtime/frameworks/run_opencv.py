"""A script: runs a Caffe net in OpenCV. ``python run_opencv.py FOLDER``; imports nothing of netferry.

Reads ``request.json`` and ``inputs.npz`` in FOLDER, writes ``result.json`` and ``outputs.npz``. OpenCV 4 has its own
reader of Caffe files (cv2.dnn.readNetFromCaffe); OpenCV 5 has none any more.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np


def run(folder: Path) -> dict[str, Any]:
    """Answer the request of a folder; outputs are asked for by the names of the layers that make them."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    if importlib.util.find_spec("cv2") is None:
        return {"missing": "opencv-python-headless"}
    cv2 = importlib.import_module("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        return {"missing": "OpenCV 4 (5 reads no Caffe files)"}
    stored = np.load(folder / "inputs.npz", allow_pickle=False)
    arrays: dict[str, np.ndarray] = {}
    cases: list[dict[str, Any]] = []
    taps: dict[str, int] = {}
    for number, names in enumerate(request["cases"]):
        try:
            net = cv2.dnn.readNetFromCaffe(*request["files"])  # anew: shapes of one run stick
            net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
            net.enableFusion(False)
            for i, name in enumerate(names):
                net.setInput(stored[f"{number}:{i}"].astype(np.float32), name)
            made = [net.forward(layer) for layer in request["layers"]]
        except cv2.error as error:
            cases.append({"error": " ".join(str(error).split())[:600]})
            continue
        cases.append({"outputs": request["outputs"]})
        arrays.update({f"{number}:{i}": np.array(v) for i, v in enumerate(made)})
        if number == request.get("tap"):
            for layer in net.getLayerNames():
                try:
                    arrays[f"tap:{layer}:0"] = np.array(net.forward(layer))
                    taps[layer] = 1
                except cv2.error:
                    continue
    np.savez(folder / "outputs.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return {"framework": f"OpenCV {cv2.__version__}", "cases": cases, "taps": taps}


def main() -> None:
    folder = Path(sys.argv[1])
    try:
        result = run(folder)
    except Exception as error:
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]}
    (folder / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
