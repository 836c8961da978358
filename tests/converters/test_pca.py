"""VGGish's postprocessing against the release's own lines in NumPy; files that are no PCA."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.converters.pca import MEANS, VECTORS, add_postprocess, read_pca
from netferry.errors import InputError, MalformedFile, NetferryError, UnsafeFile, UsageError
from netferry.runtime.session import Session
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source


def written(path: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A file of the layout of vggish_pca_params.npz: float64, means as a column."""
    rng = np.random.default_rng(seed)
    vectors = np.asfortranarray(rng.normal(0, 0.2, (128, 128)))
    means = rng.normal(0, 0.5, (128, 1))
    np.savez(path, pca_eigen_vectors=vectors, pca_means=means)
    return vectors, means


def embedder(size: int = 128) -> Model:
    b = Builder("net")
    x = b.input("x", ("n", size))
    with b.layer("fc2", "Dense"):
        y = b.op("Mul", x, 1.0)
    b.output(y, "embedding")
    b.finish()
    return Model(ir.Model(b.graph, ir_version=CANONICAL_IR), source=Source("onnx"))


def release(embeddings: np.ndarray, vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """What vggish_postprocess.py computes."""
    applied = np.dot(vectors, (embeddings.T - means)).T
    clipped = np.clip(applied, -2.0, 2.0)
    return ((clipped - -2.0) * (255.0 / (2.0 - -2.0))).astype(np.uint8)


def test_postprocess(tmp_path: Path) -> None:
    vectors, means = written(tmp_path / "pca.npz")
    model = embedder()
    add_postprocess(model, read_pca(tmp_path / "pca.npz"))
    netferry.save(model, tmp_path / "n.onnx")
    x = np.random.default_rng(1).normal(0, 1, (50, 128)).astype(np.float32)
    got = Session(tmp_path / "n.onnx", "cpu").run({"x": x})
    (name,) = got
    wanted = release(x.astype(np.float64), vectors, means)
    assert got[name].dtype == np.uint8
    assert {0, 255} <= set(np.unique(wanted))
    difference = np.abs(got[name].astype(int) - wanted)
    assert difference.max() <= 1  # float32 may fall on the other side of a whole number
    assert (difference > 0).mean() < 1e-3


@pytest.mark.slow
def test_the_zoos_vggish_with_front_end_and_postprocess(tmp_path: Path) -> None:
    from fixtures import sounds

    vectors, means = written(tmp_path / "pca.npz")
    netferry.zoo.build("vggish", tmp_path / "v.onnx", front_end=True, postprocess=tmp_path / "pca.npz")
    sounds.write(tmp_path / "s", 1)
    netferry.features(tmp_path / "v.onnx", tmp_path / "s", tmp_path / "f.npz", layers=["fc2", "postprocess"])
    with np.load(tmp_path / "f.npz") as found:
        assert found["fc2"].shape == found["postprocess"].shape == (3, 128)
        assert 0 <= found["postprocess"].min() < found["postprocess"].max() <= 255
    waveform = np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)
    netferry.zoo.build("vggish", tmp_path / "plain.onnx", front_end=True, check="structure")
    embedding = next(iter(Session(tmp_path / "plain.onnx", "cpu").run({"waveform": waveform}).values()))
    whole = next(iter(Session(tmp_path / "v.onnx", "cpu").run({"waveform": waveform}).values()))
    assert embedding.shape == whole.shape == (1, 128)  # one second is one patch
    assert np.abs(whole.astype(int) - release(embedding.astype(np.float64), vectors, means)).max() <= 1


def test_only_for_embeddings(tmp_path: Path) -> None:
    written(tmp_path / "pca.npz")
    with pytest.raises(UsageError, match="128"):
        add_postprocess(embedder(64), read_pca(tmp_path / "pca.npz"))


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def hostile() -> dict[str, dict[str, bytes]]:
    good = io.BytesIO()
    np.save(good, np.eye(128))
    claims = io.BytesIO()  # a header of 2^40 numbers, and none behind it
    np.lib.format.write_array_header_1_0(claims, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**20)})
    code = io.BytesIO()
    np.lib.format.write_array_header_1_0(code, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    code.write(pickle.dumps([_Code()]))
    nan = io.BytesIO()
    np.save(nan, np.full((128, 1), np.nan))
    wide = io.BytesIO()
    np.save(wide, np.zeros((128, 2)))
    words = io.BytesIO()
    np.save(words, np.array(["a"] * 128))
    return {
        "no-means": {VECTORS: good.getvalue()},
        "claims-too-much": {VECTORS: claims.getvalue(), MEANS: good.getvalue()},
        "objects": {VECTORS: code.getvalue(), MEANS: good.getvalue()},
        "nan": {VECTORS: good.getvalue(), MEANS: nan.getvalue()},
        "shapes": {VECTORS: good.getvalue(), MEANS: wide.getvalue()},
        "words": {VECTORS: good.getvalue(), MEANS: words.getvalue()},
        "garbage": {VECTORS: b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000), MEANS: b""},
    }


@pytest.mark.parametrize("case", hostile())
def test_hostile_files(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        for name, content in hostile()[case].items():
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(UnsafeFile if case == "objects" else MalformedFile):
        read_pca(tmp_path / "p.npz")
    assert "code ran" not in capfd.readouterr().out


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(MalformedFile):
        read_pca(tmp_path / "p.npz")
    with pytest.raises(InputError):
        read_pca(tmp_path / "gone.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{VECTORS}.npy", bytes(65 << 20))
    with pytest.raises(NetferryError, match="more than any"):
        read_pca(tmp_path / "bomb.npz")
