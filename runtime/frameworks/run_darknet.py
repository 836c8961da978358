"""A script: runs a Darknet net in OpenCV. ``python run_darknet.py FOLDER``; imports nothing of netferry.

Reads ``request.json`` and ``inputs.npz`` in FOLDER, writes ``result.json`` and ``outputs.npz``. OpenCV 4 has its own
reader of Darknet files (cv2.dnn.readNetFromDarknet); OpenCV 5 has none any more. Three things are said to it otherwise:

* where a section names no activation OpenCV takes none, Darknet logistic;
* its batch normalisation divides by ``sqrt(variance + 1e-6)``, Darknet's by ``sqrt(variance) + 1e-6``: it is given
  the variances with which the first is the second;
* its yolo and region layers give boxes in the picture and products of scores: what Darknet's give is taken out of them.

Sections with a setting that it passes over in silence are refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

_ACTIVATIONS = frozenset(("leaky", "relu", "relu6", "swish", "mish", "logistic", "tanh", "elu", "selu"))
"""kinds of OpenCV's layers that end the section before them (and have the number of the next one)"""
_WEIGHTED = ("convolutional", "conv", "connected", "conn")
_NEUTRAL = {
    "dilation": "1", "stride_x": "", "stride_y": "", "flipped": "0", "binary": "0", "xnor": "0", "share_index": "",
    "antialiasing": "0",
}  # fmt: skip
_UNREAD = {"softmax": {"temperature": "1", "tree": ""}, **dict.fromkeys(_WEIGHTED, _NEUTRAL)}
"""settings that OpenCV does not read, with the value that changes nothing"""
_EPSILON = 1e-6
_SMALLEST = 1e-12
"""an objectness below this is not divided by"""


class Sections:
    """A cfg as OpenCV is to read it, and the settings of its sections."""

    def __init__(self, path: Path, size: tuple[int, ...] | None) -> None:
        self.lines: list[str] = []
        self.settings: list[tuple[str, dict[str, str]]] = []
        for line in path.read_text("utf-8", "replace").splitlines():
            plain = "".join(line.split())
            key, equals, value = plain.partition("=")
            kind = self.settings[-1][0] if self.settings else ""
            if plain.startswith("["):
                self.settings.append((plain.strip("[]"), {}))
                self.lines.append(plain)
                if plain in ("[yolo]", "[region]"):
                    self.lines += ["thresh=0", "nms_threshold=0"]
                if self.settings[-1][0] in _WEIGHTED:
                    self.lines.append("activation=logistic")  # a later line stands
                continue
            if not equals or plain[0] in "#;" or (kind in ("yolo", "region") and key in ("thresh", "nms_threshold")):
                continue
            if size is not None and kind in ("net", "network") and key in ("height", "width"):
                value = str(size[0] if key == "height" else size[1])
            if key in _UNREAD.get(kind, ()) and not _same(value, _UNREAD[kind][key]):
                raise ValueError(f"OpenCV does not read {key}={value} of layer_{len(self.settings) - 2} ({kind})")
            self.settings[-1][1][key] = value
            self.lines.append(f"{key}={value}")

    def head(self, index: int) -> dict[str, str] | None:
        """Settings of a detection head; None for other sections (the first one is [net])."""
        kind, settings = self.settings[index + 1]
        return settings | {"kind": kind} if kind in ("yolo", "region") else None


def _same(value: str, neutral: str) -> bool:
    try:
        return float(value) == float(neutral)
    except ValueError:
        return value == neutral


def last_layers(names: list[str]) -> dict[int, str]:
    """The last of OpenCV's layers of every section."""
    found: dict[int, str] = {}
    current = -1
    for name in names:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        if match is not None and match[1] not in _ACTIVATIONS:  # a region is called detection_out, without a number
            current = int(match[2])
        found[current] = name
    return found


def adjusted(cv2: Any, cfg: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights with variances of which OpenCV makes Darknet's deviations."""
    net = cv2.dnn.readNetFromDarknet(cfg, weights)
    raw, at = bytearray(weights.tobytes()), 0
    for name in net.getLayerNames():
        if net.getLayer(net.getLayerId(name)).type != "BatchNorm":
            continue
        mean, variance = (np.ascontiguousarray(net.getParam(name, i), "<f4").tobytes() for i in (0, 1))
        place = raw.find(mean + variance, at)
        if place < 0:
            raise ValueError(f"the variances of {name} are not found in the weights file")
        at = place + len(mean)
        deviation = np.sqrt(np.frombuffer(variance, "<f4").astype(np.float64)) + _EPSILON
        raw[at : at + len(variance)] = (deviation**2 - _EPSILON).astype("<f4").tobytes()
    return np.frombuffer(bytes(raw), np.uint8)


def head_map(rows: np.ndarray, raw: np.ndarray, settings: dict[str, str]) -> np.ndarray:
    """What Darknet's head gives, (N, boxes * (5 + classes), H, W).

    Args:
        rows: OpenCV's, (N, H * W * boxes, 5 + classes): centre and size as parts of the picture, objectness, products.
        raw: what enters the head, (N, H, W, boxes * (5 + classes)).
    """
    n, high, wide, channels = raw.shape
    entries = 5 + int(settings.get("classes", "20"))
    shape = (n, high, wide, channels // entries, entries)
    given, raw = rows.reshape(shape).astype(np.float64), raw.reshape(shape)
    out = raw.astype(np.float64)  # width and height stay as they came
    out[..., 0] = given[..., 0] * wide - np.arange(wide).reshape(1, 1, -1, 1)
    out[..., 1] = given[..., 1] * high - np.arange(high).reshape(1, -1, 1, 1)
    sure = given[..., 4:5]
    out[..., 4:5] = sure
    with np.errstate(all="ignore"):
        kinds = np.where((sure > _SMALLEST) & (given[..., 5:] > 0), given[..., 5:] / sure, np.nan)
    out[..., 5:] = np.where(np.isnan(kinds), _classes(out[..., 5:], settings), kinds)
    return out.transpose(0, 3, 4, 1, 2).reshape(n, channels, high, wide).astype(np.float32)


def _classes(raw: np.ndarray, settings: dict[str, str]) -> np.ndarray:
    """Class scores of raw ones, where no object is sure enough to divide by or region's own suppression took them."""
    if settings.get("new_coords", "0") != "0":
        return raw
    if settings["kind"] == "region" and settings.get("softmax", "0") != "0":
        powers = np.exp(raw - raw.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)
    return 1 / (1 + np.exp(-raw))


def run(folder: Path) -> dict[str, Any]:
    """Answer the request of a folder; outputs are called ``layer_N`` by their section."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    if importlib.util.find_spec("cv2") is None:
        return {"missing": "opencv-python-headless"}
    cv2 = importlib.import_module("cv2")
    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        return {"missing": "OpenCV 4 (5 reads no Darknet files)"}
    stored = np.load(folder / "inputs.npz", allow_pickle=False)
    cfg_path, weights_path = (Path(f) for f in request["files"])
    first = stored["0:0"].shape if request["cases"] else ()
    sections = Sections(cfg_path, first[2:] if len(first) == 4 else None)
    cfg = np.frombuffer("\n".join(sections.lines).encode(), np.uint8)
    try:
        weights = adjusted(cv2, cfg, np.fromfile(weights_path, np.uint8))
    except cv2.error as error:
        unknown = re.search(r"Unknown layer type: (\S+)", str(error))
        if unknown is None:
            raise
        return {
            "failed": f"OpenCV reads no section [{unknown[1]}] of Darknet",
            "hint": "it reads convolutional networks; netferry's tests hold its other readers against Darknet itself",
        }

    def given(net: Any, section: int, layers: dict[int, str]) -> np.ndarray:
        value = np.array(net.forward(layers[section]))
        settings = sections.head(section)
        if settings is None:
            return value
        return head_map(value, np.array(net.forward(f"permute_{section}")), settings)

    arrays: dict[str, np.ndarray] = {}
    cases: list[dict[str, Any]] = []
    taps: dict[str, int] = {}
    for number in range(len(request["cases"])):
        try:
            net = cv2.dnn.readNetFromDarknet(cfg, weights)  # anew: shapes of one run stick
            net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
            net.enableFusion(False)
            net.enableWinograd(False)
            net.setInput(stored[f"{number}:0"].astype(np.float32))
            layers = last_layers(list(net.getLayerNames()))
            made = [given(net, int(name.removeprefix("layer_")), layers) for name in request["outputs"]]
        except cv2.error as error:
            cases.append({"error": " ".join(str(error).split())[:600]})
            continue
        cases.append({"outputs": request["outputs"]})
        arrays.update({f"{number}:{i}": v for i, v in enumerate(made)})
        if number == request.get("tap"):
            for section in layers:
                arrays[f"tap:layer_{section}:0"] = given(net, section, layers)
                taps[f"layer_{section}"] = 1
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
