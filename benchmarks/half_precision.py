"""Half precision on convolutional families, beside onnxruntime's own converter: largest relative difference and NaN.

    python -m benchmarks.half_precision [--python KERAS_PYTHON] [--only MobileNetV2 zoo:googlenet ...] [--shared FOLDER]

Seeded networks of keras.applications and of the zoo (without softmax, so that the scores themselves are compared) on
seeded pictures and, with --shared, the real networks there on their recorded inputs. As Keras draws kernels, the
signals of some fade below the smallest normal number of half precision: those get He et al.'s kernels and open gates
(--kernels he: all do). Where random kernels let signals grow through a hundred layers, every rounding grows with them.

Each is converted to float32 ONNX, then to float16 by ``--precision fp16`` with its gate (layers stay in float32 where
all in float16 would be too far off) and by onnxruntime.transformers.float16, and run twice: by onnxruntime's processor,
which keeps float32 between operators, and with every operator's result rounded to float16, as a GPU does
(netferry.runtime.emulate). The pictures are others than those that the gate sees.

``all half`` is what the gate sees with all in float16, ``float32`` the share of the weights that stays in float32,
``size`` the file's to that before; ``seconds`` of processor time for the conversion.
The exit code is 1 where netferry's is more than 2e-3 of the largest score away either way, where anything is NaN, or
where no mix of precisions passes the gate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from netferry import api
from netferry.api.made_pictures import pictures_of
from netferry.errors import CheckFailed
from netferry.runtime.emulate import run_rounded
from netferry.runtime.session import Session
from netferry.runtime.verify import compare, seeded_inputs

FAMILIES = {
    "MobileNet": 96, "MobileNetV2": 96, "MobileNetV3Small": 96, "ResNet50": 96, "ResNet50V2": 96, "DenseNet121": 96,
    "InceptionV3": 107, "Xception": 96, "EfficientNetB0": 96, "EfficientNetV2B0": 96, "NASNetMobile": 96, "VGG16": 64,
    "ConvNeXtTiny": 96,
}  # fmt: skip
ZOO = ("squeezenet", "googlenet", "inceptionv3", "resnet18", "mobilenetv2", "darknet19")
BOUND = 2e-3
FADED = 2.0**-14  # half precision's smallest normal number
_MAKE = """
import sys, keras, numpy as np
name, size, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
keras.utils.set_random_seed(7)
more = {"include_preprocessing": False} if "V3Small" in name or name == "ConvNeXtTiny" or "V2B0" in name else {}
model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classifier_activation=None, **more)
rng = np.random.default_rng(7)
for layer in model.layers if sys.argv[4] == "he" else ():
    for weight in layer.weights:
        shape = tuple(weight.shape)
        if len(shape) >= 2:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D) or "depthwise" in weight.name
            fan = np.prod(shape[:2]) if depthwise else np.prod(shape[:-1])
            weight.assign(rng.normal(0, np.sqrt(2 / fan), shape))
        elif "bias" in weight.name and ("se_expand" in layer.name or "excite_conv_1" in layer.name):
            weight.assign(np.full(shape, 4.0))
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
    """Largest relative difference of ours and of onnxruntime's converter, either way; the number of NaN."""
    reference = Session(full, "cpu", once=True)
    feeds = {reference.inputs[0].name: pictures}
    wanted = reference.run(feeds)
    ours, other = onnx.load(half), convert_float_to_float16(onnx.load(full), keep_io_types=True)
    runs = {
        "ours": Session(half, "cpu", once=True).run(feeds),
        "theirs": Session(other.SerializeToString(), "cpu", once=True).run(feeds),
        "ours rounded": run_rounded(ours, feeds),
        "theirs rounded": run_rounded(other, feeds),
    }
    out = {name: max(row["max_rel"] for row in compare(got, wanted).values()) for name, got in runs.items()}
    broken = sum(int((~np.isfinite(v)).sum()) for k in ("ours", "ours rounded") for v in runs[k].values())
    return out | {"nan": float(broken)}


def largest(full: Path, pictures: np.ndarray) -> float:
    """The largest score."""
    session = Session(full, "cpu", once=True)
    return float(max(np.abs(v).max() for v in session.run({session.inputs[0].name: pictures}).values()))


def real(files: tuple[str, ...], recorded: str, shared: Path, full: Path) -> np.ndarray:
    """Convert a real network; returns its recorded inputs."""
    first, *more = [shared / "data" / file for file in files]
    api.convert(first, full, more[0] if more else None, optimize="full")
    port = Session(full, "cpu").inputs[0]
    arrays = np.load(shared / "data" / recorded)
    name = next(n for n in (port.name, "input", "data", *arrays.files) if n in arrays.files)
    return arrays[name].astype(np.float32)


def seeded(name: str, kernels: str, python: str, full: Path) -> np.ndarray:
    """Make and convert a network of keras.applications; returns pictures."""
    size, made = FAMILIES[name], full.with_name("net.keras")
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, "-c", _MAKE, name, str(size), str(made), kernels]
    subprocess.run(command, check=True, env=env, capture_output=True)
    inside = name == "EfficientNetB0"  # scales its pixels itself; the gate must know the range that others take
    told: dict[str, Any] = {} if inside else {"recipe": {"scale": (1 / 255,)}}
    api.convert(made, full, optimize="full", **told)
    pictures = np.random.default_rng(0).random((2, size, size, 3)).astype(np.float32)
    return pictures * (255 if inside else 1)


def from_zoo(name: str, full: Path) -> np.ndarray:
    """Make a network of the zoo, up to its scores; returns pictures as its preprocessing makes them."""
    model, raw = api.zoo.load(name, seed=0), full.with_name("raw.onnx")
    api.save(model, raw, check="structure")
    graph = onnx.load(raw, load_external_data=False).graph
    made = {output: node for node in graph.node for output in node.output}
    end = graph.output[0].name
    while made[end].op_type in ("Softmax", "Flatten", "Reshape", "Squeeze"):
        end = made[end].input[0]
    api.convert(raw, full, optimize="full", check="structure", outputs=(end,))
    ports = Session(full, "cpu").inputs
    return pictures_of(model, ports, seeded_inputs(ports, 2, 9), 9)[ports[0].name]


def main() -> int:
    """Print a line per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=os.environ.get("NETFERRY_TF_PYTHON", sys.executable))
    parser.add_argument("--kernels", choices=("keras", "he"), default="keras")
    parser.add_argument("--only", nargs="*", choices=[*FAMILIES, *(f"zoo:{name}" for name in ZOO), *REAL])
    parser.add_argument("--shared", type=Path)
    asked = parser.parse_args()
    wrong = 0
    print(f"{'':20} {'onnxruntime':^17} {'every rounding':^17}")
    print(
        f"{'network':20} {'ours':>8} {'theirs':>8} {'ours':>8} {'theirs':>8} {'all half':>8} {'float32':>7} "
        f"{'size':>5} {'largest':>8} {'NaN':>4} {'seconds':>7}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases = [*FAMILIES, *(f"zoo:{name}" for name in ZOO), *(REAL if asked.shared else ())]
        for name in cases:
            if asked.only and name not in asked.only:
                continue
            full, half = folder / "full.onnx", folder / "half.onnx"
            kernels = asked.kernels if name in FAMILIES else ""
            if name in REAL:
                pictures = real(*REAL[name], asked.shared, full)
            elif name not in FAMILIES:
                pictures = from_zoo(name.removeprefix("zoo:"), full)
            else:
                pictures = seeded(name, kernels, asked.python, full)
                if kernels == "keras" and largest(full, pictures) <= FADED:
                    kernels = "he"
                    pictures = seeded(name, kernels, asked.python, full)
            started = time.process_time()
            try:
                report = api.convert(full, half, precision="fp16")
            except CheckFailed as error:
                wrong += 1
                print(f"{name:20} {error.reason}  {kernels}  WRONG", flush=True)
                continue
            seconds = time.process_time() - started
            done, found = report["changes"]["precision"], differences(full, half, pictures)
            bad = found["nan"] > 0 or not max(found["ours"], found["ours rounded"]) <= BOUND
            wrong += bad
            numbers = " ".join(f"{found[k]:8.1e}" for k in ("ours", "theirs", "ours rounded", "theirs rounded"))
            gate, sizes = done["gate"], done["weight_bytes"]
            before = gate.get("error_without_float32", gate["error"])
            share, size = sizes["float32"] / sizes["before"], half.stat().st_size / full.stat().st_size
            print(
                f"{name:20} {numbers} {'NaN' if before is None else f'{before:.1e}':>8} {share:7.3f} {size:5.2f} "
                f"{largest(full, pictures):8.2g} {found['nan']:4.0f} {seconds:7.1f}  {kernels}"
                f"{'  WRONG' if bad else ''}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
