"""Bound buffers give what plain runs give, for any order of shapes and from many threads; on a GPU too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import netferry
from fixtures import make
from netferry.errors import DeviceError, UsageError
from netferry.runtime.session import Session

TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[N, 3, H, W] x, int64[N] k) => (float[N, 3, H, W] y, int64[N] m) { y = Sigmoid(x) m = Add(k, k) }"""
NET = onnx.parser.parse_model(TEXT).SerializeToString()
FIXTURES = Path(make.__file__).parent


def feeds(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = 1 + seed % 3
    return {"x": rng.random((n, 3, 2 + seed % 5, 4), np.float32), "k": rng.integers(0, 9, n)}


def test_bound_runs_equal_plain_ones() -> None:
    plain, bound = Session(NET, "cpu"), Session(NET, "cpu", bind=True)
    kept = []
    for seed in [*range(20), 3, 3, 4]:
        for wanted in (None, ["m"]):
            expected, found = plain.run(feeds(seed), wanted), bound.run(feeds(seed), wanted)
            assert list(found) == list(expected)
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])
            kept.append((found, {n: v.copy() for n, v in found.items()}))
    for found, copy in kept:  # later runs do not write into arrays that were given out
        for name in found:
            np.testing.assert_array_equal(found[name], copy[name])


def test_bound_sessions_are_shared_by_threads() -> None:
    plain, bound = Session(NET, "cpu", threads=1), Session(NET, "cpu", threads=1, bind=True)

    def same(seed: int) -> bool:
        expected, found = plain.run(feeds(seed)), bound.run(feeds(seed))
        return all(np.array_equal(found[n], expected[n]) for n in expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, range(200)))


def test_session_of_a_model() -> None:
    model = netferry.load(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel")
    session = model.session(device="cpu", threads=1, warm_up=2)
    assert session.device == "cpu"
    other = netferry.session(FIXTURES / "digits.prototxt", weights=FIXTURES / "digits.caffemodel", device="cpu")
    data = {"data": np.zeros((2, 1, 20, 20), np.float32)}
    np.testing.assert_array_equal(session.run(data)["prob"], other.run(data)["prob"])


def test_cuda_graphs_elsewhere_are_refused() -> None:
    with pytest.raises(UsageError, match="CUDA graphs"):
        Session(NET, "cpu", cuda_graph=True)


def _cuda() -> Session:
    try:
        return Session(NET, "cuda")
    except DeviceError as error:
        pytest.skip(f"no CUDA device: {error.reason}")


@pytest.mark.gpu
def test_cuda() -> None:
    """The device is used, bound runs and recorded graphs agree with the processor."""
    session = _cuda()
    assert (session.device, session.provider) == ("cuda:0", "CUDAExecutionProvider")
    recorded, plain = Session(NET, "cuda", cuda_graph=True), Session(NET, "cpu")
    for seed in [*range(12), 3, 3]:
        expected = plain.run(feeds(seed))
        for run in (session.run, recorded.run):
            found = run(feeds(seed))
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-3)
