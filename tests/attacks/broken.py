"""All broken files, by name."""

from __future__ import annotations

from tests.attacks import (
    broken_caffe,
    broken_caffe_weights,
    broken_darknet,
    broken_keras,
    broken_keras_archives,
    broken_keras_hdf5,
    broken_keras_settings,
    broken_onnx,
    broken_onnx_learners,
    broken_onnx_nodes,
    broken_onnx_settings,
    broken_others,
)
from tests.attacks.making import Make

CASES: dict[str, Make] = {
    **broken_caffe.CASES, **broken_caffe_weights.CASES, **broken_darknet.CASES, **broken_keras.CASES,
    **broken_keras_archives.CASES, **broken_keras_hdf5.CASES, **broken_keras_settings.CASES, **broken_onnx.CASES,
    **broken_onnx_learners.CASES, **broken_onnx_nodes.CASES, **broken_onnx_settings.CASES, **broken_others.CASES,
}  # fmt: skip
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""
