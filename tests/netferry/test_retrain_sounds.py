"""netferry retrain on folders of sounds: with the front end in the graph and without, augmented, tested by sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from netferry.converters.waveform import add_front_end, record, remove_front_end
from netferry.errors import InputError, UsageError
from netferry.runtime.session import Session
from netferry.runtime.sounds import read_sound, run_sound
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.sound import RECIPES, SOUND_KEY, recipes_of

pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("lightning", reason="needs the extra 'train'")
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")
from netferry.runtime.training.sounds import SoundAugment, parse_sound_augment, segment  # noqa: E402

RATE, PITCHES = 16_000, {"high": 5000, "low": 300, "middle": 1500}


def network(channel: bool = False) -> Model:
    """Mean over time, two layers, softmax: enough to hear a pitch."""
    rng = np.random.default_rng(0)
    b = Builder("pitch")
    x = b.input("patches", ("n", 1, 96, 64) if channel else ("n", 96, 64))
    with b.layer("mean", "Mean"):
        y = b.reshape(b.op("ReduceMean", x, b.const([2 if channel else 1]), keepdims=0), [-1, 64])
    with b.layer("fc1", "Dense"):
        weight = b.param("weight", ir.tensor(rng.normal(0, 0.1, (16, 64)).astype(np.float32)))
        y = b.op("Relu", b.op("Gemm", y, weight, b.param("bias", ir.tensor(np.zeros(16, np.float32))), transB=1))
    with b.layer("fc2", "Dense"):
        weight = b.param("weight", ir.tensor(rng.normal(0, 0.1, (5, 16)).astype(np.float32)))
        y = b.op("Gemm", y, weight, b.param("bias", ir.tensor(np.zeros(5, np.float32))), transB=1)
    with b.layer("prob", "Softmax"):
        y = b.op("Softmax", y, axis=-1)
    b.output(y, "scores")
    b.finish()
    return Model(ir.Model(b.graph, ir_version=CANONICAL_IR), source=Source("onnx"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten tones of each of three pitches, of unequal lengths and rates."""
    root = tmp_path_factory.mktemp("sounds")
    for name, hertz in PITCHES.items():
        (root / name).mkdir()
        for n in range(10):
            rng = np.random.default_rng([hertz, n])
            rate = (16_000, 44_100)[n % 2]
            t = np.arange(round(rate * rng.uniform(0.5, 3.0))) / rate
            tone = rng.uniform(0.1, 0.9) * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * t)
            soundfile.write(root / name / f"{n}.{('wav', 'flac')[n % 2]}", tone, rate)
    return root


OPTIONS: dict[str, Any] = {"train": "all", "epochs": 15, "learning_rate": 1e-2}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channel", [False, True], ids=["patches", "channel"])
def test_with_the_front_end_in_the_graph(folder: Path, tmp_path: Path, recipe: str, channel: bool) -> None:
    model = network(channel)
    add_front_end(model, RECIPES[recipe], waveform="samples_in")
    netferry.save(model, tmp_path / "net.onnx")
    report = netferry.retrain(tmp_path / "net.onnx", folder, tmp_path / "mine.onnx", **OPTIONS)
    assert report["data"]["split"]["training"] == dict.fromkeys(PITCHES, 7)  # sounds, not patches
    assert report["augment"] == {"shift": 0.24, "gain": 6.0, "noise": 20.0}
    assert report["test"]["accuracy"] == 1.0
    assert report["agreement"] == {
        "examples": 3 * 1,
        "max_difference": pytest.approx(0, abs=1e-4),
        "labels_equal": True,
    }
    assert report["notes"] == []
    made = netferry.load(tmp_path / "mine.onnx")
    assert [i.name for i in made.inputs] == ["samples_in"]
    assert recipes_of(made.ir.metadata_props[SOUND_KEY]) == {"samples_in": RECIPES[recipe]}
    assert made.labels == {"scores": sorted(PITCHES)}
    assert [r.name for r in made.layers] == [r.name for r in netferry.load(tmp_path / "net.onnx").layers]
    found = netferry.predict(tmp_path / "mine.onnx", folder, top=3)["predictions"]
    assert np.mean([row["top"][0]["label"] == Path(row["item"]).parent.name for row in found]) >= 0.95


def test_without_a_front_end(folder: Path, tmp_path: Path) -> None:
    """A network of patches that says how they are made; a sound's scores are the mean of its patches'."""
    model = network()
    record(model, "patches", RECIPES["yamnet"])
    report = netferry.retrain(model, folder, tmp_path / "mine.onnx", augment="none", **OPTIONS)
    assert report["test"]["accuracy"] == 1.0
    session = Session(tmp_path / "mine.onnx", "cpu")
    assert [p.shape[1:] for p in session.inputs] == [(96, 64)]
    file = folder / "low" / "0.wav"
    patches = run_sound(session, read_sound(file, RATE), ["scores"])["scores"]
    assert len(patches) == RECIPES["yamnet"].patches(len(read_sound(file, RATE)))
    row = netferry.predict(tmp_path / "mine.onnx", file, top=3)["predictions"][0]
    for answer in row["top"]:
        assert answer["score"] == pytest.approx(patches[:, answer["class"]].mean(), abs=1e-6)


def test_the_same_seed_gives_the_same_network(folder: Path, tmp_path: Path) -> None:
    model = network()
    add_front_end(model, RECIPES["vggish"])
    options = {**OPTIONS, "epochs": 2, "mixup": 0.3, "seed": 4, "augment": "shift=0.5,gain=12,noise=5"}
    for name in "ab":
        netferry.retrain(model, folder, tmp_path / f"{name}.onnx", **options)
    netferry.retrain(model, folder, tmp_path / "c.onnx", **{**options, "augment": "shift=0.1"})
    files = [(tmp_path / f"{name}.onnx").read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


def test_a_table_of_sounds_with_several_labels(folder: Path, tmp_path: Path) -> None:
    lines = ["file,low,loud"]
    for name in PITCHES:
        lines += [
            f"{folder / name / p.name},{int(name == 'low')},{int(p.stem < '5')}" for p in (folder / name).iterdir()
        ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    model = network()
    record(model, "patches", RECIPES["vggish"])
    report = netferry.retrain(model, tmp_path / "t.csv", tmp_path / "m.onnx", **OPTIONS)
    assert report["data"]["task"] == "labels"
    assert report["test"]["per_class"][0]["average_precision"] == 1.0


def test_fit_puts_the_front_end_back(folder: Path) -> None:
    from netferry.runtime.data.folder import ImageFolder

    model = network()
    add_front_end(model, RECIPES["yamnet"])
    five = model.with_head(sorted(PITCHES))
    done = netferry.fit(five, ImageFolder(folder), epochs=3, learning_rate=1e-2)
    assert done["iterations"] > 3
    assert [i.name for i in five.inputs] == ["waveform"]


@pytest.mark.parametrize("channel", [False, True])
def test_off_and_on_again_is_the_same_network(tmp_path: Path, channel: bool) -> None:
    model = network(channel)
    add_front_end(model, RECIPES["yamnet"], waveform="w")
    netferry.save(model, tmp_path / "a.onnx")
    again = netferry.load(tmp_path / "a.onnx")
    assert remove_front_end(again) == (RECIPES["yamnet"], "w")
    assert [i.shape for i in again.inputs] == [("batch", 1, 96, 64) if channel else ("batch", 96, 64)]
    assert remove_front_end(again) == (RECIPES["yamnet"], "")
    add_front_end(again, RECIPES["yamnet"], waveform="w")
    netferry.save(again, tmp_path / "b.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, 40_000).astype(np.float32)
    first, second = (Session(tmp_path / f"{n}.onnx", "cpu").run({"w": x})["scores"] for n in "ab")
    np.testing.assert_array_equal(first, second)
    assert remove_front_end(network()) is None


def test_augmentation() -> None:
    rng = np.random.default_rng(0)
    wave = rng.uniform(-0.5, 0.5, 48_000).astype(np.float32)
    same = SoundAugment().cut(wave, 100, 1000, RATE, np.random.default_rng(1))
    np.testing.assert_array_equal(same, wave[100:1100])
    starts = set()
    for seed in range(200):
        moved = SoundAugment(shift=0.1).cut(wave, 20_000, 1000, RATE, np.random.default_rng(seed))
        (start,) = np.flatnonzero(wave == moved[0])
        np.testing.assert_array_equal(moved, wave[start : start + 1000])
        starts.add(int(start) - 20_000)
    assert -1600 <= min(starts) < -1400
    assert 1400 < max(starts) <= 1600
    gains = []
    for seed in range(200):
        louder = SoundAugment(gain=6).cut(wave, 0, 1000, RATE, np.random.default_rng(seed))
        gains.append(float(np.ptp(louder) / np.ptp(wave[:1000])))
    assert 0.5 <= min(gains) < 0.53
    assert 1.88 < max(gains) <= 2.0
    below = []
    for seed in range(200):
        noise = SoundAugment(noise=10).cut(wave, 0, 16_000, RATE, np.random.default_rng(seed)) - wave[:16_000]
        below.append(10 * np.log10(np.mean(wave[:16_000] ** 2) / np.mean(noise**2)))
    assert 9.8 <= min(below) < 11.5
    assert 58 < max(below) <= 60.5
    silent = SoundAugment(noise=0, gain=6, shift=1).cut(np.zeros(100, np.float32), 0, 1000, RATE, rng)
    assert not silent.any()
    np.testing.assert_array_equal(segment(np.ones(5, np.float32), -2, 10), [0, 0, 1, 1, 1, 1, 1, 0, 0, 0])
    assert not segment(np.ones(5, np.float32), 9, 3).any()


@pytest.mark.parametrize("text", ["flip", "shift", "shift=x", "gain=99", "noise=-3", "shift=1 gain=2"])
def test_augmentations_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sound_augment(text)


def test_augmentations_of_pictures_are_refused(folder: Path, tmp_path: Path) -> None:
    model = network()
    record(model, "patches", RECIPES["vggish"])
    with pytest.raises(UsageError, match="sounds"):
        netferry.retrain(model, folder, tmp_path / "m.onnx", augment="flip,translate=3")


def test_looked_at_and_evaluated(folder: Path, tmp_path: Path) -> None:
    """A sound's picture is its spectrogram: in the preview, and among the worst mistakes."""
    from PIL import Image

    netferry.preview(folder, tmp_path / "p.png", n=9)
    with Image.open(tmp_path / "p.png") as image:
        assert len(set(image.convert("RGB").resize((200, 200)).get_flattened_data())) > 300  # colours, not grey fields
    model = network()
    add_front_end(model, RECIPES["vggish"])
    report = netferry.retrain(model, folder, tmp_path / "m.onnx", train="all", epochs=1, learning_rate=1e-6)
    found = netferry.evaluate(tmp_path / "m.onnx", folder, out=tmp_path / "ev")
    assert found["mistakes"]
    assert (tmp_path / "ev" / "mistakes.png").stat().st_size > 5000
    assert report["test"]["count"] > 0


def test_a_broken_sound_is_one_error(folder: Path, tmp_path: Path) -> None:
    for name in PITCHES:
        (tmp_path / "in" / name).mkdir(parents=True)
        for n in range(4):
            (tmp_path / "in" / name / f"{n}.wav").write_bytes((folder / name / "0.wav").read_bytes())
    (tmp_path / "in" / "low" / "2.wav").write_bytes(b"RIFF and nothing")
    model = network()
    record(model, "patches", RECIPES["vggish"])
    with pytest.raises(InputError, match="no sound"):
        netferry.retrain(model, tmp_path / "in", tmp_path / "m.onnx", epochs=1)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("inside", [False, True], ids=["patches", "waveform"])
def test_advice_on_sounds(folder: Path, tmp_path: Path, inside: bool) -> None:
    """The same with the front end in the graph and without; what it says of few, short and long sounds."""
    model = network()
    record(model, "patches", RECIPES["vggish"])
    if inside:
        add_front_end(model, RECIPES["vggish"])
    netferry.save(model, tmp_path / "n.onnx", check="structure")
    found = netferry.advise(folder, tmp_path / "n.onnx")
    assert (found["kind"], found["sounds"], found["fewest"], found["head"]) == ("sounds", 30, 10, "fc2")
    assert found["linear_accuracy"] >= 0.9 > found["chance"]
    assert 0.2 <= found["certainty"] <= 1
    assert 0.5 <= found["seconds"]["shortest"] < found["seconds"]["median"] < found["seconds"]["longest"] <= 3.0
    assert "10 sounds in the smallest class, fewer than 20" in found["advice"][0]["why"]
    assert found["advice"][0]["command"].startswith("netferry train-head")
    kinds = {}
    for seconds in (0.2, 31.0):
        for name, hertz in (("low", 300), ("high", 5000)):
            place = tmp_path / str(seconds) / name
            place.mkdir(parents=True)
            for n in range(2):
                tone = 0.5 * np.sin(2 * np.pi * (hertz + n) * np.arange(round(RATE * seconds)) / RATE)
                soundfile.write(place / f"{n}.wav", tone, RATE)
        kinds[seconds] = netferry.advise(tmp_path / str(seconds), tmp_path / "n.onnx")["advice"][-1]["what"]
    assert kinds == {0.2: "record longer sounds, or lay several behind each other",
                     31.0: "cut the sounds to the parts that the label is about"}  # fmt: skip


def test_advice_for_the_wrong_kind_of_data(folder: Path, tmp_path: Path) -> None:
    """A network of pictures says how a network hears; a sound network reads no pictures."""
    from tests.shared import REPOSITORY

    fixtures = REPOSITORY / "fixtures"
    with pytest.raises(InputError, match="by its name a sound") as caught:
        netferry.advise(folder, fixtures / "digits.prototxt", weights=fixtures / "digits.caffemodel")
    assert "--front-end" in str(caught.value.hint)
    model = network()
    record(model, "patches", RECIPES["vggish"])
    netferry.save(model, tmp_path / "n.onnx", check="structure")
    with pytest.raises(InputError, match="no sound"):
        netferry.advise(fixtures / "digits.csv", tmp_path / "n.onnx")
