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
    broken_onnx_nodes,
    broken_others,
)
from tests.attacks.making import Make

_FILES = (
    broken_caffe,
    broken_caffe_weights,
    broken_darknet,
    broken_keras,
    broken_keras_archives,
    broken_keras_hdf5,
    broken_keras_settings,
    broken_onnx,
    broken_onnx_nodes,
    broken_others,
)
CASES: dict[str, Make] = {name: make for file in _FILES for name, make in file.CASES.items()}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""
