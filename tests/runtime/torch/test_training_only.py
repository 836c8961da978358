"""Layers that act in training only: they do in training what Keras does, and nothing in eval mode."""

from __future__ import annotations

import copy
import json
import math
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from netferry import api
from netferry.runtime.torch.training_facts import training_module
from netferry.schemas.ir import ir
from netferry.schemas.layers import TRAINING
from tests.converters.keras.oracle import tensorflow_python
from tests.runtime.torch.alone import Alone
from tests.runtime.torch.graphs import model_of

SEQUENCES, PICTURES = (64, 50, 40), (400, 8, 9, 3)
MOVED = [
    (f"{kind}-{fill}", f"L.{call}, fill_mode={fill!r}, fill_value=0.3)")
    for kind, call in {
        "turned": "RandomRotation((0.1, 0.1)",
        "turned-back": "RandomRotation((-0.3, -0.3), interpolation='nearest'",
        "smaller": "RandomZoom((0.3, 0.3)",
        "larger": "RandomZoom((-0.3, -0.3), (-0.1, -0.1)",
        "moved": "RandomTranslation((0.3, 0.3), (-0.2, -0.2)",
    }.items()
    for fill in ("reflect", "constant", "nearest", "wrap")
]
"""changes whose ranges have one value: nothing is left to chance"""
CASES: dict[str, tuple[str, tuple[int, ...]]] = {
    "noise": ("L.GaussianNoise(0.3)", SEQUENCES),
    "gaussian-dropout": ("L.GaussianDropout(0.3)", SEQUENCES),
    "dropout": ("L.Dropout(0.4, seed=3)", SEQUENCES),
    "dropout-of-rows": ("L.Dropout(0.4, noise_shape=(None, 1, 40))", SEQUENCES),
    "alpha-dropout": ("L.AlphaDropout(0.3)", SEQUENCES),
    "alpha-dropout-of-rows": ("L.AlphaDropout(0.3, noise_shape=(None, 50, 1))", SEQUENCES),
    "spatial-dropout-1d": ("L.SpatialDropout1D(0.3)", SEQUENCES),
    "spatial-dropout-2d": ("L.SpatialDropout2D(0.3)", (64, 5, 6, 40)),
    "spatial-dropout-3d": ("L.SpatialDropout3D(0.3)", (64, 3, 2, 2, 40)),
    "penalty": ("L.ActivityRegularization(0.3)", SEQUENCES),
    "flip": ("L.RandomFlip('horizontal')", PICTURES),
    "flip-down": ("L.RandomFlip('vertical')", PICTURES),
    "flip-both": ("L.RandomFlip()", PICTURES),
    "rotation": ("L.RandomRotation(0.1, fill_mode='constant')", PICTURES),
    "zoom": ("L.RandomZoom(0.3)", PICTURES),
    "translation": ("L.RandomTranslation(0.3, 0.2, fill_mode='constant')", PICTURES),
    "contrast": ("L.RandomContrast((0.4, 0.4), value_range=(-9, 9))", PICTURES),
    "contrast-clipped": ("L.RandomContrast((0.5, 0.9), value_range=(0.2, 0.8))", PICTURES),
    "brightness": ("L.RandomBrightness((-0.2, 0.4), value_range=(-5, 5))", PICTURES),
    "crop": ("L.RandomCrop(5, 4)", PICTURES),
    **{name: (expression, (4, 8, 9, 3)) for name, expression in MOVED},
}


class Ran(NamedTuple):
    """A case: the module, its input, and outputs of Keras and here, in training."""

    module: torch.fx.GraphModule
    x: np.ndarray
    theirs: np.ndarray
    ours: np.ndarray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, made by one process of Keras."""
    python = tensorflow_python()
    if python is None:
        pytest.skip("needs an environment with TensorFlow (NETFERRY_TF_PYTHON)")
    made = tmp_path_factory.mktemp("training-only")
    (made / "cases.json").write_text(json.dumps([[n, e, s] for n, (e, s) in CASES.items()]))
    maker = Path(__file__).with_name("training_maker.py")
    subprocess.run([python, str(maker), str(made), str(made / "cases.json")], check=True, timeout=600)
    return made


def draws(name: str) -> int:
    """How many draws of their own a case makes: per element, per channel or row of an example, per picture."""
    if name in dict(MOVED):
        return 10**6  # none: nothing is left to chance
    shape = CASES[name][1]
    if shape == PICTURES:
        return PICTURES[0]
    each = 64 * 40 if "spatial" in name or name == "dropout-of-rows" else 64 * 50
    return each if "spatial" in name or "rows" in name else math.prod(shape)


def ran(folder: Path, name: str) -> Ran:
    """Run a case here, seeded."""
    arrays = dict(np.load(folder / f"{name}.npz"))
    module = api.load(folder / f"{name}.keras").to_torch().train()
    torch.manual_seed(5)
    made = module(torch.from_numpy(arrays["x"])).detach().numpy()
    return Ran(module, arrays["x"], arrays["y"], made)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_acts_as_keras(folder: Path, name: str) -> None:
    """In eval mode nothing; in training mean and deviation are Keras's within four standard errors."""
    case = ran(folder, name)
    assert case.ours.shape == case.theirs.shape
    spread, error = float(case.theirs.std()), 4 * (2 / draws(name)) ** 0.5
    assert case.ours.mean() == pytest.approx(case.theirs.mean(), abs=error * spread)
    assert case.ours.std() == pytest.approx(spread, rel=error)
    acts = name != "penalty"
    assert (case.ours.shape != case.x.shape or not np.array_equal(case.ours, case.x)) == acts
    case.module.eval()
    assert np.array_equal(case.module(torch.from_numpy(case.x)).detach().numpy(), case.x)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in MOVED])
def test_resampled_as_keras(folder: Path, name: str) -> None:
    """Where the ranges leave nothing to chance pictures are equal to 1e-4, but for pixels on the edge of rounding."""
    case = ran(folder, name)
    wrong = np.abs(case.ours - case.theirs) > 1e-4
    assert wrong.mean() <= (0.02 if "nearest" in CASES[name][0].split("fill_mode")[0] else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "axes", "low", "rate"),
    [
        pytest.param("dropout", (), 0.0, 0.4, id="elements"),
        pytest.param("dropout-of-rows", (1,), 0.0, 0.4, id="noise-shape"),
        pytest.param("alpha-dropout", (), -1.7581, 0.3, id="alpha"),
        pytest.param("alpha-dropout-of-rows", (2,), -1.7581, 0.3, id="alpha-noise-shape"),
        pytest.param("spatial-dropout-1d", (1,), 0.0, 0.3, id="channels-1d"),
        pytest.param("spatial-dropout-2d", (1, 2), 0.0, 0.3, id="channels-2d"),
        pytest.param("spatial-dropout-3d", (1, 2, 3), 0.0, 0.3, id="channels-3d"),
    ],
)
def test_what_is_dropped(folder: Path, name: str, axes: tuple[int, ...], low: float, rate: float) -> None:
    """One draw along the shared axes; the share of dropped elements within 0.03 of the rate (2,560 draws or more)."""
    case = ran(folder, name)
    dropped = []
    for made in (case.theirs, case.ours):
        scale = ((1 - rate) * (1 + rate * low**2)) ** -0.5 if low else 1.0
        bottom = scale * low * (1 - rate) if low else 0.0
        dropped.append(np.isclose(made, bottom, atol=1e-3 if low else 0))
    for gone in dropped:
        if axes:
            assert np.array_equal(gone.all(axes), gone.any(axes))
        assert gone.mean() == pytest.approx(rate, abs=0.03)
    assert not np.array_equal(*dropped)  # draws of their own


@pytest.mark.slow
@pytest.mark.parametrize(("name", "axes"), [("flip", (2,)), ("flip-down", (1,)), ("flip-both", (1, 2))])
def test_half_of_the_pictures_are_reflected(folder: Path, name: str, axes: tuple[int, ...]) -> None:
    """Each picture is as it was or reflected; within 0.1 of one half, of 400."""
    case = ran(folder, name)
    for made in (case.theirs, case.ours):
        same = (made == case.x).all((1, 2, 3))
        turned = (made == np.flip(case.x, axes)).all((1, 2, 3))
        assert (same | turned).all()
        assert turned.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "low", "high"), [("contrast", 0.6, 1.4), ("brightness", -2.0, 4.0)])
def test_factors_are_drawn_evenly(folder: Path, name: str, low: float, high: float) -> None:
    """A factor per picture: within its range, its quartiles within 0.05 of the range's."""
    case = ran(folder, name)
    for made in (case.theirs, case.ours):
        if name == "contrast":
            drawn = (made.std((1, 2)) / case.x.std((1, 2))).mean(-1)
        else:
            drawn = (made - case.x).mean((1, 2, 3))
        shares = (drawn - low) / (high - low)
        assert shares.min() >= -1e-3
        assert shares.max() <= 1.001
        np.testing.assert_allclose(np.quantile(shares, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


@pytest.mark.slow
def test_behind_a_convolution_channels_are_found(folder: Path, tmp_path: Path, alone: Alone) -> None:
    """The value lies channels first there; the written source acts and passes alike."""
    del folder
    script = (
        "import os, sys; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; import keras; L = keras.layers\n"
        "x = keras.Input((6, 7, 3)); y = L.RandomFlip('horizontal')(L.Conv2D(5, 3, padding='same')(x))\n"
        "y = L.GaussianNoise(0.1)(L.AlphaDropout(0.2, noise_shape=(None, 1, 1, 5))(y))\n"
        "keras.Model(x, L.Conv2D(2, 1)(y)).save(sys.argv[1])"
    )
    python = tensorflow_python()
    assert python is not None
    subprocess.run([python, "-c", script, str(tmp_path / "net.keras")], check=True, timeout=300)
    model = api.load(tmp_path / "net.keras")
    module = model.to_torch()
    flip = next(m for m in module.modules() if type(m).__name__ == "RandomFlip")
    x = torch.rand(64, 5, 6, 7)
    made = flip(x)
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(made, x, strict=True))
    assert not torch.equal(made, x)
    module.eval()
    picture = torch.rand(2, 6, 7, 3)
    with torch.no_grad():
        wanted = module(picture)
    api.export(model, tmp_path / "source", to="torch-source", check="none")
    written = alone.run(tmp_path / "source", [[picture]])[0][0]
    np.testing.assert_allclose(written, wanted.numpy(), atol=1e-6)
    assert "class RandomFlip" in (tmp_path / "source" / "model.py").read_text()


NOTED = "g (float[N, 3, 4, 5] x) => (float[N, 3, 4, 5] y) { y = Identity (x) }"


def _noted(note: str) -> ir.Node:
    node = next(iter(model_of(NOTED, {}).graph))
    node.metadata_props[TRAINING] = note
    return node


@pytest.mark.parametrize(
    "note",
    [
        "", "{", "[]", "null", '{"layer": "Lambda"}', '{"layer": ["RandomFlip"]}', '{"layer": "GaussianNoise"}',
        '{"layer": "GaussianNoise", "stddev": "1"}', '{"layer": "GaussianNoise", "stddev": NaN}',
        '{"layer": "Dropout", "rate": 1.5}', '{"layer": "Dropout", "rate": 0.5, "shared": [4]}',
        '{"layer": "Dropout", "rate": 0.5, "shared": [0, 0]}', '{"layer": "RandomCrop", "height": 0, "width": 3}',
        '{"layer": "RandomContrast", "factor": [0.1], "value_range": [0, 1], "axes": [0, 1, 2, 3]}',
        '{"layer": "RandomContrast", "factor": [0.1, 0.2], "value_range": [0, 1], "axes": [0, 1, 2]}', "[" * 9999,
    ],
)  # fmt: skip
def test_a_note_that_is_not_understood_is_left_aside(note: str) -> None:
    assert training_module(_noted(note)) is None


def test_repeats_with_the_seed_copies_and_compiles() -> None:
    model = model_of(NOTED, {})
    note = {"layer": "RandomRotation", "factor": [-0.1, 0.1], "interpolation": "bilinear", "fill_mode": "reflect",
            "fill_value": 0.0, "axes": [0, 2, 3, 1]}  # fmt: skip
    next(iter(model.graph)).metadata_props[TRAINING] = json.dumps(note)
    module = copy.deepcopy(api.to_torch(model))
    x = torch.rand(3, 3, 4, 5)
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(module(x))
    assert torch.equal(*made)
    assert not torch.equal(made[0], x)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.manual_seed(3)
    assert torch.allclose(compiled(x), made[0], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "kept", "rate", "at_test", "channels"),
    [
        pytest.param("", 2.0, 0.5, 1.0, False, id="usual"),
        pytest.param("dropout_ratio: 0.3", 1 / 0.7, 0.3, 1.0, False, id="ratio"),
        pytest.param("dropout_ratio: 0.3 scale_train: false", 1.0, 0.3, 0.7, False, id="scaled-in-test"),
        pytest.param("dropout_ratio: 0.3 spatial_dropout: true", 1 / 0.7, 0.3, 1.0, True, id="channels"),
    ],
)
def test_caffes_dropout(
    tmp_path: Path, settings: str, kept: float, rate: float, at_test: float, channels: bool
) -> None:
    """dropout_layer.cpp: kept elements are scaled in training or all in the test phase; 3,200 draws or more."""
    (tmp_path / "net.prototxt").write_text(
        'input: "x" input_shape { dim: 64 dim: 50 dim: 4 dim: 5 } layer { name: "drop" type: "Dropout" '
        f'bottom: "x" top: "y" dropout_param {{ {settings} }} }}'
    )
    module = api.load(tmp_path / "net.prototxt").to_torch()
    torch.manual_seed(2)
    made, x = module(torch.ones(64, 50, 4, 5)), torch.ones(64, 50, 4, 5)
    gone = made == 0
    assert torch.allclose(made[~gone], torch.tensor(kept))
    assert float(gone.float().mean()) == pytest.approx(rate, abs=0.03)
    assert torch.equal(gone.all(-1).all(-1), gone.any(-1).any(-1)) == channels
    assert torch.allclose(module.eval()(x), at_test * x)
