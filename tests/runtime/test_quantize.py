"""int8 on the digits net: accuracy before and after, and the refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry import api
from netferry.errors import CheckFailed, UsageError
from netferry.runtime.quantize import quantize
from netferry.runtime.session import Session

ort_quantization = pytest.importorskip("onnxruntime.quantization", exc_type=ImportError)
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, np.ndarray]]]:
    """The net as ONNX, and pictures of handwritten digits as it takes them."""
    from sklearn.datasets import load_digits

    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    api.save(api.load(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel"), path, check="structure")
    port = Session(path).inputs[0]
    rng = np.random.default_rng(0)
    size = [d if isinstance(d, int) else 4 for d in port.shape]
    found = load_digits().images[: 4 * 16].astype(np.float32)
    feeds = []
    for i in range(16):
        pictures = found[4 * i : 4 * i + 4]
        scale = size[2] // pictures.shape[1] + 1
        large = np.kron(pictures, np.ones((1, scale, scale), np.float32))[:, None, : size[2], : size[3]]
        feeds.append({port.name: (large / 16 + rng.normal(0, 0.01, large.shape)).astype(np.float32)})
    return path, feeds


def test_int8_keeps_the_first_class(digits: tuple[Path, list[dict[str, np.ndarray]]], tmp_path: Path) -> None:
    path, feeds = digits
    target = tmp_path / "new" / "int8.onnx"
    found = quantize(path, target, feeds, max_drop=0.05)
    assert target.exists()
    assert found.bytes_after < 0.6 * found.bytes_before
    assert found.agreement is not None
    assert min(found.agreement.values()) >= 0.95


def test_worse_than_allowed_is_not_written(digits: tuple[Path, list[dict[str, np.ndarray]]], tmp_path: Path) -> None:
    path, feeds = digits
    scores = iter([0.99, 0.9])
    with pytest.raises(CheckFailed, match="nothing was written"):
        quantize(path, tmp_path / "int8.onnx", feeds[:2], max_drop=0.01, score=lambda session: next(scores))
    assert not list(tmp_path.iterdir())


def test_without_inputs(digits: tuple[Path, list[dict[str, np.ndarray]]], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        quantize(digits[0], tmp_path / "int8.onnx", [])
