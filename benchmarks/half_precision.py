"""Half precision on convolutional families: largest relative difference, NaN, size.

    python -m benchmarks.half_precision [--python KERAS_PYTHON] [--only MobileNetV2 ...] [--shared FOLDER]

Seeded networks of keras.applications (their BatchNormalization measured once on random pictures, no softmax, so that
the scores themselves are compared) and, with --shared, the real SqueezeNet on real pictures. Each is converted to
float32 and to float16 ONNX and run on seeded pictures, twice: by onnxruntime's processor, which computes in float32
between rounded values where it has no kernel of that type, and by onnx.reference, which rounds after every operator.
The exit code is 1 where a difference is above 2e-3 of the largest score, or anything is NaN.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from netferry import api
from netferry.runtime.session import Session
from netferry.runtime.verify import compare

FAMILIES = {
    "MobileNet": 96, "MobileNetV2": 96, "MobileNetV3Small": 96, "ResNet50": 96, "ResNet50V2": 96, "DenseNet121": 96,
    "InceptionV3": 107, "Xception": 96, "EfficientNetB0": 96, "EfficientNetV2B0": 96, "NASNetMobile": 96, "VGG16": 64,
    "ConvNeXtTiny": 96,
}  # fmt: skip
BOUND = 2e-3
_MAKE = """
import sys, keras
name, size, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
keras.utils.set_random_seed(7)
more = {"include_preprocessing": False} if "V3Small" in name or name == "ConvNeXtTiny" or "V2B0" in name else {}
model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classifier_activation=None, **more)
pictures = keras.random.uniform((8, size, size, 3), seed=1) * (255 if name == "EfficientNetB0" else 1)
if sys.argv[4] == "measured":
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures, training=True)
model.save(path)
"""


def differences(full: Path, half: Path, pictures: np.ndarray) -> dict[str, float]:
    """Largest relative difference and number of NaN, by onnxruntime and by onnx.reference."""
    reference = Session(full, "cpu", once=True)
    name = reference.inputs[0].name
    wanted = reference.run({name: pictures})
    by_runtime = Session(half, "cpu", once=True).run({name: pictures})
    evaluator: Any = ReferenceEvaluator(onnx.load(half))
    by_reference = dict(zip(wanted, evaluator.run(list(wanted), {name: pictures}), strict=True))
    out = {"nan": 0.0, "top": float(max(np.abs(v).max() for v in wanted.values()))}
    for judge, got in (("runtime", by_runtime), ("reference", by_reference)):
        out[judge] = max(row["max_rel"] for row in compare(got, wanted).values())
        out["nan"] += sum(int((~np.isfinite(v)).sum()) for v in got.values())
    return out


def squeezenet(shared: Path, folder: Path) -> tuple[Path, np.ndarray]:
    """The real SqueezeNet as ONNX, and real pictures as it takes them."""
    from netferry.runtime.data import open_data
    from netferry.runtime.feed import Feed

    net = shared / "data" / "squeezenet_v1.1"
    path = folder / "squeezenet.onnx"
    api.convert(
        net / "deploy.prototxt", path, net / "squeezenet_v1.1.caffemodel", recipe={"mean": (104.0, 117.0, 123.0)}
    )
    feed = Feed(Session(path, "cpu"))
    items = list(open_data(shared / "data" / "images"))[:4]
    return path, np.stack([feed(item)["data"] for item in items])


def main() -> int:
    """Print a line per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=os.environ.get("NETFERRY_TF_PYTHON", sys.executable))
    parser.add_argument("--only", nargs="*", choices=[*FAMILIES, "SqueezeNet"])
    parser.add_argument("--shared", type=Path)
    asked = parser.parse_args()
    wrong = 0
    print(
        f"{'network':18} {'onnxruntime':>11} {'reference':>10} {'NaN':>4} {'largest':>8} {'size':>5}  stays in float32"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases = [name for name in FAMILIES if not asked.only or name in asked.only]
        if asked.shared and (not asked.only or "SqueezeNet" in asked.only):
            cases.append("SqueezeNet")
        for name in cases:
            full, half = folder / "full.onnx", folder / "half.onnx"
            if name == "SqueezeNet":
                full, pictures = squeezenet(asked.shared, folder)
            else:
                size = FAMILIES[name]
                made = folder / "net.keras"
                env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
                subprocess.run(
                    [asked.python, "-c", _MAKE, name, str(size), str(made)], check=True, env=env, capture_output=True
                )
                api.convert(made, full, optimize="full")
                pictures = np.random.default_rng(0).random((2, size, size, 3)).astype(np.float32)
                pictures *= 255 if name == "EfficientNetB0" else 1
            report = api.convert(full, half, precision="fp16")["changes"]["precision"]
            found = differences(full, half, pictures)
            worst = max(found["runtime"], found["reference"])
            bad = found["nan"] > 0 or not worst <= BOUND
            wrong += bad
            kept = sorted({why.split(":")[0] for why in report["kept"].values()})
            ratio = half.stat().st_size / full.stat().st_size
            print(
                f"{name:18} {found['runtime']:11.1e} {found['reference']:10.1e} {found['nan']:4.0f} "
                f"{found['top']:8.3g} "
                f"{ratio:5.2f}  {', '.join(kept)}{'   ABOVE THE BOUND' if bad else ''}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
