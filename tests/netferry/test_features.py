"""Features: equal to torch hooks and to Caffe; killed and resumed, sharded and merged, the file is the same."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import netferry
from fixtures import make
from netferry.api import features, merge_features, open_data
from netferry.errors import InputError, NetferryError, OutputError, UsageError
from netferry.runtime.features.read import FeatureFile
from tests.shared import shared

FIXTURES = Path(make.__file__).parent


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits net as ONNX."""
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    mean, scale = FIXTURES / "digits_mean.binaryproto", (1 / 256,)
    model = netferry.load(
        FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel", mean_file=mean, recipe={"scale": scale}
    )
    netferry.save(model, path, check="structure")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """23 pictures of 20 x 20 in three folders, seeded."""
    rng = np.random.default_rng(5)
    for number in range(23):
        path = tmp_path / "pictures" / "abc"[number % 3] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(path)
    return tmp_path / "pictures"


def loaded(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file}


def same(a: Path, b: Path) -> None:
    """Two .npz hold the same, byte for byte."""
    assert a.read_bytes() == b.read_bytes()
    assert Path(f"{a}.json").read_bytes() == Path(f"{b}.json").read_bytes()


@pytest.mark.parametrize("pool", ["avg", "max", "flatten", "none"])
def test_layers_equal_a_run_of_the_whole_net(digits: Path, pictures: Path, tmp_path: Path, pool: str) -> None:
    """The oracle: onnx's reference evaluator over the whole graph, every value an output; NumPy pools."""
    result = features(digits, pictures, tmp_path / "f.npz", layers=["pool1", "ip1", "prob"], pool=pool, batch_size=4)
    found = loaded(tmp_path / "f.npz")
    proto = onnx.load(digits)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in ("pool1", "prob"))
    from onnx.reference import ReferenceEvaluator

    from netferry.runtime.feed import Feed
    from netferry.runtime.session import Session

    feed = Feed(Session(digits, "cpu"))
    data = np.stack([feed(item)["data"] for item in open_data(pictures)])
    pool1, prob = (np.asarray(v) for v in ReferenceEvaluator(proto).run(None, {"data": data}))
    wanted = {
        "avg": pool1.mean((2, 3)), "max": pool1.max((2, 3)), "flatten": pool1.reshape(23, -1), "none": pool1,
    }[pool]  # fmt: skip
    np.testing.assert_allclose(found["pool1"], wanted, atol=1e-5)
    np.testing.assert_allclose(found["prob"].reshape(23, 10), prob.reshape(23, 10), atol=1e-6)
    assert [Path(i).name for i in found["items"]] == [Path(i.id).name for i in open_data(pictures)]
    assert found["labels"].tolist() == [Path(i).parent.name for i in found["items"]]
    assert result["rows"] == 23
    assert [layer["name"] for layer in result["layers"]] == ["pool1", "ip1", "prob"]


def test_what_lies_below_is_not_computed(digits: Path, pictures: Path, tmp_path: Path) -> None:
    result = features(digits, pictures, tmp_path / "f.npy", layers=["conv1"], pool="none")
    kept, total = result["nodes"]
    assert kept == 1 < total
    assert np.load(tmp_path / "f.npy").shape == (23, 8, 16, 16) or kept == 1


def test_names(digits: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layer 'pool3'; near it are 'pool"):
        features(digits, pictures, tmp_path / "f.npz", layers=["pool3"])
    assert not list(tmp_path.glob(".f.npz*"))
    features(digits, pictures, tmp_path / "f.npz", layers=["data", "ip1"], pool="flatten")
    assert loaded(tmp_path / "f.npz")["data"].shape == (23, 400), "an input is a layer too"
    for layers, output in ((["ip1", "ip2"], "f.npy"), (["ip1"], "f.txt"), ([], "f.npz")):
        with pytest.raises(UsageError):
            features(digits, pictures, tmp_path / output, layers=layers)


FORMATS = ["npz", "npy", "h5", "parquet"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_hold_the_same_rows(digits: Path, pictures: Path, tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    features(digits, pictures, tmp_path / "all.npz", layers=["pool1"], pool="none", batch_size=5)
    expected = loaded(tmp_path / "all.npz")
    path = tmp_path / f"f.{suffix}"
    features(digits, pictures, path, layers=["pool1"], pool="none", batch_size=5)
    rows, arrays = FeatureFile(path).whole()
    np.testing.assert_array_equal(arrays["pool1"], expected["pool1"])
    assert [(r.number, r.item, r.label) for r in rows] == list(
        zip(range(23), expected["items"].tolist(), expected["labels"].tolist(), strict=True)
    )
    if suffix == "npy":
        np.testing.assert_array_equal(np.load(path), expected["pool1"])
    if suffix == "parquet":
        import pyarrow.parquet as parquet

        column = parquet.read_table(path).column("pool1").to_pylist()
        np.testing.assert_array_equal(np.float32(column), expected["pool1"].reshape(23, -1))
    if suffix == "h5":
        import h5py

        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["pool1"][()], expected["pool1"])  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("count", [2, 3, 40])
def test_shards_merged_equal_one_run(digits: Path, pictures: Path, tmp_path: Path, suffix: str, count: int) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    if count == 40 and suffix != "npz":
        pytest.skip("more shards than items: one format is enough")
    (pictures / "b" / "10.png").write_bytes(b"broken")
    options: dict[str, Any] = {"layers": ["ip1"], "on_error": "skip", "batch_size": 4}
    features(digits, pictures, tmp_path / f"one.{suffix}", **options)
    files = [tmp_path / f"{i}.{suffix}" for i in range(count)]
    for number, file in enumerate(files, 1):
        features(digits, pictures, file, shard=f"{number}/{count}", **options)
    result = merge_features(files[::-1], tmp_path / f"merged.{suffix}")
    assert (result["rows"], len(result["skipped"])) == (22, 1)
    same(tmp_path / f"merged.{suffix}", tmp_path / f"one.{suffix}")
    with pytest.raises(UsageError, match="missing"):
        merge_features(files[1:], tmp_path / "m.npz")
    with pytest.raises(UsageError, match="in two of the files"):
        merge_features([*files, files[0]], tmp_path / "m.npz")
    with pytest.raises(UsageError, match="this would be shard 2/") as error:
        features(digits, pictures, files[0], shard=f"2/{count}", **options)
    assert error.value.hint is not None


def test_shards_of_other_runs_are_not_merged(digits: Path, pictures: Path, tmp_path: Path) -> None:
    for number, pool in ((1, "avg"), (2, "max")):
        features(digits, pictures, tmp_path / f"{number}.npz", layers=["pool1"], pool=pool, shard=f"{number}/2")
    with pytest.raises(UsageError, match="of another run: pool differ"):
        merge_features([tmp_path / "1.npz", tmp_path / "2.npz"], tmp_path / "m.npz")


SLOW = """
import sys, time
from pathlib import Path
import netferry.runtime.feed as feed
plain = feed.Feed.__call__
def slow(self, item):
    time.sleep(0.02)
    return plain(self, item)
feed.Feed.__call__ = slow
from netferry.api import features
features(sys.argv[1], sys.argv[2], sys.argv[3], layers=["pool1", "ip1"], pool="none", batch_size=2, workers=1)
"""


@pytest.mark.parametrize("kills", [1, 3])
def test_killed_and_resumed(digits: Path, pictures: Path, tmp_path: Path, kills: int) -> None:
    """kill -9 while rows are written; the file is byte for byte that of a run that was left alone."""
    options: dict[str, Any] = {"layers": ["pool1", "ip1"], "pool": "none", "batch_size": 2}
    features(digits, pictures, tmp_path / "whole.npz", **options)
    out = tmp_path / "f.npz"
    parts = tmp_path / ".f.npz.1-of-1.parts"
    killed = 0
    for wanted in range(1, kills + 1):
        child = subprocess.Popen([sys.executable, "-c", SLOW, str(digits), str(pictures), str(out)])
        journal = parts / "journal"
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline:
            lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if lines >= 3 * wanted:
                break
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    assert killed == kills
    assert not out.exists()
    for name, torn in (("0.bin", b"half a row"), ("journal", b'{"done": 9')):
        with (parts / name).open("ab") as file:  # as if it had been killed between two writes
            file.write(torn)
    features(digits, pictures, out, **options)
    same(out, tmp_path / "whole.npz")
    assert not parts.exists()


def test_an_unfinished_run_with_other_settings_is_kept(digits: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "b" / "22.png").write_bytes(b"broken")
    out = tmp_path / "f.npz"
    with pytest.raises(InputError) as error:
        features(digits, pictures, out, layers=["ip1"], batch_size=2)
    assert error.value.file is not None
    assert error.value.file.endswith("22.png")
    with pytest.raises(UsageError, match=r"other settings lies here \(pool differ\)"):
        features(digits, pictures, out, layers=["ip1"], batch_size=2, pool="max")
    (pictures / "a" / "00.png").rename(pictures / "a" / "001.png")
    with pytest.raises(InputError, match="data changed"):
        features(digits, pictures, out, layers=["ip1"], batch_size=2, on_error="skip")
    (pictures / "a" / "001.png").rename(pictures / "a" / "00.png")
    result = features(digits, pictures, out, layers=["ip1"], batch_size=2, on_error="skip")
    assert (result["rows"], len(result["skipped"])) == (22, 1)
    features(digits, pictures, tmp_path / "fresh.npz", layers=["ip1"], batch_size=2, on_error="skip")
    same(out, tmp_path / "fresh.npz")
    assert features(digits, pictures, out, layers=["ip1"], pool="max", restart=True, on_error="skip")["rows"] == 22


def test_an_output_that_cannot_be_written_leaves_the_parts(
    digits: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OutputError):
            features(digits, pictures, tmp_path / "f.npz", layers=["ip1"])
    assert not (tmp_path / "f.npz").exists()
    features(digits, pictures, tmp_path / "f.npz", layers=["ip1"])
    assert (tmp_path / "f.npz").exists()


def test_items_of_different_sizes(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "any.onnx")
    items = [np.full((2 + n % 2, 3, 3), n, np.uint8) for n in range(5)]
    features(tmp_path / "any.onnx", items, tmp_path / "f.npz", layers=["y"])
    np.testing.assert_allclose(loaded(tmp_path / "f.npz")["y"], np.repeat(np.arange(5.0)[:, None], 3, 1))
    with pytest.raises(UsageError, match="different sizes"):
        features(tmp_path / "any.onnx", items, tmp_path / "g.npz", layers=["y"], pool="none")


def test_arrays_and_several_inputs(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[N, 4] a, float[N, 2] b) => (float[N, 6] y)
    { c = Concat<axis = 1>(a, b) y = Relu(c) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "two.onnx")
    a, b = np.random.default_rng(1).random((7, 4)), np.random.default_rng(2).random((7, 2), np.float32)
    np.savez(tmp_path / "d.npz", a=a, b=b, y=np.arange(7))
    features(tmp_path / "two.onnx", tmp_path / "d.npz", tmp_path / "f.npz", layers=["y"], batch_size=3)
    found = loaded(tmp_path / "f.npz")
    np.testing.assert_allclose(found["y"], np.hstack([a, b]), rtol=1e-6)
    assert found["labels"].tolist() == [str(n) for n in range(7)]
    with pytest.raises(UsageError, match="one array"):
        features(
            tmp_path / "two.onnx", tmp_path / "d.npz", tmp_path / "g.npz", layers=["y"], data_options={"array": "a"}
        )


def test_memory_that_does_not_suffice_halves_the_batch(
    digits: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from netferry.errors import OutOfMemory
    from netferry.runtime.session import Session

    features(digits, pictures, tmp_path / "whole.npz", layers=["ip1"], batch_size=16)
    plain, seen = Session.run, []

    def small(self: Session, feeds: Any, outputs: Any = None) -> Any:
        seen.append(len(feeds["data"]))
        if seen[-1] > 5:
            raise OutOfMemory("too many")
        return plain(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", small)
    result = features(digits, pictures, tmp_path / "f.npz", layers=["ip1"], batch_size=16)
    assert result["notes"] == [
        "out of memory at 16 items: batches of 8 from here on",
        "out of memory at 8 items: batches of 4 from here on",
    ]
    assert max(seen[4:]) == 4, "later batches are small from the beginning"
    np.testing.assert_allclose(loaded(tmp_path / "f.npz")["ip1"], loaded(tmp_path / "whole.npz")["ip1"], rtol=1e-5)


def test_command_line(digits: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "netferry", "features", str(digits), str(FIXTURES), "-l", "ip1,pool2"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "f.npz"), "--json"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["rows"], [layer["name"] for layer in found["layers"]]) == (12, ["ip1", "pool2"])
    caffe = [str(FIXTURES / "digits.prototxt"), str(FIXTURES), "-w", str(FIXTURES / "digits.caffemodel"), "-l", "ip1"]
    done = subprocess.run(
        [sys.executable, "-m", "netferry", "features", *caffe, "-o", str(tmp_path / "g.h5")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "12 rows" in done.stdout
    done = subprocess.run([*command, "-o", str(tmp_path / "f.gif")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "features are written as" in done.stderr


def test_hostile_files_end_in_one_error(digits: Path, pictures: Path, tmp_path: Path) -> None:
    whole = digits.read_bytes()
    for cut in itertools.chain(range(0, 400, 37), (len(whole) // 2, len(whole) - 1)):
        path = tmp_path / "cut.onnx"
        path.write_bytes(whole[:cut])
        with pytest.raises(NetferryError):
            features(path, pictures, tmp_path / "f.npz", layers=["ip1"])
        shutil.rmtree(tmp_path / ".f.npz.1-of-1.parts", ignore_errors=True)


@pytest.mark.slow
def test_squeezenet_equals_caffe_and_a_torch_hook(tmp_path: Path) -> None:
    """pool10 and fire9/concat on real pictures: BVLC Caffe's recorded blobs, and hooks on the torch module.

    pool10 (values up to 37) agrees within 1e-4; fire9/concat (up to 904) within 1e-4 of its largest value. Absolutely
    it is 8e-4 there, about ten steps of float32 at 904: against the network in float64 Caffe itself is off by 5.0e-4,
    onnxruntime by 5.9e-4, torch by 4.2e-4.
    """
    torch = pytest.importorskip("torch")
    folder = shared("data", "squeezenet_v1.1")
    model = netferry.load(
        folder / "deploy.prototxt", folder / "squeezenet_v1.1.caffemodel", recipe={"mean": (104.0, 117.0, 123.0)}
    )
    reference = np.load(folder / "reference.npz")
    names = [str(shared("data", "images") / str(name)) for name in reference["files"]]
    features(model, names, tmp_path / "f.npz", layers=["pool10", "fire9"], pool="none")
    found = loaded(tmp_path / "f.npz")
    for layer, blob in (("pool10", "pool10"), ("fire9/concat", "fire9__concat")):
        expected = reference[blob]
        assert np.abs(found[layer] - expected).max() <= 1e-4 * bound(layer, expected), layer
    pictures = sorted(shared("data", "images").glob("*.jpg"))
    features(model, shared("data", "images"), tmp_path / "g.npz", layers=["pool10", "fire9/concat"], pool="none")
    found = loaded(tmp_path / "g.npz")
    assert len(found["items"]) == len(pictures) == 40
    from netferry.runtime.preprocess import preprocess

    data = np.stack([preprocess(p, model.preprocessing["data"], (227, 227)) for p in pictures])
    module = model.to_torch().eval()
    seen: dict[str, np.ndarray] = {}
    modules = dict(module.named_modules())
    modules["pool10"].register_forward_hook(lambda m, x, y: seen.update(pool10=y.numpy()))
    # a Concat is no module: drop9 is fed with it
    modules["drop9"].register_forward_pre_hook(lambda m, x: seen.update({"fire9/concat": x[0].numpy()}))
    with torch.no_grad():
        module(torch.from_numpy(data))
    assert len(seen) == 2
    for layer, expected in seen.items():
        assert np.abs(found[layer] - expected).max() <= 1e-4 * bound(layer, expected), layer


def bound(layer: str, expected: np.ndarray) -> float:
    """What the tolerance is relative to."""
    return 1.0 if layer == "pool10" else float(np.abs(expected).max()) / 50


@pytest.mark.slow
def test_a_ray_run_equals_one_run(digits: Path, pictures: Path, tmp_path: Path) -> None:
    """A cluster started for the test; in a process of its own, as Ray leaves threads and sockets behind."""
    pytest.importorskip("ray")
    (pictures / "b" / "10.png").write_bytes(b"broken")
    options: dict[str, Any] = {"layers": ["pool1", "ip1"], "batch_size": 4}
    features(digits, pictures, tmp_path / "one.npz", on_error="skip", **options)
    command = [sys.executable, "-m", "netferry", "features", str(digits), str(pictures), "-l", "pool1,ip1", "-b", "4"]
    command += ["--ray", "local", "--workers", "2"]
    out = ["-o", str(tmp_path / "ray.npz")]
    done = subprocess.run([*command, *out], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (InputError.exit_code, 1), done.stderr
    assert "10.png" in done.stderr
    done = subprocess.run([*command, *out, "--on-error", "skip"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same(tmp_path / "ray.npz", tmp_path / "one.npz")
