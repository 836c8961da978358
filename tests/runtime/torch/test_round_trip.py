"""Networks of real size: five steps of SGD, the weights back into the same graph, and onnxruntime agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from netferry import api, zoo
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of
from tests.converters.keras.oracle import Keras
from tests.shared import shared

Make = Callable[[Path, Callable[[int], Keras]], Model]
LSTM = "L.Dense(12)(L.LSTM(128)(L.LSTM(128, return_sequences=True)(L.Dense(64, activation='relu')(x))))"


class Transformer(nn.Module):
    """Token embedding, two encoder layers, a head over the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


def _zoo(name: str) -> Make:
    return lambda folder, keras_of: zoo.load(name, seed=0)


def _squeezenet(folder: Path, keras_of: Callable[[int], Keras]) -> Model:
    place = "squeezenet_v1.1"
    return api.load(shared("data", place, "deploy.prototxt"), shared("data", place, "squeezenet_v1.1.caffemodel"))


def _lstm(folder: Path, keras_of: Callable[[int], Keras]) -> Model:
    keras_of(3).make(
        model=LSTM, shapes=[(20, 16)], dtypes=["float32"], folder=str(folder), seed=7, length=20, scale=1.0, low=0,
        high=8, zeros=False, one_file=True,
    )  # fmt: skip
    return api.load(folder / "model.h5")


def _transformer(folder: Path, keras_of: Callable[[int], Keras]) -> Model:
    torch.manual_seed(0)
    return api.load(Transformer(), example_inputs=torch.zeros(2, 16, dtype=torch.int64))


def _whole(text: str | None) -> bool:
    return text is not None and "int" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(_zoo("resnet50"), (2, 224, 224, 3), id="resnet50"),
        pytest.param(_zoo("mobilenetv2"), (2, 224, 224, 3), id="mobilenetv2"),
        pytest.param(_squeezenet, (2, 3, 227, 227), id="squeezenet-caffe"),
        pytest.param(_lstm, (4, 20, 16), id="lstm-keras"),
        pytest.param(_transformer, (4, 16), id="transformer-torch"),
    ],
)
def test_five_steps(make: Make, shape: tuple[int, ...], keras_of: Callable[[int], Keras], tmp_path: Path) -> None:
    """Within 1e-5 of the largest output; what was frozen is the same to the bit; nodes, names and metadata stay."""
    model = make(tmp_path, keras_of)
    api.save(model, tmp_path / "before.onnx", check="structure")
    torch.manual_seed(1)
    given = model.inputs[0]
    x = torch.randint(1000, shape) if _whole(given.dtype) else torch.randn(shape) * 0.5
    module = api.to_torch(model).train()
    parameters = dict(module.named_parameters())
    frozen = list(parameters)[: len(parameters) // 3]
    for name in frozen:
        parameters[name].requires_grad_(False)
    kept = {name: parameters[name].detach().clone() for name in frozen}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        made = module(x)
        nn.functional.cross_entropy(made.flatten(1), torch.arange(shape[0])).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    places = {place.paths[0]: name for name, place in module.meta["netferry.places"].items() if len(place.paths) == 1}
    before = {name: np.array(array_of(model.graph.initializers[places[name]])) for name in frozen if name in places}
    changed = model.update_from(module.eval())
    assert changed
    assert not {places[name] for name in frozen if name in places} & set(changed)
    for name, values in kept.items():
        assert torch.equal(values, parameters[name])
    for name, values in before.items():
        assert np.array_equal(values, np.asarray(array_of(model.graph.initializers[places[name]])))
    api.save(model, tmp_path / "after.onnx", check="structure")
    old, new = (onnx.load(tmp_path / f"{which}.onnx") for which in ("before", "after"))
    assert [n.SerializeToString() for n in old.graph.node] == [n.SerializeToString() for n in new.graph.node]
    assert [(t.name, t.dims) for t in old.graph.initializer] == [(t.name, t.dims) for t in new.graph.initializer]
    session = ort.InferenceSession(tmp_path / "after.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want = module(x).numpy()
    got = np.asarray(session.run(None, {given.name: x.numpy()})[0])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * float(np.abs(want).max()))
