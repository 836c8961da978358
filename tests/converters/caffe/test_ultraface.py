"""The RFB and slim face detectors (Caffe with the fork layer Permute) against their ONNX twins on onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.converters.caffe.read import read
from netferry.converters.caffe.registry import registry
from netferry.converters.options import ReadOptions
from tests.converters.caffe.running import run
from tests.shared import shared

NEEDED = ("Convolution", "ReLU", "Permute", "Reshape", "Concat", "Eltwise", "Softmax")


@pytest.mark.skipif(any(registry.get(kind) is None for kind in NEEDED), reason=f"needs the readers of {NEEDED}")
@pytest.mark.parametrize("name", ["RFB-320", "slim-320"])
def test_ultraface_agrees_with_its_onnx_twin(name: str) -> None:
    weights = shared("data", "ultraface", f"{name}.caffemodel")
    model = read(weights.with_suffix(".prototxt"), ReadOptions(weights=weights))
    reference = np.load(weights.with_name(f"{name}_reference.npz"))
    got = run(model, {"input": reference["input"]})
    for output in ("scores", "boxes"):
        want = reference[f"onnx:{output}"]
        assert got[output].shape == want.shape
        np.testing.assert_allclose(got[output], want, rtol=0, atol=1e-4)
