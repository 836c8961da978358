"""Sound files through sound networks: decoding, resampling, means over patches, timelines, pictures of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from netferry.converters.waveform import add_front_end
from netferry.errors import InputError, NetferryError, UsageError
from netferry.runtime.session import Session
from netferry.runtime.sounds import draw_timeline, patch_edges, read_sound, run_sound, spectrogram
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.sound import RECIPES
from tests.netferry.test_cli import netferry as command_line

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")
RATE = 16_000
NAMES = ["low", "middle", "high"]


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def band_network(path: Path, recipe: str = "yamnet", softmax: bool = True) -> Path:
    """A network that tells which third of the mel bands is the loudest: the sound's pitch."""
    b = Builder("pitch")
    x = b.input("patches", ("n", 96, 64))
    thirds = np.zeros((64, 3), np.float32)
    for band in range(64):
        thirds[band, min(band // 22, 2)] = 1 / 22
    with b.layer("pool", "Mean"):
        mean = b.op("ReduceMean", x, b.const([1]), keepdims=0)
    with b.layer("prob", "Softmax"):
        y = b.op("MatMul", mean, b.const(thirds))
        y = b.op("Softmax", y, axis=-1) if softmax else y
    b.output(y, "scores")
    b.finish()
    model = Model(ir.Model(b.graph, ir_version=CANONICAL_IR), source=Source("onnx"), labels={"scores": NAMES})
    add_front_end(model, RECIPES[recipe])
    netferry.save(model, path)
    return path


def written(path: Path, samples: np.ndarray, rate: int = RATE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "rate", "options", "tolerance"),
    [
        pytest.param("wav", RATE, {"subtype": "FLOAT"}, 0, id="wav-float"),
        pytest.param("wav", RATE, {"subtype": "PCM_16"}, 1e-4, id="wav-16-bit"),
        pytest.param("wav", RATE, {"subtype": "PCM_24"}, 1e-6, id="wav-24-bit"),
        pytest.param("flac", RATE, {}, 1e-4, id="flac"),
        pytest.param("wav", 44_100, {"subtype": "FLOAT"}, 2e-3, id="resampled-down"),
        pytest.param("wav", 8_000, {"subtype": "FLOAT"}, 2e-3, id="resampled-up"),
        pytest.param("ogg", RATE, {}, 5e-2, id="ogg-lossy"),
    ],
)
def test_read_sound(tmp_path: Path, suffix: str, rate: int, options: dict[str, Any], tolerance: float) -> None:
    wanted = tone(440, 1.0)
    path = written(tmp_path / f"s.{suffix}", tone(440, 1.0, rate), rate, **options)
    got = read_sound(path, RATE)
    assert got.dtype == np.float32
    assert len(got) == len(wanted)
    inner = slice(400, -400)  # a resampler rings at the ends
    np.testing.assert_allclose(got[inner], wanted[inner], atol=max(tolerance, 1e-7), rtol=0)
    np.testing.assert_array_equal(read_sound(path.read_bytes(), RATE), got)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(440, 0.2), tone(880, 0.2)
    path = written(tmp_path / "s.wav", np.stack([left, right], 1), subtype="FLOAT")
    np.testing.assert_allclose(read_sound(path, RATE), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0", b"not a sound at all", b"OggS" + bytes(100)], ids=repr)
def test_broken_sounds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.wav").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_sound(tmp_path / "s.wav", RATE)
    assert "object at" not in str(caught.value)
    with pytest.raises(InputError):
        read_sound(tmp_path / "gone.wav", RATE)


def test_a_sound_without_samples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples"):
        read_sound(written(tmp_path / "s.wav", np.zeros(0, np.float32)), RATE)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_widths_and_channels(tmp_path: Path, subtype: str, channels: int) -> None:
    samples = np.repeat(tone(440, 0.5, 44_100)[:, None], channels, 1)
    got = read_sound(written(tmp_path / "s.wav", samples, 44_100, subtype=subtype), RATE)
    np.testing.assert_allclose(got[400:-400], tone(440, 0.5)[400:-400], atol=0.01 if subtype == "PCM_U8" else 2e-3)


def folder_of_sounds(folder: Path) -> Path:
    for name, hertz in zip(NAMES, (300, 1500, 6000), strict=True):
        for n, rate in enumerate((RATE, 44_100, 22_050)):
            written(folder / name / f"{n}.wav", tone(hertz * (1 + n / 20), 2.0, rate), rate)
    return folder


@pytest.mark.parametrize("recipe", RECIPES)
def test_predict_on_a_folder(tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = band_network(tmp_path / "net.onnx", recipe)
    plain, runs = Session.run, []
    monkeypatch.setattr(Session, "run", lambda self, *given: runs.append(1) or plain(self, *given))
    found = netferry.predict(net, [folder_of_sounds(tmp_path / "in")], top=3)
    assert len(found["predictions"]) == len(runs) == 9  # a sound goes through the network once
    for row in found["predictions"]:
        assert row["top"][0]["label"] == Path(row["item"]).parent.name
        patches = found["timelines"][row["item"]]
        assert [p["start"] for p in patches] == ([0.0, 0.96] if recipe == "vggish" else [0.0, 0.48, 0.96, 1.44])
        best = row["top"][0]
        scores = [a["score"] for p in patches for a in p["top"] if a["label"] == best["label"]]
        assert len(scores) == len(patches)
        assert best["score"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_features_and_head(tmp_path: Path) -> None:
    net = band_network(tmp_path / "net.onnx")
    sounds = folder_of_sounds(tmp_path / "in")
    netferry.features(net, sounds, tmp_path / "f.npz", layers=["pool"])
    with np.load(tmp_path / "f.npz") as made:
        rows = next(made[k] for k in made.files if made[k].ndim == 2)
    assert rows.shape == (9, 64)
    waveform = read_sound(sorted((sounds / "high").iterdir())[0], RATE)
    wanted = spectrogram(waveform, RECIPES["yamnet"])
    assert rows.max() <= wanted.max() + 1e-3


def test_one_bad_sound_is_skipped(tmp_path: Path) -> None:
    net, sounds = band_network(tmp_path / "net.onnx"), folder_of_sounds(tmp_path / "in")
    (sounds / "low" / "0.wav").write_bytes(b"RIFF")
    with pytest.raises(NetferryError):
        netferry.predict(net, [sounds])
    found = netferry.predict(net, [sounds], on_error="skip")
    assert (len(found["predictions"]), len(found["skipped"])) == (8, 1)


def test_pictures_are_refused(tmp_path: Path) -> None:
    net = band_network(tmp_path / "net.onnx")
    with pytest.raises(InputError, match="no sound"):
        netferry.predict(net, [Path(__file__).resolve().parents[2] / "fixtures" / "digit_7_09.png"])
    with pytest.raises(UsageError):
        run_sound(Session(_digits(tmp_path), "cpu"), np.zeros(9, np.float32), ["prob"])


def _digits(tmp_path: Path) -> Path:
    fixtures = Path(__file__).resolve().parents[2] / "fixtures"
    netferry.convert(
        fixtures / "digits.prototxt", tmp_path / "d.onnx", fixtures / "digits.caffemodel", check="structure"
    )
    return tmp_path / "d.onnx"


def test_the_timeline_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    net = band_network(tmp_path / "net.onnx")
    sweep = np.concatenate([tone(300, 2), tone(1500, 2), tone(6000, 2)])
    path = written(tmp_path / "sweep.wav", sweep)
    done = command_line("predict", net, path, "--annotate", tmp_path / "t.png", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    labels = [p["top"][0]["label"] for p in said["timelines"][str(path)]]
    assert labels[0] == "low"
    assert labels[len(labels) // 2] == "middle"
    assert labels[-2] == "high"
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    figure = draw_timeline(sweep, np.zeros((13, 3), np.float32), NAMES, RECIPES["yamnet"], title="sweep")
    assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == NAMES


def test_patches_answer_as_the_sound_does(tmp_path: Path) -> None:
    """Of a network without a softmax at its end both are probabilities."""
    sounds = folder_of_sounds(tmp_path / "in")
    with_softmax = netferry.predict(band_network(tmp_path / "p.onnx"), [sounds], top=3)
    found = netferry.predict(band_network(tmp_path / "n.onnx", softmax=False), [sounds], top=3)
    assert all(row["softmax"] for row in found["predictions"])
    for item, patches in found["timelines"].items():
        for got, wanted in zip(patches, with_softmax["timelines"][item], strict=True):
            assert [a["label"] for a in got["top"]] == [a["label"] for a in wanted["top"]]
            assert [a["score"] for a in got["top"]] == pytest.approx([a["score"] for a in wanted["top"]], abs=1e-5)


def test_a_drawing_for_every_sound(tmp_path: Path) -> None:
    """Also where sounds of several folders have one name."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    sounds = folder_of_sounds(tmp_path / "in")
    files = [sounds / "high" / "0.wav", sounds / "low" / "0.wav", sounds / "low" / "1.wav"]
    netferry.predict(band_network(tmp_path / "net.onnx"), files, annotate=tmp_path / "t.png")
    assert sorted(p.name for p in tmp_path.glob("t*.png")) == ["t-high-0.png", "t-low-0.png", "t-low-1.png"]
    netferry.predict(tmp_path / "net.onnx", files[1:], annotate=tmp_path / "u.png")
    assert sorted(p.name for p in tmp_path.glob("u*.png")) == ["u-0.png", "u-1.png"]


@pytest.mark.parametrize(
    ("recipe", "seconds", "wanted"),
    [
        pytest.param("yamnet", 1.2, [0, 0.48, 1.2], id="to-the-end"),
        pytest.param("yamnet", 0.5, [0, 0.5], id="short"),
        pytest.param("vggish", 2.7, [0, 0.96, 1.935], id="what-nobody-hears"),
        pytest.param("vggish", 0.5, [0, 0.96], id="filled-up"),
    ],
)
def test_where_patches_are_drawn(recipe: str, seconds: float, wanted: list[float]) -> None:
    made = RECIPES[recipe]
    count = made.patches(round(seconds * RATE))
    assert patch_edges(count, seconds, made) == pytest.approx(wanted)
