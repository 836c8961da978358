"""Sessions: devices checked, errors typed, nothing heavy imported. numpy is the oracle of the sums."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from netferry.errors import CheckFailed, DeviceError, InputError, MalformedFile, MissingExtra, NetferryError, UsageError
from netferry.runtime import devices
from netferry.runtime.session import Session

TWO = """<ir_version: 10, opset_import: ["": 21]>
g (float[N, 4] x, int64[2] k) => (float[N, 4] y, int64[2] twice) { y = Relu(x)  twice = Add(k, k) }"""


def model_bytes(text: str = TWO, **metadata: str) -> bytes:
    """Serialise a model given as ONNX text."""
    model = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(model, metadata)
    return model.SerializeToString()


def test_ports_metadata_and_run(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes(**{"netferry.labels": "{}"}))
    session = Session(path, device="cpu", threads=1)
    assert [(p.name, p.dtype, p.shape) for p in session.inputs] == [("x", "float", ("N", 4)), ("k", "int64", (2,))]
    assert [p.name for p in session.outputs] == ["y", "twice"]
    assert session.metadata == {"netferry.labels": "{}"}
    assert (session.device, session.provider) == ("cpu", "CPUExecutionProvider")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    feeds = {"x": x, "k": np.array([1, 2])}
    got = session.run(feeds)
    assert list(got) == ["y", "twice"]
    np.testing.assert_array_equal(got["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(session.run(feeds, ["twice"])["twice"], [2, 4])


GOOD = {"x": np.zeros((1, 4), np.float32), "k": np.zeros(2, np.int64)}


@pytest.mark.parametrize(
    ("feeds", "outputs", "says"),
    [
        pytest.param({"x": GOOD["x"]}, None, "no values for input 'k'", id="missing"),
        pytest.param({**GOOD, "z": GOOD["x"]}, None, "no input 'z'", id="surplus"),
        pytest.param({**GOOD, "x": np.zeros((1, 4))}, None, "float64, not float32", id="dtype"),
        pytest.param({**GOOD, "x": np.zeros((1, 5), np.float32)}, None, "shape [1, 5]", id="shape"),
        pytest.param({**GOOD, "x": np.zeros(4, np.float32)}, None, "shape [4]", id="rank"),
        pytest.param(GOOD, ["nope"], "no output 'nope'", id="output"),
    ],
)
def test_wrong_calls(feeds: dict[str, np.ndarray], outputs: list[str] | None, says: str) -> None:
    with pytest.raises(UsageError) as error:
        Session(model_bytes(), "cpu").run(feeds, outputs)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(None, InputError, id="missing"),
        pytest.param(b"", MalformedFile, id="empty"),
        pytest.param(b"not a model" * 9, MalformedFile, id="text"),
        pytest.param(model_bytes()[:-9], NetferryError, id="truncated"),
        pytest.param(model_bytes(TWO.replace("Relu", "NoSuchOp")), CheckFailed, id="unknown-operator"),
    ],
)
def test_files_that_do_not_load(
    tmp_path: Path, content: bytes | None, error: type[NetferryError], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as caught:
        Session(path)
    assert caught.value.file == str(path)
    assert capfd.readouterr() == ("", "")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder"):
        Session(tmp_path)


def test_failure_while_running_is_typed(capfd: pytest.CaptureFixture[str]) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[N] x, int64[1] s) => (float[M] y) { y = Reshape(x, s) }"""
    with pytest.raises(CheckFailed, match="onnxruntime failed while running"):
        Session(model_bytes(text)).run({"x": np.zeros(6, np.float32), "s": np.array([5])})
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("device", ["warp", "cuda:x", "cpu:1", "", "cuda:"])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(UsageError, match="device"):
        Session(model_bytes(), device)


def _has(provider: str) -> bool:
    return provider in devices.runtime().get_available_providers()


@pytest.mark.skipif(_has("CUDAExecutionProvider"), reason="this onnxruntime knows CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu", "tensorrt"])
def test_asked_for_gpu_is_never_silently_left_out(device: str) -> None:
    with pytest.raises(DeviceError) as error:
        Session(model_bytes(), device)
    assert "built without" in str(error.value)
    assert "netferry[gpu]" in (error.value.hint or "")


def test_both_wheels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-1.31.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    error = devices.diagnose(devices.runtime(), "cuda", None)
    assert "over one another" in str(error)
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in (error.hint or "")


def test_auto_and_the_list_of_devices_agree() -> None:
    names = [d.name for d in devices.devices()]
    assert "cpu" in names
    assert ("cuda" in names) == Session(model_bytes()).device.startswith("cuda")
    assert devices.works(devices.runtime(), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not devices.works(devices.runtime(), "cuda"), reason="no CUDA device works here")
def test_cuda_is_used_and_agrees() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    session = Session(model_bytes(), "cuda")
    assert session.provider == "CUDAExecutionProvider"
    np.testing.assert_allclose(session.run({**GOOD, "x": x})["y"], np.maximum(x, 0), atol=1e-6)


def test_shared_by_threads() -> None:
    session = Session(model_bytes(), "cpu", threads=1)

    def job(i: int) -> bool:
        got = session.run({"x": np.full((2, 4), i - 32, np.float32), "k": np.array([i, i])})
        return bool((got["y"] == max(i - 32, 0)).all() and (got["twice"] == 2 * i).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(job, range(64)))


def test_serving_imports_nothing_heavy() -> None:
    code = (
        "import sys, netferry.runtime.predict, netferry.runtime.session as s, numpy as np\n"
        "from netferry.runtime.devices import PROBE\n"
        "assert s.Session(PROBE).run({'x': np.ones(1, np.float32)})['y'][0] == 1\n"
        "heavy = {'onnx', 'onnx_ir', 'torch', 'sympy', 'h5py', 'keras', 'tensorflow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_onnxruntime_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what a missing package looks like to import
    with pytest.raises(MissingExtra) as error:
        Session(devices.PROBE)
    assert error.value.hint == "pip install 'netferry[cpu]'"
