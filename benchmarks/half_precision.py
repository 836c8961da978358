"""Half precision on convolutional families: largest relative difference, NaN, size.

    python -m benchmarks.half_precision [--python KERAS_PYTHON] [--only MobileNetV2 ...] [--shared FOLDER]

Seeded networks of keras.applications whose signals keep their size (He's kernels, BatchNormalization by the size of
what it gets, no softmax, so that the scores themselves are compared), and with --shared the real networks there on
their recorded inputs. Each is converted to
float32 and float16 ONNX and run on seeded pictures twice: by onnxruntime's processor, which rounds little, and with
every operator's result rounded to float16, as a GPU does (netferry.runtime.emulate). The exit code is 1 where a
difference is above 2e-3 of the largest score, or anything is NaN.

As keras.applications draws them the signals fade to 1e-11, which no half precision can say; with the means and
variances of random pictures taken in they are chaotic, and rounding the picture alone moves the scores by percents.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from netferry import api
from netferry.runtime.emulate import run_rounded
from netferry.runtime.session import Session
from netferry.runtime.verify import compare

FAMILIES = {
    "MobileNet": 96, "MobileNetV2": 96, "MobileNetV3Small": 96, "ResNet50": 96, "ResNet50V2": 96, "DenseNet121": 96,
    "InceptionV3": 107, "Xception": 96, "EfficientNetB0": 96, "EfficientNetV2B0": 96, "NASNetMobile": 96, "VGG16": 64,
    "ConvNeXtTiny": 96,
}  # fmt: skip
BOUND = 2e-3
_MAKE = """
import sys, keras, numpy as np
name, size, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
keras.utils.set_random_seed(7)
more = {"include_preprocessing": False} if "V3Small" in name or name == "ConvNeXtTiny" or "V2B0" in name else {}
model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classifier_activation=None, **more)
pictures = keras.random.uniform((8, size, size, 3), seed=1) * (255 if name == "EfficientNetB0" else 1)
rng = np.random.default_rng(7)
for layer in model.layers:
    for weight in layer.weights:
        shape = tuple(weight.shape)
        if len(shape) < 2:
            continue
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D) or "depthwise" in weight.name
        fan = np.prod(shape[:2]) if depthwise else np.prod(shape[:-1])
        weight.assign(rng.normal(0, np.sqrt(2 / fan), shape))
def sized(self, x, training=None, mask=None):
    power = keras.ops.mean(x * x, axis=list(range(len(x.shape) - 1)))
    self.moving_mean.assign(keras.ops.zeros_like(self.moving_mean))
    self.moving_variance.assign(power)
    y = x / keras.ops.sqrt(power + self.epsilon)
    y = y if self.gamma is None else y * self.gamma
    return y if self.beta is None else y + self.beta
usual = keras.layers.BatchNormalization.call
keras.layers.BatchNormalization.call = sized
model(pictures)
keras.layers.BatchNormalization.call = usual
model.save(path)
"""


REAL: dict[str, tuple[tuple[str, ...], str]] = {  # files, recorded inputs
    "MobileNet VWW": (("tiny/mobilenet_v1_0.25_vww.h5",), "tiny/mobilenet_v1_0.25_vww_reference.npz"),
    "ResNet8 CIFAR": (("tiny/resnet8_cifar10.h5",), "tiny/resnet8_cifar10_reference.npz"),
    "mini-Xception": (
        ("mini-xception/fer2013_mini_XCEPTION.119-0.65.hdf5",),
        "mini-xception/fer2013_mini_XCEPTION.119-0.65_reference.npz",
    ),
    "UltraFace RFB": (("ultraface/RFB-320.onnx",), "ultraface/RFB-320_reference.npz"),
    "SqueezeNet": (
        ("squeezenet_v1.1/deploy.prototxt", "squeezenet_v1.1/squeezenet_v1.1.caffemodel"),
        "squeezenet_v1.1/reference.npz",
    ),
    "LeNet": (("lenet/lenet.prototxt", "lenet/lenet_iter_10000.caffemodel"), "lenet/reference.npz"),
}


def differences(full: Path, half: Path, pictures: np.ndarray) -> dict[str, float]:
    """Largest relative difference by onnxruntime and with all roundings, the number of NaN, the largest value."""
    reference = Session(full, "cpu", once=True)
    feeds = {reference.inputs[0].name: pictures}
    wanted = reference.run(feeds)
    by_runtime = Session(half, "cpu", once=True).run(feeds)
    rounded = run_rounded(onnx.load(half), feeds)
    out = {"nan": 0.0, "top": float(max(np.abs(v).max() for v in wanted.values()))}
    for judge, got in (("runtime", by_runtime), ("rounded", rounded)):
        out[judge] = max(row["max_rel"] for row in compare(got, wanted).values())
        out["nan"] += sum(int((~np.isfinite(v)).sum()) for v in got.values())
    return out


def real(files: tuple[str, ...], recorded: str, shared: Path, full: Path) -> np.ndarray:
    """Convert a real network; returns its recorded inputs."""
    first, *more = [shared / "data" / file for file in files]
    api.convert(first, full, more[0] if more else None, optimize="full")
    port = Session(full, "cpu").inputs[0]
    arrays = np.load(shared / "data" / recorded)
    name = next(n for n in (port.name, "input", "data", *arrays.files) if n in arrays.files)
    return arrays[name].astype(np.float32)


def main() -> int:
    """Print a line per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=os.environ.get("NETFERRY_TF_PYTHON", sys.executable))
    parser.add_argument("--only", nargs="*", choices=[*FAMILIES, *REAL])
    parser.add_argument("--shared", type=Path)
    asked = parser.parse_args()
    wrong = 0
    print(f"{'network':18} {'onnxruntime':>11} {'rounded':>10} {'NaN':>4} {'largest':>8} {'size':>5}  stays in float32")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases = [name for name in FAMILIES if not asked.only or name in asked.only]
        if asked.shared:
            cases += [name for name in REAL if not asked.only or name in asked.only]
        for name in cases:
            full, half = folder / "full.onnx", folder / "half.onnx"
            if name in REAL:
                pictures = real(*REAL[name], asked.shared, full)
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
            report = api.convert(full, half, precision="fp16", check="structure")["changes"]["precision"]
            found = differences(full, half, pictures)
            worst = max(found["runtime"], found["rounded"])
            bad = found["nan"] > 0 or not worst <= BOUND
            wrong += bad
            kept = sorted({why.split(":")[0] for why in report["kept"].values()})
            ratio = half.stat().st_size / full.stat().st_size
            print(
                f"{name:18} {found['runtime']:11.1e} {found['rounded']:10.1e} {found['nan']:4.0f} "
                f"{found['top']:8.3g} "
                f"{ratio:5.2f}  {', '.join(kept)}{'   ABOVE THE BOUND' if bad else ''}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
