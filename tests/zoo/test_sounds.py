"""Sound networks of the zoo on sound files: tones, noises and chirps told apart, with and without the front end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from fixtures import sounds
from netferry.errors import UsageError
from netferry.runtime.session import Session
from netferry.runtime.sounds import log_mel_patches, read_sound, run_sound
from netferry.schemas.sound import RECIPES
from tests.netferry.test_cli import netferry as command_line

pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")


def said(*arguments: Any) -> dict[str, Any]:
    done = command_line(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tones_noises_and_chirps_are_told_apart(tmp_path: Path, seed: int) -> None:
    """YAMNet's embedding with seeded values (no trained ones are at hand) and a linear classifier behind it.

    At least 95 % on held-back sounds, and on a set of another seed that the file has never seen.
    """
    pytest.importorskip("skl2onnx")
    sounds.write(tmp_path / "learn")
    sounds.write(tmp_path / "unseen", 20, seed=99)
    said("zoo", "build", "yamnet", "--seed", seed, "--front-end", "-o", tmp_path / "y.onnx")
    found = said(
        "train-head", tmp_path / "y.onnx", tmp_path / "learn", "--layer", "embedding", "-o", tmp_path / "h.onnx"
    )
    assert found["features"] == 1024
    assert found["held_back"]["mean"] >= 0.95
    answers = said("predict", tmp_path / "h.onnx", tmp_path / "unseen", "--top", 1)["predictions"]
    right = [row["top"][0]["label"] == Path(row["item"]).parent.name for row in answers]
    assert len(right) == 60
    assert np.mean(right) >= 0.95


@pytest.mark.parametrize("name", RECIPES)
def test_patches_made_in_numpy_are_those_of_the_graph(tmp_path: Path, name: str) -> None:
    """A network without its front end reads sounds too: netferry makes the patches, as the file says."""
    from netferry.converters.waveform import front_end_model

    recipe = RECIPES[name]
    netferry.save(front_end_model(recipe), tmp_path / "f.onnx")
    session = Session(tmp_path / "f.onnx", "cpu")
    for samples in (1, 15_600, 15_601, 90_000, 1_100_000):
        waveform = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
        wanted = session.run({"waveform": waveform})["patches"]
        np.testing.assert_allclose(log_mel_patches(waveform, recipe), wanted, rtol=0, atol=1e-5)
        np.testing.assert_allclose(  # piece by piece, 64 patches each
            run_sound(session, waveform, ["patches"])["patches"], wanted, rtol=0, atol=1e-5
        )


def test_with_and_without_front_end(tmp_path: Path) -> None:
    netferry.zoo.build("yamnet", tmp_path / "with.onnx", front_end=True, check="structure")
    netferry.zoo.build("yamnet", tmp_path / "without.onnx", check="structure")
    assert [i.name for i in netferry.load(tmp_path / "with.onnx").inputs] == ["waveform"]
    assert [i.shape for i in netferry.load(tmp_path / "without.onnx").inputs] == [("batch", 96, 64)]
    sounds.write(tmp_path / "s", 1)
    files = sorted((tmp_path / "s").rglob("*.wav"))
    results = [netferry.predict(tmp_path / f"{n}.onnx", files, top=521) for n in ("with", "without")]
    for rows in zip(*(r["predictions"] for r in results), strict=True):
        scores = [[a["score"] for a in sorted(row["top"], key=lambda a: a["class"])] for row in rows]
        np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-5)
        assert not any(row["softmax"] for row in rows)  # the classes are independent
        best, patches = rows[0]["top"][0], results[0]["timelines"][rows[0]["item"]]
        each = [a["score"] for patch in patches for a in patch["top"] if a["class"] == best["class"]]
        assert best["score"] == pytest.approx(np.mean(each), abs=1e-5)
    assert {k: len(v) for k, v in results[0]["timelines"].items()} == {
        k: len(v) for k, v in results[1]["timelines"].items()
    }
    patches = log_mel_patches(read_sound(files[0], 16_000), RECIPES["yamnet"])
    np.save(tmp_path / "patches.npy", patches)  # patches of one's own still go in as they are
    assert len(netferry.predict(tmp_path / "without.onnx", tmp_path / "patches.npy")["predictions"]) == len(patches)


def test_pictures_have_no_front_end() -> None:
    with pytest.raises(UsageError, match="no sounds"):
        netferry.zoo.load("squeezenet", front_end=True)
