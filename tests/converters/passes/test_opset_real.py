"""Real models at other opsets compute what they computed."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.converters.passes.opset_cases import carried, differs, outputs_of
from tests.shared import shared


@pytest.mark.parametrize("target", [11, 13, 17, 21, 26])
@pytest.mark.parametrize(
    "path", ["ultraface/RFB-320.onnx", "ultraface/slim-320.onnx", "ultraface/RFB-320_postprocessing.onnx"]
)
def test_real_face_detectors(path: str, target: int) -> None:
    proto = onnx.load(shared("data", *path.split("/")))
    out = carried(proto, target)
    onnx.checker.check_model(out, full_check=True)
    assert differs(outputs_of(out), outputs_of(proto), 1e-5, 1e-6) is None


@pytest.mark.parametrize("target", [11, 12, 14, 18, 21, 26])
@pytest.mark.parametrize("name", ["silero_vad.onnx", "silero_vad_16k_op15.onnx"])
def test_real_voice_detector_with_branches(name: str, target: int) -> None:
    proto = onnx.load(shared("data", "silero-vad", name))
    out = carried(proto, target)
    onnx.checker.check_model(out, full_check=True)
    rng = np.random.default_rng(0)
    feeds = {
        "input": rng.normal(size=(1, 576), scale=0.1).astype(np.float32),
        "state": rng.normal(size=(2, 1, 128), scale=0.1).astype(np.float32),
        "sr": np.array(16000, np.int64),
    }
    got, want = (
        ort.InferenceSession(p.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
        for p in (out, proto)
    )
    assert differs(got, want, 1e-5, 1e-6) is None
