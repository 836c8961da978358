"""Weights as Keras 2.12 to 2.15 spells their paths; checked once against files of TensorFlow 2.13 and 2.15 themselves.

Today's tf_keras writes ``layers/dense_1``; its files are rewritten here to what those versions wrote.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from netferry.converters.keras.read import read
from netferry.converters.keras.weights import checkpoint_paths
from netferry.converters.options import ReadOptions
from tests.converters.keras.oracle import Case, in_memory

NUMBERED = [
    "layers/conv2d", "layers/conv2d_1", "layers/sequential/layers/dense", "layers/sequential/layers/dense_1",
    "layers/time_distributed_1/layer/layers/dense", "layers/lstm/cell",
]  # fmt: skip
TOP = "_layer_checkpoint_dependencies"


def test_layers_that_count_twice() -> None:
    """As listed by h5py in a file of TensorFlow 2.13."""
    assert list(checkpoint_paths(NUMBERED, doubled=True).values()) == [
        f"{TOP}/conv2d", f"{TOP}/conv2d_2", f"{TOP}/sequential/{TOP}/dense", f"{TOP}/sequential/{TOP}/dense_2",
        f"{TOP}/time_distributed_1/layer/{TOP}/dense", f"{TOP}/lstm/cell",
    ]  # fmt: skip
    assert list(checkpoint_paths(NUMBERED, doubled=False).values()) == [n.replace("layers", TOP) for n in NUMBERED]


def rewritten(source: Path, target: Path, spell: Callable[[str], str]) -> None:
    """Copy an archive, the objects of its weights under other paths."""
    content = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        with h5py.File(io.BytesIO(old.read("model.weights.h5"))) as weights, h5py.File(content, "w") as made:

            def copy(name: str, entry: object) -> None:
                if isinstance(entry, h5py.Group) and name.endswith("/vars") and len(entry):
                    weights.copy(entry, made.require_group(spell(name[:-5])), "vars")

            weights.visititems(copy)
        for name in old.namelist():
            new.writestr(name, content.getvalue() if name == "model.weights.h5" else old.read(name))


MODEL = (
    "(lambda m, n: L.Concatenate()([m(n(xs[0])), m(n(xs[1])), L.Dense(2)(L.Dense(3)(L.Flatten()(xs[0])))]))"
    "((lambda i: keras.Model(i, L.Dense(2)(L.Dense(4)(i))))(keras.Input((3,))),"
    " keras.Sequential([keras.Input((5, 6)), L.Bidirectional(L.LSTM(4)), L.Dense(4), L.BatchNormalization(), L.Dense(3)]))"
)


@pytest.mark.parametrize(
    ("doubled", "windows"),
    [
        pytest.param(True, False, id="2.13"),
        pytest.param(True, True, id="2.13-windows"),
        pytest.param(False, False, id="numbered-once"),
        pytest.param(None, True, id="windows-alone"),
    ],
)
def test_old_paths(case2: Case, doubled: bool | None, windows: bool) -> None:
    plain = in_memory(case2(MODEL, (5, 6), (5, 6)).model)
    source, target = case2.folder / "model.keras", case2.folder / "old.keras"
    with zipfile.ZipFile(source) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        paths: list[str] = []
        weights.visititems(lambda n, e: paths.append(n[:-5]) if n.endswith("/vars") and len(e) else None)
    order = sorted(paths, key=lambda p: [(part.rstrip("0123456789"), len(part), part) for part in p.split("/")])
    names = {p: p for p in paths} if doubled is None else checkpoint_paths(order, doubled=doubled)
    assert any(old != new for old, new in names.items()) == (doubled is not None)
    rewritten(source, target, lambda p: names[p].replace("/", "\\") if windows else names[p])
    made = in_memory(read(target, ReadOptions()))
    assert made.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)


def test_a_name_that_windows_wrote_stays_one_group(tmp_path: Path) -> None:
    """Weights alone, as save_weights wrote them on Windows."""
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        file.create_group("layers\\dense")["vars/0"] = np.eye(2, dtype=np.float32)
    (tmp_path / "m.json").write_text(
        '{"class_name": "Sequential", "keras_version": "2.13.1", "config": {"name": "m", "layers": [{"class_name": "Dense",'
        ' "config": {"name": "d", "units": 2, "use_bias": false, "batch_input_shape": [null, 2]}}]}}'
    )
    model = read(tmp_path / "m.json", ReadOptions(weights=tmp_path / "w.weights.h5"))
    assert not model.uninitialised
