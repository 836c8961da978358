"""Real models of three formats as torch modules and as source: outputs as onnxruntime's, learnables as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from netferry import api
from netferry.schemas.layers import count
from tests.runtime.torch.alone import Alone
from tests.shared import shared

MODELS = [
    pytest.param("lenet/lenet.prototxt", "lenet/lenet_iter_10000.caffemodel", id="lenet"),
    pytest.param(
        "squeezenet_v1.1/deploy.prototxt", "squeezenet_v1.1/squeezenet_v1.1.caffemodel", id="squeezenet",
        marks=pytest.mark.slow,
    ),
    *(pytest.param(f"mtcnn/det{i}.prototxt", f"mtcnn/det{i}.caffemodel", id=f"mtcnn-{i}") for i in (1, 2, 3, 4)),
    pytest.param("ultraface/RFB-320.prototxt", "ultraface/RFB-320.caffemodel", id="ultraface", marks=pytest.mark.slow),
    pytest.param("ultraface/RFB-320_postprocessing.onnx", None, id="ultraface-onnx", marks=pytest.mark.slow),
    pytest.param("silero-vad/silero_vad_16k_op15.onnx", None, id="silero-lstm"),
    pytest.param("silero-vad/silero_vad.onnx", None, id="silero-if", marks=pytest.mark.slow),
    pytest.param("tiny/resnet8_cifar10.h5", None, id="resnet8"),
    pytest.param("tiny/mobilenet_v1_0.25_vww.h5", None, id="mobilenet"),
    pytest.param("tiny/autoencoder_toycar.hdf5", None, id="autoencoder"),
    pytest.param("tiny/streaming_wakeword.h5", None, id="wakeword"),
    pytest.param("mini-xception/fer2013_mini_XCEPTION.119-0.65.hdf5", None, id="xception"),
]  # fmt: skip
SIZES = {"input": 576}
"""dynamic last axes by input: silero takes 576 samples"""


@pytest.mark.parametrize(("source", "weights"), MODELS)
def test_agrees_with_onnxruntime(alone: Alone, source: str, weights: str | None, tmp_path: Path) -> None:
    model = api.load(shared("data", source), None if weights is None else shared("data", weights))
    module = api.to_torch(model).eval()
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for put in model.inputs:
        shape = [d if isinstance(d, int) else SIZES.get(put.name, 2) if i else 2 for i, d in enumerate(put.shape or ())]
        whole = put.dtype == "int64"
        feeds[put.name] = np.full(shape, 16000) if whole else rng.normal(0, 0.5, shape).astype(np.float32)
    api.save(model, tmp_path / "net.onnx", check="structure")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(tmp_path / "net.onnx", options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        made = module(*(torch.from_numpy(x) for x in feeds.values()))
    made = made if isinstance(made, tuple) else (made,)
    api.export(model, tmp_path / "source", to="torch-source", check="none")
    written = alone.run(tmp_path / "source", [[torch.from_numpy(x) for x in feeds.values()]])[0]
    for got, source_made, expected in zip(made, written, session.run(None, feeds), strict=True):
        want = np.asarray(expected)
        for one in (got, source_made):
            np.testing.assert_allclose(one.numpy(), want, rtol=0, atol=1e-5 * max(float(np.abs(want).max()), 1e-6))
    assert sum(p.numel() for p in module.parameters()) == sum(count(v) for v in model.parameters().values())
