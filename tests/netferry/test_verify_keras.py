"""``netferry verify`` of Keras files: the real Keras, of both generations, runs the source."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.numpy_helper
import pytest

import netferry
from tests.converters.keras.oracle import Keras, tensorflow_python
from tests.netferry.test_verify import damaged

NESTED = """keras.Model(x, L.Dense(4, activation='softmax', name='scores')(L.Flatten(name='flat')(
    keras.Sequential([L.Conv2D(6, 3, padding='same', activation='relu', name='inner_conv'),
                      L.BatchNormalization(name='inner_norm')], name='block')(
        L.Conv2D(5, 3, strides=2, padding='same', name='conv')(x)))))"""
RECURRENT = "keras.Model(x, L.Dense(3, name='scores')(L.LSTM(5, return_sequences=True, name='lstm')(x)))"
EMBEDDED = "keras.Model(x, L.Dense(3, name='scores')(L.GRU(5, name='gru')(L.Embedding(40, 6, name='words')(x))))"


@pytest.fixture(params=[pytest.param(2, id="keras2"), pytest.param(3, id="keras3")], scope="module")
def keras(request: pytest.FixtureRequest) -> Iterator[Keras]:
    child = Keras(request.param)
    yield child
    child.close()


def keras_model(keras: Keras, folder: Path, model: str, shape: tuple[int | None, ...], dtype: str = "float32") -> str:
    facts = keras.make(
        model=model, shapes=[shape], dtypes=[dtype], folder=str(folder), seed=7, length=6, scale=1.0, low=0, high=8,
        zeros=False, nested=False,
    )  # fmt: skip
    return str(facts["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["h5", "keras", "json"])
def test_keras_agrees_in_every_file(keras: Keras, tmp_path: Path, kind: str) -> None:
    weights = keras_model(keras, tmp_path, RECURRENT, (None, 4))
    files = [tmp_path / f"model.{kind}", *([tmp_path / weights] if kind == "json" else [])]
    target = tmp_path / "net.onnx"
    netferry.convert(files[0], target, *files[1:])
    result = netferry.verify(files[0], target, *files[1:], python=tensorflow_python(), bisect=True, rtol=1e-5)
    assert result["agrees"]
    assert result["source"]["run_by"].startswith("tf_keras 2" if keras.generation == 2 else "keras 3")
    assert {tuple(c["inputs"]["in0"]) for c in result["cases"]} == {(1, 5, 4), (1, 8, 4), (3, 5, 4), (3, 8, 4)}
    assert result["bisect"]["layer"] is None
    assert result["bisect"]["compared"] >= 2
    if kind == "keras":  # the same, unpacked
        with zipfile.ZipFile(files[0]) as archive:
            archive.extractall(tmp_path / "folder")
        assert netferry.verify(tmp_path / "folder", target, python=tensorflow_python(), rtol=1e-5)["agrees"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "shape", "dtype", "weight", "layer"),
    [
        pytest.param(NESTED, (9, 9, 3), "float32", "block/inner_conv.kernel", "block/inner_conv", id="nested"),
        pytest.param(NESTED, (9, 9, 3), "float32", "scores.kernel", "scores", id="after-flatten"),
        pytest.param(RECURRENT, (None, 4), "float32", "lstm.kernel", "lstm", id="lstm"),
        pytest.param(EMBEDDED, (None,), "int32", "words.embeddings", "words", id="embedding"),
    ],
)
def test_keras_names_the_damaged_layer(
    keras: Keras, tmp_path: Path, model: str, shape: tuple[int | None, ...], dtype: str, weight: str, layer: str
) -> None:
    keras_model(keras, tmp_path, model, shape, dtype)
    target = tmp_path / "net.onnx"
    netferry.convert(tmp_path / "model.h5", target)
    names = [t.name for t in onnx.load(target).graph.initializer]
    chosen = next((n for n in names if n == weight), None) or next(n for n in names if n.startswith(f"{layer}."))
    bad = damaged(target, tmp_path / "bad.onnx", chosen)
    python = tensorflow_python()
    found = netferry.verify(tmp_path / "model.h5", bad, python=python, seeds=1, bisect=True)
    assert not found["agrees"]
    assert found["bisect"]["layer"] == layer


# what is refused -----------------------------------------------------------------------------------------------
