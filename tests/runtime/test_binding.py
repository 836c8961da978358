"""Bound buffers give what plain runs give, for any order of shapes and from many threads; on a GPU too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import netferry
from fixtures import make
from netferry.errors import DeviceError, UsageError
from netferry.runtime import devices
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


class _FakeCuda:
    """onnxruntime as it is with a CUDA device, computing on the processor: what is asked of it is kept.

    ``refuses``: graphs cannot be recorded, as where a node is left to the processor.
    """

    def __init__(self, refuses: bool = False) -> None:
        self._real, self.refuses = devices.runtime(), refuses
        self.asked: list[dict[str, str]] = []
        self.ids: list[str] = []
        self.places: set[str] = set()
        fake, real = self, self._real

        class OrtValue:
            @staticmethod
            def ortvalue_from_numpy(array: np.ndarray, device: str, _index: int) -> Any:
                fake.places.add(device)
                return real.OrtValue.ortvalue_from_numpy(array)

            @staticmethod
            def ortvalue_from_shape_and_type(
                shape: Any, dtype: Any, device: str = "", _index: int = 0, memory_info: str | None = None
            ) -> Any:
                fake.places.add(memory_info or device)
                return real.OrtValue.ortvalue_from_shape_and_type(shape, dtype)

        self.OrtValue, self.RunOptions = OrtValue, _Options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_ep_devices(self) -> list[Any]:
        return [SimpleNamespace(ep_name="CUDAExecutionProvider", memory_info=lambda _: "page-locked")]

    def InferenceSession(self, source: Any, options: Any, providers: list[Any]) -> Any:
        settings = dict(providers[0][1])
        self.asked.append(settings)
        return _FakeSession(self, self._real.InferenceSession(source, options, providers=["CPUExecutionProvider"]),
                            settings.get("enable_cuda_graph") == "1")  # fmt: skip


class _Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


class _FakeSession:
    def __init__(self, fake: _FakeCuda, real: Any, graphs: bool) -> None:
        self._fake, self._real, self._graphs = fake, real, graphs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def io_binding(self) -> Any:
        return _FakeBinding(self._real.io_binding())

    def run_with_iobinding(self, binding: Any, options: _Options) -> None:
        if self._graphs and self._fake.refuses:
            raise RuntimeError("not all compute graph nodes have been partitioned to the CUDAExecutionProvider")
        self._fake.ids += options.entries.values()
        self._real.run_with_iobinding(binding.real)


class _FakeBinding:
    def __init__(self, real: Any) -> None:
        self.real = real

    def bind_output(self, name: str, *_: Any) -> None:
        self.real.bind_output(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


FIXED_TEXT = TEXT.replace("N, 3, H, W", "2, 3, 4, 5").replace("[N]", "[2]")
OPEN = onnx.parser.parse_model(
    FIXED_TEXT.replace("int64[2] m", "int64[R, C] m").replace("Add(k, k)", "NonZero(k)")
).SerializeToString()
FIXED = onnx.parser.parse_model(FIXED_TEXT).SerializeToString()


@pytest.mark.parametrize(
    ("net", "wanted", "refuses", "graphs"),
    [
        pytest.param(FIXED, None, False, True, id="fixed-shapes-are-recorded"),
        pytest.param(FIXED, False, False, False, id="not-where-that-is-said"),
        pytest.param(NET, None, False, False, id="dynamic-shapes-are-not"),
        pytest.param(NET, True, False, True, id="dynamic-shapes-on-request"),
        pytest.param(OPEN, None, False, False, id="nor-are-outputs-of-open-sizes"),
        pytest.param(FIXED, None, True, False, id="what-cannot-be-recorded-runs-plainly"),
    ],
)
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_graphs_are_recorded_where_shapes_are_fixed(
    net: bytes, wanted: bool | None, refuses: bool, graphs: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decisions, on a stand-in of onnxruntime; what a device does with them is the row marked gpu below."""
    fake, expected = _FakeCuda(refuses), Session(net, "cpu")
    monkeypatch.setattr("netferry.runtime.session.runtime", lambda: fake)
    session = Session(net, device, cuda_graph=wanted)
    assert (session.device, session.provider) == ("cuda:0", "CUDAExecutionProvider")
    assert session.graphs is graphs
    rng = np.random.default_rng(0)
    for _ in range(3):
        fed = {"x": rng.random((2, 3, 4, 5), np.float32), "k": rng.integers(0, 9, 2)}
        for name, array in expected.run(fed).items():
            np.testing.assert_array_equal(session.run(fed)[name], array)
    assert ("1" in fake.ids) is graphs
    assert ({"enable_cuda_graph": "1"} in [{k: v for k, v in a.items() if k != "device_id"} for a in fake.asked]) is (
        graphs or refuses
    )
    # recorded runs read from the device; others from memory that it fetches by itself
    assert fake.places == ({"cuda"} if graphs else {"cuda", "page-locked"} if refuses else {"page-locked"})


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
    assert Session(FIXED, "cuda").graphs
    for seed in [*range(12), 3, 3]:
        expected = plain.run(feeds(seed))
        for run in (session.run, recorded.run):
            found = run(feeds(seed))
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_measurement_beside_a_hand_written_loop_runs(device: str, tmp_path: Path) -> None:
    """benchmarks/session_device.py takes the time; here: the device is used, both sides agree with the processor."""
    from benchmarks.session_device import PARITY, measure

    if device == "cuda":
        _cuda()
    netferry.convert(FIXTURES / "digits.prototxt", tmp_path / "net.onnx", FIXTURES / "digits.caffemodel")
    found = measure(tmp_path / "net.onnx", device, batch=4, runs=2, rounds=1)
    assert found["device"].partition(":")[0] == device
    assert found["provider"].startswith(device.upper())
    assert [row["batch"] for row in found["rows"]] == ["dynamic", "fixed"]
    assert [row["graphs"] for row in found["rows"]] == [False, device == "cuda"]
    assert all(row["parity"] <= PARITY for row in found["rows"])
