"""Published files against what Keras 2.15 computes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.schemas.model import Model
from tests.converters.keras.oracle import in_memory, session
from tests.shared import shared


def run(model: Model, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
    proto = in_memory(model)
    runner = session(proto)
    out = np.asarray(runner.run(None, {runner.get_inputs()[0].name: x.astype(np.float32)})[0])
    return out, [n.op_type for n in proto.graph.node]


def difference(made: np.ndarray, want: np.ndarray) -> float:
    assert made.shape == want.shape
    return float(np.abs(made - want).max() / np.abs(want).max())


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        pytest.param("mini-xception", "fer2013_mini_XCEPTION.119-0.65.hdf5", id="xception-fer2013"),
        pytest.param("mini-xception", "gender_mini_XCEPTION.21-0.95.hdf5", id="xception-gender"),
        pytest.param("mini-xception", "tiny_XCEPTION_KDEF.hdf5", id="xception-kdef"),
        pytest.param("tiny", "resnet8_cifar10.h5", id="resnet8"),
        pytest.param("tiny", "mobilenet_v1_0.25_vww.h5", id="mobilenet"),
        pytest.param("tiny", "autoencoder_toycar.hdf5", id="autoencoder"),
        pytest.param("tiny", "streaming_wakeword.h5", id="wakeword"),
    ],
)
def test_published(folder: str, file: str) -> None:
    path = shared("data", folder, file)
    reference = np.load(path.with_name(f"{Path(file).stem}_reference.npz"))
    made, operators = run(read(path, ReadOptions()), reference["input"])
    assert difference(made, reference["output"]) <= 1e-5
    assert operators.count("Transpose") <= 1


@pytest.mark.parametrize(
    ("ordering", "architecture"),
    [
        pytest.param("tf", "squeezenet_tf_notop_keras1.json", id="keras1-tf"),
        pytest.param("tf", "squeezenet_tf_notop_keras2.json", id="keras2-tf"),
        pytest.param("th", "squeezenet_th_notop_keras1.json", id="keras1-th-turned-kernels"),
    ],
)
@pytest.mark.parametrize("nchw", [False, True], ids=["as-is", "nchw"])
def test_squeezenet(ordering: str, architecture: str, nchw: bool) -> None:
    folder = shared("data", "keras-squeezenet")
    reference = np.load(folder / "reference.npz")
    options: dict[str, Any] = {"inputs_as_nchw": ("*",), "outputs_as_nchw": ("*",)} if nchw else {}
    weights = folder / f"squeezenet_{ordering}_notop.h5"
    first = nchw or ordering == "th"
    x, want = reference["input_nhwc"], reference["output_nhwc"]
    if first:
        x, want = x.transpose(0, 3, 1, 2), want.transpose(0, 3, 1, 2)
    if ordering == "th":
        options = {}
    made, operators = run(read(folder / architecture, ReadOptions(weights=weights, **options)), x)
    assert difference(made, want) <= 1e-5
    assert operators.count("Transpose") == (0 if first else 2)
