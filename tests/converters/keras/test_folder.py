"""The folder of ``zipped=False`` is read as the archive is, and nothing outside it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.converters.formats import detect
from netferry.converters.keras.folder import Folder
from netferry.converters.keras.read import read
from netferry.converters.options import Limits, ReadOptions
from netferry.errors import FormatError, InputError, LimitExceeded, MalformedFile, UnsafeFile
from tests.converters.keras.oracle import Case
from tests.converters.keras.test_archive import WANTED, run, write_keras


def unpacked(folder: Path, *, left_out: str = "") -> Path:
    """The folder of a model of one Dense layer."""
    archive = write_keras(folder / "m.keras")
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "model", [n for n in file.namelist() if n != left_out])
    archive.unlink()
    return folder / "model"


@pytest.mark.parametrize("left_out", [pytest.param("", id="whole"), pytest.param("metadata.json", id="no-metadata")])
def test_it_is_read(tmp_path: Path, left_out: str) -> None:
    folder = unpacked(tmp_path, left_out=left_out)
    assert detect(folder).name == "keras"
    assert np.allclose(run(folder), WANTED, atol=1e-5)
    names = ["config.json", "metadata.json", "model.weights.h5"]
    found = netferry.load(folder).source.files
    assert found == tuple(str((folder / name).resolve()) for name in names if name != left_out)


@pytest.mark.parametrize(
    ("layer", "data"),
    [
        pytest.param("L.StringLookup(output_mode='multi_hot')", "['apple', 'pear', 'fig']", id="vocabulary-in-assets"),
        pytest.param("L.TextVectorization(output_sequence_length=5)", "['apple pear', 'fig']", id="texts"),
    ],
)
def test_as_keras_writes_it(case3: Case, layer: str, data: str) -> None:
    model = f"(lambda l: (l.adapt(np.array({data})), L.Dense(3)(ops.cast(l(x), 'float32')))[1])({layer})"
    case3(model, (1,), dtypes=("string",), words=("apple", "pear", "nut"), kinds=("keras", "folder"), counts=False)


def test_the_architecture_alone(tmp_path: Path) -> None:
    model = read(unpacked(tmp_path, left_out="model.weights.h5"), ReadOptions())
    assert sorted(model.uninitialised) == ["d.bias", "d.weight"]


def test_weights_in_pieces(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    (folder / "model.weights.h5").rename(folder / "model_00000.weights.h5")
    index = {"metadata": {}, "weight_map": {"/layers/dense/vars": ["model_00000.weights.h5"]}}
    (folder / "model.weights.json").write_text(json.dumps(index))
    assert np.allclose(run(folder), WANTED, atol=1e-5)


def test_a_target_never_takes_the_place_of_a_member(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(netferry.NetferryError):
        netferry.convert(folder, folder / "model.weights.h5")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_links_as_model_hubs_keep_files(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "blobs", unpacked(tmp_path)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("..") / "blobs" / str(number))
    assert np.allclose(run(folder), WANTED, atol=1e-5)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    (folder / "model.weights.h5").rename(tmp_path / "elsewhere.h5")
    (folder / "model.weights.h5").symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(UnsafeFile, match="leads out of the folder"):
        read(folder, ReadOptions())


@pytest.mark.parametrize("name", ["../m", "/etc/passwd", "a/../../m", "..", "m\0", "a\\b"])
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    folder = Folder(unpacked(tmp_path), Limits())
    assert name not in folder
    with pytest.raises(UnsafeFile, match="not inside"):
        folder.text(name)


def test_limits_and_what_is_no_such_folder(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    with pytest.raises(LimitExceeded, match="text_bytes"):
        read(folder, ReadOptions(limits=Limits(text_bytes=50)))
    with pytest.raises(MalformedFile, match="no 'nothing'"):
        Folder(folder, Limits()).text("nothing")
    (folder / "config.json").write_text("{")
    with pytest.raises(FormatError):
        read(folder, ReadOptions())
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="not a regular file") as error:
        detect(folder)
    assert "config.json" in str(error.value.hint)
