"""The rows of benchmarks/torch_gpu.py, small: on the CPU, and on a CUDA device where there is one."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks.torch_gpu import BOUNDS, MODES, measured, pair, parity

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_parity_with_plain_torch(device: str, mode: str) -> None:
    """Outputs and gradients of a training step, channels last; equal operators give equal values."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(1)
    x = torch.randn(2, 3, 64, 64, device=device).contiguous(memory_format=torch.channels_last)
    found = parity(pair("mobilenet_v2", device), x, torch.arange(2, device=device), MODES[mode])
    assert found["outputs"] <= BOUNDS[mode]
    assert found["gradients"] <= 10 * BOUNDS[mode]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_benchmark_runs() -> None:
    settings = {"batch": 2, "size": 32, "device": "cpu", "rounds": 1, "steps": 1, "no_compile": True}
    rows = measured("mobilenet_v2", argparse.Namespace(**settings))
    assert [(row["type"], row["how"]) for row in rows] == [("float32", "eager"), ("bfloat16", "eager")]
    assert all(row["steps_per_second"]["ratio"] > 0 for row in rows)
