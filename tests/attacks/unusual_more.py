"""All unusual but valid files that say how they are fed, by name."""

from __future__ import annotations

from tests.attacks import (  # noqa: F401  their cases register themselves
    unusual_caffe_more,
    unusual_keras_more,
    unusual_names,
    unusual_onnx_graphs,
    unusual_onnx_tensors,
)
from tests.attacks.unusual_made import CASES

__all__ = ["CASES"]
