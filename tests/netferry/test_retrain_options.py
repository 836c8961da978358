"""netferry retrain: precision, compiling, loggers, several machines, unreadable pictures, the confined reader."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from netferry.errors import DeviceError, InputError, LimitExceeded, MalformedFile, MissingExtra, UsageError
from netferry.sandbox import Bounds, available
from netferry.schemas.tensors import array_of
from tests.netferry.retraining import NET, READING, ROOT, retrain

pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("lightning", reason="needs the extra 'train'")


def command(drawn: Path, target: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "netferry", "retrain", NET[0], str(drawn), "-w", NET[1], "--scale", "0.00390625",
            "--augment", "none", "--lr", "3e-3", "-o", str(target), "--json", *more]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def weights_of(path: Path) -> dict[str, np.ndarray]:
    return {n: np.asarray(array_of(v)) for n, v in netferry.load(path).parameters(None).items()}


# precision and compiling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("scaled", [False, True], ids=["bf16", "scaled"])
def test_half_precision_rounds_but_learns_the_same(
    drawn: Path, tmp_path: Path, scaled: bool, clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"train": "all", "epochs": 2, "optimizer": "sgd", "clip": clip, "keep": "last"}
    plain = retrain(drawn, tmp_path / "plain.onnx", **options)
    if scaled:  # as float16 has it on a GPU
        monkeypatch.setattr("netferry.runtime.training.fit.trainer_of", _scaling_trainer)
    half = retrain(drawn, tmp_path / "half.onnx", precision="bf16", **options)
    losses = [_validation_losses(Path(r["run"])) for r in (plain, half)]
    assert losses[0] != losses[1], "computed as before"
    assert losses[1] == pytest.approx(losses[0], abs=0.01), "by the weights after the step"
    start = {n: np.asarray(array_of(v)) for n, v in netferry.load(*NET, **READING).parameters(None).items()}
    first, second = weights_of(tmp_path / "plain.onnx"), weights_of(tmp_path / "half.onnx")
    for name in ("conv1.weight", "ip1.weight"):  # a clipped step is short: float16's scaled gradients would make it so
        step, other = np.abs(first[name] - start[name]).max(), np.abs(second[name] - start[name]).max()
        assert other == pytest.approx(step, rel=0.1), name
        assert second[name].dtype == np.float32


def _validation_losses(run: Path) -> list[float]:
    with (run / "history.csv").open() as file:
        return [float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]


def _scaling_trainer(_options: Any) -> Any:
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Scaled(MixedPrecision):
        def autocast_context_manager(self) -> Any:
            return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)

    plugin = Scaled("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    return pl.Trainer(accelerator="cpu", devices=1, plugins=[plugin], max_epochs=1, logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                      num_sanity_val_steps=0, use_distributed_sampler=False, inference_mode=False)  # fmt: skip


def test_float16_needs_a_gpu(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="16"):
        retrain(drawn, tmp_path / "mine.onnx", precision="16", device="cpu")
    assert not (tmp_path / "mine.onnx").exists()


def test_amp_is_bf16(drawn: Path, tmp_path: Path) -> None:
    done = subprocess.run(command(drawn, tmp_path / "mine.onnx", "--amp", "-e", "1"), env=environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["options"]["precision"] == "bf16"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own import
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile builds C++ for the processor")
def test_compiled_is_the_same(drawn: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"train": "all", "epochs": 2, "optimizer": "sgd"}
    retrain(drawn, tmp_path / "plain.onnx", **options)
    retrain(drawn, tmp_path / "compiled.onnx", compile=True, **options)
    first, second = weights_of(tmp_path / "plain.onnx"), weights_of(tmp_path / "compiled.onnx")
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=0, atol=1e-5, err_msg=name)


# loggers ---------------------------------------------------------------------------------------------------------


def test_tensorboard_gets_the_rows_of_the_history(drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra 'log'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    retrain(drawn, tmp_path / "mine.onnx", loggers=("tensorboard",))
    (events,) = (tmp_path / "mine-run" / "tensorboard").rglob("events.out.*")
    read = EventAccumulator(str(events)).Reload()
    rows = (tmp_path / "mine-run" / "history.csv").read_text().splitlines()
    names = rows[0].split(",")
    table = [dict(zip(names, r.split(","), strict=True)) for r in rows[1:]]
    for name in ("training_loss", "validation_loss", "learning_rate"):
        found = [(e.step, e.value) for e in read.Scalars(name)]
        expected = [(int(r["iteration"]), float(r[name])) for r in table if r[name]]
        assert found == [(i, pytest.approx(v, rel=1e-6)) for i, v in expected], name


def test_a_logger_that_is_not_there(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning.pytorch.loggers as loggers

    def missing(**_: Any) -> None:
        raise ModuleNotFoundError("no wandb")

    monkeypatch.setattr(loggers, "WandbLogger", missing)
    with pytest.raises(MissingExtra, match="wandb") as told:
        retrain(drawn, tmp_path / "mine.onnx", loggers=("wandb",))
    assert told.value.hint == "pip install wandb"
    assert not (tmp_path / "mine.onnx").exists()


def test_a_logger_that_cannot_start(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning.pytorch.loggers as loggers

    def refused(**options: Any) -> None:
        raise RuntimeError(f"nobody listens at {options['tracking_uri']}")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:9")
    monkeypatch.setattr(loggers, "MLFlowLogger", refused)
    with pytest.raises(UsageError, match="the logger mlflow cannot start: nobody listens at http://localhost:9"):
        retrain(drawn, tmp_path / "mine.onnx", loggers=("mlflow",))
    assert not (tmp_path / "mine.onnx").exists()


def test_a_logger_that_fails_on_the_way_is_left_out(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning.pytorch.loggers as loggers

    class Fading:
        def __init__(self, **options: Any) -> None:
            self.seen = 0
            assert options["tracking_uri"] == f"sqlite:///{tmp_path / 'mine-run' / 'mlflow' / 'mlflow.db'}"

        def log_hyperparams(self, _: Any) -> None: ...

        def log_metrics(self, _: Any, step: int) -> None:
            self.seen += 1
            if self.seen > 3:
                raise ConnectionError(f"gone at {step}")

        def finalize(self, _: str) -> None:
            raise AssertionError("it is not asked any more")

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(loggers, "MLFlowLogger", Fading)
    report = retrain(drawn, tmp_path / "mine.onnx", loggers=("mlflow",))
    assert report["training"]["iterations"] == 9
    assert report["notes"] == ["the logger mlflow failed at iteration 4 and was left out from there on: gone at 4"]


def test_no_such_logger(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tensorboard, mlflow, wandb"):
        retrain(drawn, tmp_path / "mine.onnx", loggers=("paper",))


# several machines ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_machines(drawn: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = subprocess.run(command(drawn, tmp_path / "one.onnx", "--train", "all", "-e", "4"), env=environment(),
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert one.returncode == 0, one.stderr
    meeting = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            command(drawn, tmp_path / "two.onnx", "--train", "all", "-e", "4", "--nodes", "2", "--device", "cpu"),
            env=environment(PET_NODE_RANK=str(rank), **meeting), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [process.communicate(timeout=240) for process in started]
    assert [p.returncode for p in started] == [0, 0], said
    report = json.loads(said[0][0])
    assert not said[1][0], "the second machine tells nothing"
    assert report["training"]["iterations"] == json.loads(one.stdout)["training"]["iterations"]
    first, second = weights_of(tmp_path / "one.onnx"), weights_of(tmp_path / "two.onnx")
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=0, atol=2e-3, err_msg=name)


# pictures that cannot be read ------------------------------------------------------------------------------------


@pytest.fixture
def damaged(drawn: Path, tmp_path: Path) -> Path:
    """The shapes, the first star's second half cut off."""
    folder = tmp_path / "damaged"
    shutil.copytree(drawn, folder)
    victim = sorted((folder / "star").glob("*.png"))[0]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    return folder


def test_unreadable_pictures_are_skipped_and_listed(damaged: Path, tmp_path: Path) -> None:
    report = retrain(damaged, tmp_path / "mine.onnx", on_error="skip", epochs=1)
    assert [Path(r["file"]).name for r in report["data"]["skipped"]] == ["star_00.png"]
    assert "cannot be read" in report["data"]["skipped"][0]["reason"]
    split = report["data"]["split"]
    assert sum(part["star"] for part in split.values()) == 19
    assert "star_00.png" in (tmp_path / "mine-run" / "report.html").read_text()


def test_unreadable_pictures_end_it_by_default(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read") as told:
        retrain(damaged, tmp_path / "mine.onnx", epochs=1)
    assert Path(str(told.value.file)).name == "star_00.png"
    assert not (tmp_path / "mine.onnx").exists()


def test_one_in_the_test_set_ends_it_before_training(damaged: Path, tmp_path: Path) -> None:
    sets = netferry.ImageFolder(damaged).split(seed=0)
    victim = next(p for p in sets[2].files if "circle" in p.name)
    victim.write_bytes(b"no picture")
    healthy = next(p for p in sets[0].files if "star_01" in p.name or "star_02" in p.name)
    (damaged / "star" / "star_00.png").write_bytes(healthy.read_bytes())
    with pytest.raises(InputError, match="cannot be read"):
        retrain(damaged, tmp_path / "mine.onnx", epochs=1)
    assert not (tmp_path / "mine-run").exists(), "training had begun"


def test_a_class_without_readable_pictures(damaged: Path, tmp_path: Path) -> None:
    for path in (damaged / "star").glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="no file of class 'star' can be read"):
        retrain(damaged, tmp_path / "mine.onnx", on_error="skip")


def test_on_error_is_fail_or_skip(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fail or skip"):
        retrain(drawn, tmp_path / "mine.onnx", on_error="guess")


# the network is read in a child ----------------------------------------------------------------------------------

PLUGIN = """
import os, signal
from netferry.converters.caffe.registry import layer

@layer("Evil")
def evil(b, l, x):
    \"\"\"What a hole in a native library could do.\"\"\"
    os.kill(os.getpid(), signal.SIGSEGV)
    return b.op("Relu", x)
"""


@pytest.mark.skipif(not available(), reason="processes cannot be forked here")
def test_a_crash_while_reading_is_a_typed_error(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(
        'input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8 '
        'layer { name: "x" type: "Evil" bottom: "data" top: "out" }'
    )
    (tmp_path / "plugin.py").write_text(PLUGIN)
    words = [sys.executable, "-m", "netferry", "retrain", str(tmp_path / "net.prototxt"), str(drawn), "-o",
             str(tmp_path / "mine.onnx"), "--plugin", str(tmp_path / "plugin.py"), "--json"]  # fmt: skip
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == MalformedFile.exit_code, done.stderr
    assert json.loads(done.stdout)["error"] == "MalformedFile"
    assert "SIGSEGV" in done.stderr
    assert not (tmp_path / "mine.onnx").exists()


@pytest.mark.skipif(not available(), reason="processes cannot be forked here")
def test_read_in_a_child_it_trains_to_the_same(drawn: Path, tmp_path: Path) -> None:
    report = retrain(drawn, tmp_path / "here.onnx", epochs=1, train="all")
    apart = retrain(drawn, tmp_path / "apart.onnx", epochs=1, train="all", sandbox=True)
    assert apart["model"] == report["model"]
    assert apart["notes"] == report["notes"]
    assert [r["layer"] for r in apart["learning"]] == [r["layer"] for r in report["learning"]]
    first, second = weights_of(tmp_path / "here.onnx"), weights_of(tmp_path / "apart.onnx")
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.skipif(not available(), reason="processes cannot be forked here")
def test_the_childs_limits(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN.replace("os.kill(os.getpid(), signal.SIGSEGV)", "bytearray(3 << 30)"))
    (tmp_path / "net.prototxt").write_text(
        'input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8 '
        'layer { name: "x" type: "Evil" bottom: "data" top: "out" }'
    )
    with pytest.raises(LimitExceeded, match="memory"):
        netferry.load(tmp_path / "net.prototxt", plugins=[tmp_path / "plugin.py"], sandbox=Bounds(memory=2))


def test_the_page_is_as_wide_as_the_window(drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="needs the extra 'browser'")
    from tests.netferry.browser import CHROMIUM, chromium

    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    retrain(drawn, tmp_path / "mine.onnx", epochs=1)  # the mean image is 400 values, once shown as one long word
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto((tmp_path / "mine-run" / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200
