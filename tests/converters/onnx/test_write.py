"""The writer: all or nothing, same bytes, what it refuses, where the weights go."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from netferry.converters.onnx import stream
from netferry.converters.onnx.check import REASON
from netferry.errors import (
    CheckFailed,
    MalformedFile,
    NetferryError,
    OutputError,
    Uninitialised,
    UnsupportedLayer,
    UsageError,
)
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import PLACEHOLDER_DOMAIN, Model, Source
from netferry.schemas.tensors import computed_tensor, file_tensor, uninitialised_tensor
from tests.converters.onnx import models
from tests.converters.onnx.models import load, save, stored


def built(make: Callable[[Builder, ir.Value], ir.Value], *files: Path) -> Model:
    b = Builder("net")
    x = b.input("x", ["batch", 32])
    b.output(make(b, x), "y")
    b.finish()
    return Model(ir.Model(b.graph, ir_version=10), source=Source("caffe", tuple(str(f) for f in files)))


def product(b: Builder, x: ir.Value, tensor: ir.TensorProtocol | np.ndarray) -> ir.Value:
    with b.layer("fc", "InnerProduct"):
        return b.op("MatMul", x, b.param("weight", tensor))


def in_file(folder: Path, *, seed: int = 0, width: int = 32) -> tuple[Model, Path]:
    """A model with weights (4 KB) at an odd offset of another file."""
    source = folder / "weights.bin"
    source.write_bytes(b"\0" * 13 + models.weights(32, width, seed=seed).tobytes() + b"end")
    tensor = file_tensor(source, 13, ir.DataType.FLOAT, (32, width))
    return built(lambda b, x: product(b, x, tensor), source), source


@pytest.mark.parametrize("way", ["copy_file_range", "sendfile", "read-write"])
@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
def test_weights_of_another_file_are_copied(
    way: str, external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(18, "cross-device")

    if way != "copy_file_range":
        monkeypatch.setattr(stream, "_copy_range", refuse)
    if way == "read-write":
        monkeypatch.setattr(stream, "_send", refuse)
    model, _ = in_file(tmp_path, width=4096)  # half a megabyte: less is read and collected
    save(model, tmp_path / "net.onnx", external=external)
    x = models.weights(3, 32, seed=1)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ models.weights(32, 4096), rtol=1e-4, atol=1e-5)


def test_computed_weights_are_asked_for_once_and_one_at_a_time(tmp_path: Path) -> None:
    asked: list[int] = []

    def make(b: Builder, x: ir.Value) -> ir.Value:
        for i in range(3):

            def compute(i: int = i) -> np.ndarray:
                asked.append(i)
                return models.weights(32, 32, seed=i).T

            x = product(b, x, computed_tensor(compute, ir.DataType.FLOAT, (32, 32)))
        return x

    save(built(make), tmp_path / "net.onnx")
    assert asked == [0, 1, 2]
    arrays = [onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "net.onnx").graph.initializer]
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(array, models.weights(32, 32, seed=i).T)


def test_data_file_is_aligned_and_small_tensors_stay_inside(tmp_path: Path) -> None:
    model = load(stored(tmp_path / "source.onnx", models.linear()))
    result: Any = save(model, tmp_path / "net.onnx", external=True)
    proto = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    inside = {t.name: t.data_location == onnx.TensorProto.DEFAULT for t in proto.graph.initializer}
    assert inside == {"w": False, "b": True}
    entries = {e.key: e.value for e in proto.graph.initializer[0].external_data}
    assert entries == {"location": "net.onnx.data", "offset": "0", "length": "4096"}
    assert [Path(o["file"]).name for o in result["outputs"]] == ["net.onnx", "net.onnx.data"]


def test_offsets_are_multiples_of_a_page(tmp_path: Path) -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        for n in (33, 70, 32):
            x = product(b, x, models.weights(int(str(x.shape[1])) if x.shape is not None else 0, n))
        return x

    save(built(make), tmp_path / "net.onnx", external=True)
    proto = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    offsets = [int(e.value) for t in proto.graph.initializer for e in t.external_data if e.key == "offset"]
    assert len(offsets) == 3
    assert all(o % 4096 == 0 for o in offsets)


def test_a_large_model_goes_outside_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netferry.converters.onnx import write

    monkeypatch.setattr(write, "EXTERNAL_ABOVE", 4000)
    save(in_file(tmp_path)[0], tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx.data").stat().st_size == 4096


def test_what_protobuf_cannot_read_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    with source.open("wb") as file:
        file.truncate(1 << 31)  # a hole
    tensor = file_tensor(source, 0, ir.DataType.FLOAT, (32, 1 << 24))
    with pytest.raises(OutputError, match="protobuf reads"):
        save(built(lambda b, x: product(b, x, tensor), source), tmp_path / "net.onnx", external=False)


def test_an_older_output_keeps_its_weights_until_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out" / "net.onnx"
    save(in_file(tmp_path)[0], target, external=True)
    old = target.with_name("net.onnx.data").read_bytes()
    model, _ = in_file(tmp_path, seed=1)
    save(model, target, external=True)
    assert target.with_name("net.onnx.data").read_bytes() == old
    proto = onnx.load(target)
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(proto.graph.initializer[0]), models.weights(32, 32, seed=1)
    )
    assert any("holds other weights" in note.message for note in model.notes)
    assert len(list(target.parent.iterdir())) == 3
    save(model, target, external=True)
    assert len(list(target.parent.iterdir())) == 3


def test_same_input_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.converters.onnx.models import *\n"
        "save(load(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    source = stored(tmp_path / "source.onnx", models.labelled())
    seen: set[bytes] = set()
    for i, seed in enumerate(("0", "1", "77")):
        target = tmp_path / f"folder {i}" / "net.onnx"
        env = os.environ | {"PYTHONHASHSEED": seed, "LC_ALL": "C", "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code, source, target], check=True, env=env)
        seen.add(target.read_bytes())
    assert len(seen) == 1


def test_the_graph_is_as_before(tmp_path: Path) -> None:
    model = load(stored(tmp_path / "source.onnx", models.branches()))
    before = [v.const_value for v in model.graph.initializers.values()], model.ir.ir_version
    save(model, tmp_path / "net.onnx")
    assert ([v.const_value for v in model.graph.initializers.values()], model.ir.ir_version) == before
    save(model, tmp_path / "again.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


@pytest.mark.parametrize("name", ["net", "net.onnx", "deep/er/net.onnx", "with space/é.onnx"])
def test_targets(name: str, tmp_path: Path) -> None:
    save(in_file(tmp_path)[0], tmp_path / name)
    onnx.checker.check_model(onnx.load(tmp_path / name), full_check=True)


def test_a_link_as_target_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "net.onnx")
    save(in_file(tmp_path)[0], tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "real" / "net.onnx").is_file()


# failures ------------------------------------------------------------------------------------------------------


def _refused(model: Model, target: Path, error: type[NetferryError], **options: Any) -> NetferryError:
    """The writer refuses and leaves the folder as it was."""
    before = {p: p.read_bytes() for p in target.parent.rglob("*") if p.is_file()}
    with pytest.raises(error) as caught:
        save(model, target, **options)
    assert {p: p.read_bytes() for p in target.parent.rglob("*") if p.is_file()} == before
    return caught.value


def test_folder_as_target(tmp_path: Path) -> None:
    _refused(in_file(tmp_path)[0], tmp_path, OutputError)


@pytest.mark.parametrize("kind", ["file", "link", "hard-link"])
def test_a_source_is_never_overwritten(kind: str, tmp_path: Path) -> None:
    source = stored(tmp_path / "net.onnx", models.linear())
    target = source if kind == "file" else tmp_path / "other.onnx"
    if kind == "link":
        target.symlink_to(source)
    elif kind == "hard-link":
        target.hardlink_to(source)
    _refused(load(source), target, OutputError)


def test_a_data_file_that_the_model_reads_is_never_overwritten(tmp_path: Path) -> None:
    save(in_file(tmp_path)[0], tmp_path / "a" / "net.onnx", external=True)
    model = load(tmp_path / "a" / "net.onnx")
    _refused(model, tmp_path / "a" / "net.onnx.data", OutputError)


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _refused(in_file(tmp_path)[0], tmp_path / "file" / "net.onnx", OutputError)


def test_folders_made_for_nothing_are_removed(tmp_path: Path) -> None:
    model, source = in_file(tmp_path)
    source.write_bytes(b"short")
    with pytest.raises(MalformedFile, match="shorter"):
        save(model, tmp_path / "a" / "b" / "net.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights.bin"]


@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
def test_a_source_that_shrank(external: bool, tmp_path: Path) -> None:
    model, source = in_file(tmp_path)
    source.write_bytes(source.read_bytes()[:2000])
    _refused(model, tmp_path / "net.onnx", MalformedFile, external=external)


def test_no_values(tmp_path: Path) -> None:
    _refused(built(lambda b, x: product(b, x, uninitialised_tensor((32, 8)))), tmp_path / "n.onnx", Uninitialised)


def _with_placeholder(b: Builder, x: ir.Value) -> ir.Value:
    for name in ("warp", "warp2"):
        with b.layer(name, "SpatialWarp"):
            x = b.op("SpatialWarp", x, domain=PLACEHOLDER_DOMAIN, types=[(ir.DataType.FLOAT, ["batch", 32])],
                     metadata={REASON: "custom layer"}, theta=[1.0, 2.0])  # fmt: skip
    return x


def test_placeholders_are_refused_all_at_once_or_written(tmp_path: Path) -> None:
    error = _refused(built(_with_placeholder), tmp_path / "net.onnx", UnsupportedLayer)
    assert isinstance(error, UnsupportedLayer)
    assert error.layers == [(n, "SpatialWarp", "custom layer") for n in ("warp", "warp2")]
    save(built(_with_placeholder), tmp_path / "net.onnx", allow_placeholders=True)
    again = load(tmp_path / "net.onnx")
    node = again.placeholders()[0]
    assert (node.op_type, node.metadata_props["netferry.layer"]) == ("SpatialWarp", "warp")
    assert list(node.attributes["theta"].as_floats()) == [1.0, 2.0]


def _wrong_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(models.weights(31, 32), "w"))


def _no_domain(model: onnx.ModelProto) -> None:
    model.graph.node[2].domain = "nobody.imports"


def _bad_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute.append(onnx.helper.make_attribute("alpha", 1.0))


def _twice(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


@pytest.mark.parametrize("spoil", [_wrong_shape, _no_domain, _bad_attribute, _twice])
def test_invalid_graphs_are_not_written(spoil: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    proto = models.linear()
    spoil(proto)
    target = tmp_path / "net.onnx"
    target.write_text("old")
    _refused(load(stored(tmp_path / "source.onnx", proto)), target, CheckFailed)


class _Stop(BaseException):
    """Like KeyboardInterrupt."""


@pytest.mark.parametrize(
    "error", [CheckFailed("wrong numbers"), _Stop(), KeyboardInterrupt()], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
def test_a_failing_check_leaves_the_old_output(error: BaseException, external: bool, tmp_path: Path) -> None:
    def check(path: Path) -> dict[str, Any]:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        raise error

    target = tmp_path / "out" / "net.onnx"
    save(in_file(tmp_path)[0], target, external=external)
    before = {p.name: p.read_bytes() for p in target.parent.iterdir()}
    with pytest.raises(type(error)):
        save(in_file(tmp_path, seed=5)[0], target, external=external, run_check=check)
    assert {p.name: p.read_bytes() for p in target.parent.iterdir()} == before


def test_the_check_gets_a_file_that_runs_and_its_result_is_kept(tmp_path: Path) -> None:
    def check(path: Path) -> dict[str, Any]:
        assert path.parent == tmp_path
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return {"outputs": [o.name for o in session.get_outputs()]}

    result: Any = save(in_file(tmp_path)[0], tmp_path / "net.onnx", run_check=check)
    assert [c["outcome"] for c in result["checks"]] == ["passed", "passed"]
    assert result["checks"][1]["detail"] == {"outputs": ["y"]}
    assert set(result["timings"]) == {"structure", "write", "run_check"}


@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
def test_every_write_may_fail(external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th call that writes fails with ENOSPC, for all n: one typed error and nothing left."""
    model, _ = in_file(tmp_path)
    real: dict[str, Callable[..., Any]] = {n: getattr(os, n) for n in ("write", "copy_file_range", "fsync", "replace")}
    calls = 0
    for nth in range(1, 50):
        calls = 0

        def failing(function: Callable[..., Any], nth: int = nth) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == nth:
                    raise OSError(28, "No space left on device")
                return function(*args, **kwargs)

            return wrapped

        with monkeypatch.context() as patch:
            for name, function in real.items():
                patch.setattr(os, name, failing(function))
            try:
                save(model, tmp_path / "out" / "net.onnx", external=external)
            except OutputError as error:
                assert "No space" in str(error)
                assert not (tmp_path / "out").exists()
        if calls < nth:
            break
        if (tmp_path / "out").exists():  # only the folder's own fsync may fail in silence
            for file in (tmp_path / "out").iterdir():
                file.unlink()
            (tmp_path / "out").rmdir()
    assert 4 < nth < 49


def test_file_size_limit(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    model, _ = in_file(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OutputError):
            save(model, tmp_path / "net.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights.bin"]


# versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: models.linear(10, 21), 10, id="opset21"),
        pytest.param(lambda: models.linear(13, 21), 10, id="lowered-to-what-is-needed"),
        pytest.param(lambda: models.linear(8, 17), 8, id="opset17"),
        pytest.param(lambda: models.linear(10, 11), 6, id="opset11"),
        pytest.param(lambda: models.linear(12, 24), 12, id="opset24"),
        pytest.param(models.types, 13, id="int2"),
        pytest.param(models.ALL["ir3"], 3, id="initializers-are-inputs"),
        pytest.param(lambda: models.linear(8, 8), 4, id="initializers-are-no-inputs"),
    ],
)
def test_lowest_ir_version(make: Callable[[], onnx.ModelProto], expected: int, tmp_path: Path) -> None:
    result: Any = save(load(stored(tmp_path / "source.onnx", make())), tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx").ir_version == expected == result["ir_version"]


def test_asked_for_ir_version(tmp_path: Path) -> None:
    model = load(stored(tmp_path / "source.onnx", models.linear(8, 17)))
    save(model, tmp_path / "net.onnx", ir_version=13)
    assert onnx.load(tmp_path / "net.onnx").ir_version == 13
    _refused(model, tmp_path / "low.onnx", UsageError, ir_version=7)
    _refused(model, tmp_path / "high.onnx", UsageError, ir_version=99)


def test_metadata_of_nodes_raises_the_ir_version(tmp_path: Path) -> None:
    proto = models.linear(8, 17)
    proto.graph.node[0].metadata_props.add(key="theirs", value="kept")
    save(load(stored(tmp_path / "source.onnx", proto)), tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx").ir_version == 10
