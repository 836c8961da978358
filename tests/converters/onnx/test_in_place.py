"""Large models are run while they are being copied; what was written is then compared with what was run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netferry.converters.onnx import write
from netferry.converters.onnx.in_place import in_place
from netferry.converters.onnx.structure import structure_of
from netferry.converters.onnx.write import _Job
from netferry.errors import CheckFailed
from netferry.runtime.session import Session
from netferry.runtime.verify import run_check
from netferry.schemas.ir import ir
from netferry.schemas.tensors import computed_tensor, file_tensor
from tests.converters.onnx.models import save, weights
from tests.converters.onnx.test_write import built, in_file, product


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_LARGE", 1)


def test_the_model_runs_where_its_weights_lie(tmp_path: Path) -> None:
    model, source = in_file(tmp_path)
    here = in_place(structure_of(model, ir_version=10, producer_version="0"))
    assert here is not None
    assert (here.folder, list(here.files)) == (tmp_path, [source])
    x = weights(3, 32, seed=1)
    y = Session(here.structure, "cpu", weights_folder=here.folder).run({"x": x})["y"]
    np.testing.assert_allclose(y, x @ weights(32, 32), rtol=1e-5, atol=1e-5)


def test_run_once_at_each_batch_with_the_weights_in_the_source(tmp_path: Path) -> None:
    seen: list[Any] = []

    def check(structure: bytes, *, weights_folder: Path) -> dict[str, Any]:
        (tensor,) = onnx.ModelProto.FromString(structure).graph.initializer
        seen.append((weights_folder, {e.key: e.value for e in tensor.external_data}))
        return run_check(structure, weights_folder=weights_folder)

    (tmp_path / "out").mkdir()
    result: Any = save(in_file(tmp_path)[0], tmp_path / "out" / "net.onnx", run_check=check)
    assert seen == [(tmp_path, {"location": "weights.bin", "offset": "13", "length": "4096"})]
    assert [run["batch"] for run in result["checks"][1]["detail"]["runs"]] == [1, 3]


def test_a_gate_gets_what_was_written(tmp_path: Path) -> None:
    def gate(structure: bytes, *, weights_folder: Path) -> None:
        assert weights_folder == tmp_path / "out"
        x = weights(3, 32, seed=1)
        y = Session(structure, "cpu", weights_folder=weights_folder).run({"x": x})["y"]
        np.testing.assert_allclose(y, x @ weights(32, 32), rtol=1e-5, atol=1e-5)
        raise CheckFailed("seen")

    with pytest.raises(CheckFailed, match="seen"):
        save(in_file(tmp_path)[0], tmp_path / "out" / "net.onnx", run_check=run_check, gate=gate)
    assert not (tmp_path / "out").exists()


def _computed(folder: Path) -> Any:
    return computed_tensor(lambda: weights(32, 32), ir.DataType.FLOAT, (32, 32))


def _elsewhere(folder: Path) -> Any:
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(weights(32, 32).tobytes())
    return file_tensor(folder / "sub" / "w.bin", 0, ir.DataType.FLOAT, (32, 32))


@pytest.mark.parametrize(
    ("second", "others", "possible"),
    [
        pytest.param(_computed, 1 << 20, True, id="small-computed"),
        pytest.param(_computed, 100, False, id="large-computed"),
        pytest.param(_elsewhere, 1 << 20, False, id="two-folders"),
    ],
)
def test_which_models_run_in_place(
    second: Callable[[Path], Any], others: int, possible: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netferry.converters.onnx.in_place._OTHERS", others)
    first = tmp_path / "w.bin"
    first.write_bytes(weights(32, 32).tobytes())
    tensors = [file_tensor(first, 0, ir.DataType.FLOAT, (32, 32)), second(tmp_path)]
    model = built(lambda b, x: product(b, product(b, x, tensors[0]), tensors[1]), first)
    assert (in_place(structure_of(model, ir_version=10, producer_version="0")) is not None) == possible
    save(model, tmp_path / "net.onnx", run_check=run_check)
    x = weights(3, 32, seed=1)
    y = Session(tmp_path / "net.onnx", "cpu").run({"x": x})["y"]
    np.testing.assert_allclose(y, x @ weights(32, 32) @ weights(32, 32), rtol=1e-4, atol=1e-4)


def _flip(file: Path, at: int) -> None:
    """Change one bit where it lies: onnxruntime may have mapped the file, and a shorter one would end the process."""
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("place", ["first-byte", "last-byte", "name", "source"])
def test_what_differs_from_what_was_run_is_not_published(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, source = in_file(tmp_path)
    data = weights(32, 32).tobytes()
    honest = _Job._write_model

    def spoiled(job: _Job, proto: onnx.ModelProto) -> Path:
        file = honest(job, proto)
        start = file.read_bytes().index(data)
        if place == "source":
            _flip(source, 13 + 2048)
        else:
            _flip(
                file,
                {"first-byte": start, "last-byte": start + 4095, "name": file.read_bytes().index(b"MatMul")}[place],
            )
        return file

    monkeypatch.setattr(_Job, "_write_model", spoiled)
    with pytest.raises(CheckFailed, match="what was written is not what was checked"):
        save(model, tmp_path / "out" / "net.onnx", run_check=run_check)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("also_written", [False, True])
def test_what_fails_in_place_is_judged_by_the_file(also_written: bool, tmp_path: Path) -> None:
    target = tmp_path / "out" / "net.onnx"

    def check(structure: bytes, *, weights_folder: Path) -> dict[str, Any]:
        if weights_folder == tmp_path or also_written:
            raise CheckFailed("wrong numbers")
        return {"fine": True}

    if not also_written:
        result: Any = save(in_file(tmp_path)[0], target, run_check=check)
        assert result["checks"][1]["detail"] == {"fine": True}
        return
    with pytest.raises(CheckFailed, match="wrong numbers") as caught:
        save(in_file(tmp_path)[0], target, run_check=check)
    assert caught.value.file == str(target)
    assert not target.parent.exists()
