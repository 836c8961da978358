"""Sound networks handed over: steps of pipelines and packages carry the front end and the postprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import netferry
from fixtures import sounds
from netferry.converters.waveform import record
from netferry.errors import MalformedFile, UsageError
from netferry.runtime.session import Session
from netferry.runtime.sounds import log_mel_patches, read_sound
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.sound import RECIPES
from tests.converters.test_pca import release
from tests.converters.test_pca import written as write_pca

CLASSES = ["chirp", "noise", "tone"]
WAVEFORM = np.random.default_rng(0).uniform(-1, 1, 40_000).astype(np.float32)


def network(path: Path, size: int, labels: list[str] | None = None, heard: str | None = "vggish") -> np.ndarray:
    """Write a network of patches: the mean over their frames times a seeded matrix, which is returned."""
    kernel = np.random.default_rng(size).normal(0, 0.3, (64, size)).astype(np.float32)
    b = Builder("net")
    x = b.input("log_mel", ("batch", 96, 64))
    with b.layer("pool", "GlobalAveragePooling1D"):
        pooled = b.op("ReduceMean", x, b.const([1]), keepdims=0)
    with b.layer("fc", "Dense"):
        y = b.op("MatMul", pooled, b.param("kernel", kernel))
    b.output(y, "embedding")
    b.finish()
    model = Model(ir.Model(b.graph, ir_version=CANONICAL_IR), source=Source("onnx"))
    if labels is not None:
        model.labels = {"embedding": labels}
    if heard is not None:
        record(model, "log_mel", RECIPES[heard])
    netferry.save(model, path, check="structure")
    return kernel


def step(folder: Path, text: str) -> dict[str, Any]:
    (folder / "step.yaml").write_text("netferry: 1\n" + text)
    return netferry.run(folder / "step.yaml")


def outputs(file: Path) -> np.ndarray:
    return next(iter(Session(file, "cpu").run({"waveform": WAVEFORM}).values()))


def wanted(kernel: np.ndarray, recipe: str) -> np.ndarray:
    """Embeddings of the waveform's patches, in NumPy."""
    return log_mel_patches(WAVEFORM, RECIPES[recipe]).mean(1) @ kernel


def test_a_step_puts_front_end_and_postprocessing_in(tmp_path: Path) -> None:
    kernel = network(tmp_path / "net.onnx", 128, heard=None)
    vectors, means = write_pca(tmp_path / "pca.npz")
    report = step(
        tmp_path,
        "source: {file: net.onnx, postprocess: pca.npz}\noptions: {front_end: vggish}\n"
        "outputs: {model: served.onnx}\npackage: {to: triton, out: triton, name: ears}\n",
    )
    assert report["status"] == "done"
    embedding = wanted(kernel, "vggish")
    for file in (tmp_path / "served.onnx", tmp_path / "triton" / "ears" / "1" / "model.onnx"):
        got = outputs(file)
        assert got.shape == (2, 128)
        assert got.dtype == np.uint8
        assert np.abs(got.astype(int) - release(embedding.astype(np.float64), vectors, means)).max() <= 1
    config = (tmp_path / "triton" / "ears" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in config  # samples are no batch
    assert "dims: [ -1 ]" in config
    assert "dims: [ -1, 128 ]" in config
    assert "dynamic_batching" not in config


def test_a_step_measures_sounds(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    network(tmp_path / "net.onnx", 3, CLASSES)
    sounds.write(tmp_path / "sounds", 2)
    text = (
        "source: net.onnx\noptions: {front_end: yamnet}\noutputs: {model: served.onnx}\n"
        "checks: {accuracy: {data: sounds, at_least: 0.0}}\n"
    )
    report = step(tmp_path, text)
    assert report["accuracy"]["items"] == 6
    answers = netferry.predict(tmp_path / "served.onnx", tmp_path / "sounds", top=1)["predictions"]
    right = [row["top"][0]["label"] == Path(row["item"]).parent.name for row in answers]
    assert report["accuracy"]["value"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        pytest.param(
            "options: {front_end: mfcc}\noutputs: {model: a.onnx}\n", MalformedFile, "front_end", id="unknown",
        ),
        pytest.param(
            "options: {front_end: yamnet}\nchecks: {verify: true}\noutputs: {model: a.onnx}\n",
            UsageError, "front end or postprocessing", id="verified",
        ),
        pytest.param(
            "package: {to: triton, out: t, preprocessing: ensemble}\n", UsageError, "not sounds", id="ensemble",
        ),
        pytest.param(
            "options: {front_end: yamnet}\npackage: {to: dir, out: d, preprocessing: embed}\n",
            UsageError, "takes a waveform already", id="twice",
        ),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    network(tmp_path / "net.onnx", 3, CLASSES)
    with pytest.raises(error, match=message):
        step(tmp_path, "source: net.onnx\n" + text)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "step.yaml"]


@pytest.mark.parametrize("heard", RECIPES)
def test_a_package_says_what_it_hears(tmp_path: Path, heard: str) -> None:
    kernel = network(tmp_path / "net.onnx", 3, CLASSES, heard)
    for preprocessing, takes, name in (("auto", "log-mel patches", "log_mel"), ("embed", "waveform", "waveform")):
        folder = tmp_path / preprocessing
        for to in ("dir", "mlflow", "huggingface", "triton"):
            done = netferry.package(
                tmp_path / "net.onnx", folder / to, to=to, name="n", preprocessing=preprocessing, check="structure"
            )
            assert ("callers send log-mel patches" in str(done["notes"])) == (
                to == "triton" and preprocessing == "auto"
            )
        facts = {name: {"takes": takes, **RECIPES[heard].as_dict()}}
        assert json.loads((folder / "dir" / "sound.json").read_text()) == facts
        assert yaml.safe_load((folder / "mlflow" / "MLmodel").read_text())["metadata"]["netferry"]["sound"] == facts
        config = json.loads((folder / "huggingface" / "config.json").read_text())
        assert (config["sampling_rate"], config["id2label"]["2"]) == (16_000, "tone")
        card = (folder / "huggingface" / "README.md").read_text()
        assert "pipeline_tag: audio-classification" in card
        assert "16000 Hz" in card
        assert (folder / "huggingface" / "preprocessor_config.json").exists() == (preprocessing == "embed")
        batch = 32 if preprocessing == "auto" else 0
        assert f"max_batch_size: {batch}\n" in (folder / "triton" / "n" / "config.pbtxt").read_text()
    got = outputs(tmp_path / "embed" / "dir" / "model.onnx")
    np.testing.assert_allclose(got, wanted(kernel, heard), rtol=0, atol=1e-4)


def test_an_embedding_is_no_answer(tmp_path: Path) -> None:
    network(tmp_path / "net.onnx", 128)
    write_pca(tmp_path / "pca.npz")
    netferry.convert(tmp_path / "net.onnx", tmp_path / "v.onnx", front_end="vggish", postprocess=tmp_path / "pca.npz")
    sounds.write(tmp_path / "s", 1)
    file = next((tmp_path / "s").rglob("*.wav"))
    with pytest.raises(UsageError, match="no classifier of sounds") as caught:
        netferry.predict(tmp_path / "v.onnx", file)
    assert "features" in str(caught.value.hint)
    netferry.features(tmp_path / "v.onnx", file, tmp_path / "f.npz", layers=["postprocess"])
    with np.load(tmp_path / "f.npz") as found:
        assert found["postprocess"].shape == (1, 128)
    assert len(read_sound(file, 16_000)) > 0


def test_the_front_end_makes_no_layer_deeper(tmp_path: Path) -> None:
    network(tmp_path / "net.onnx", 128)
    write_pca(tmp_path / "pca.npz")
    model = netferry.load(tmp_path / "net.onnx", front_end="yamnet", postprocess=tmp_path / "pca.npz")
    assert netferry.inspect(model)["totals"]["depth"] == 1


def test_numbers_of_an_embedding_are_no_classes(tmp_path: Path) -> None:
    network(tmp_path / "net.onnx", 3)
    model = netferry.load(tmp_path / "net.onnx")
    model.tasks = {"embedding": "values"}  # as the zoo's VGGish says of itself
    netferry.save(model, tmp_path / "values.onnx", check="structure")
    sounds.write(tmp_path / "s", 1)
    found = netferry.predict(tmp_path / "values.onnx", next((tmp_path / "s").rglob("*.wav")))
    named = ["value 0", "value 1", "value 2"]
    assert [answer["label"] for answer in found["predictions"][0]["top"]] == named
    assert sorted(a["label"] for a in next(iter(found["timelines"].values()))[0]["top"]) == named
