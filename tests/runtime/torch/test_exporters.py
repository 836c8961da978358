"""What torch's two exporters write of plain modules: the same learnables, buffers, names and gradients come back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netferry
from netferry import api
from netferry.errors import UnsupportedError, UnsupportedLayer
from netferry.runtime.torch.source.write import read_source
from tests.runtime.torch.exporters import (
    Attends,
    Grouped,
    Items,
    Layers,
    Loose,
    Table,
    Tied,
    Tokens,
    Twice,
    Zeros,
    comes_back,
    parameters_of,
    same_gradients,
    seeded,
    written,
)
from tests.runtime.torch.graphs import by_onnxruntime

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        pytest.param(Tokens, (3, 5, 4), id="tokens-and-buffers"),
        pytest.param(Items, (3, 4), id="list-of-parameters"),
        pytest.param(Twice, (3, 4), id="module-called-twice"),
        pytest.param(Table, (3, 2, 4), id="table"),
    ],
)
def test_what_learns_is_what_learnt(kind: type[nn.Module], shape: tuple[int, ...], tmp_path: Path) -> None:
    """Names and shapes of learnables, outputs (1e-5), gradients, the way back, and the written source."""
    native, x = seeded(kind), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = netferry.load(written(native, x, tmp_path / "net.onnx"))
    module = model.to_torch().eval()
    assert parameters_of(module) == parameters_of(native)
    api.export(model, tmp_path / "source", to="torch-source")
    assert parameters_of(read_source(tmp_path / "source")) == parameters_of(native)
    comes_back(model, module, native, x)
    with torch.no_grad():
        for name, parameter in native.named_parameters():
            parameter.copy_(module.get_parameter(name))
    same_gradients(module, native, x)


def test_a_module_called_twice_is_one_module(tmp_path: Path) -> None:
    """Also after .double(), which gives each module buffers of its own: both calls move the same statistics."""
    native, x = seeded(Twice), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    module = netferry.load(written(native, x, tmp_path / "net.onnx")).to_torch().double().train()
    assert set(module.state_dict()) == set(native.state_dict())
    module(x.double())
    native.double().train()(x.double())
    torch.testing.assert_close(module.state_dict(), native.state_dict())


def test_attention_keeps_its_names(tmp_path: Path) -> None:
    """So the state of torch's own loads; a norm without a bias has none in the source either."""
    native, x = seeded(Attends), torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    model = netferry.load(written(native, x, tmp_path / "net.onnx"))
    names = set(native.state_dict())
    assert set(model.to_torch().state_dict()) == names
    api.export(model, tmp_path / "source", to="torch-source")
    source = read_source(tmp_path / "source")
    assert set(parameters_of(source)) == names
    assert set(source.state_dict()) == names


def test_what_is_zero_or_computed_from_parameters_stays() -> None:
    """torch's exporter may fold constants, but not parameters: not a zero bias, not an embedding of positions; and
    dropout, which does nothing in the eval mode that it traces, acts in training."""
    native, i = seeded(Zeros), torch.tensor([[1, 4, 2, 2, 0], [8, 0, 3, 1, 7]])
    model = netferry.load(native, example_inputs=i)
    native.eval()
    module = model.to_torch().eval()
    assert parameters_of(module) == parameters_of(native)
    with torch.no_grad():
        torch.testing.assert_close(module(i), native(i), rtol=1e-5, atol=1e-6)
        got = torch.from_numpy(by_onnxruntime(model, i.numpy())[0])
        torch.testing.assert_close(got, native(i), rtol=1e-5, atol=1e-6)
        assert not torch.equal(module.train()(i), module(i))
    drops = [m for one in (module, native) for m in one.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in drops] == [0.25, 0.25]
    for one in drops:
        one.p = 0.0
    same_gradients(module, native, i)


def test_parameters_that_no_layer_of_torch_holds_keep_their_names() -> None:
    """Weights of cells, the network's own bias behind a tied head; one that is called like an input learns, too."""
    native = seeded(Loose)
    i, x = torch.tensor([[1, 4, 2], [8, 0, 3]]), torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    model = netferry.load(native, example_inputs=(i, x))
    module = model.to_torch()
    found = parameters_of(module)
    assert found.pop("scale_1") == (4,)
    assert found == {name: shape for name, shape in parameters_of(native).items() if name != "scale"}
    same_gradients(module, native, i, x, renamed={"scale": "scale_1"})


def test_dropouts_of_other_kinds_stay() -> None:
    native = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Dropout2d(0.25), nn.AlphaDropout(0.125), nn.Flatten(2), nn.Conv1d(3, 4, 3),
        nn.Dropout1d(0.5),
    ).eval()  # fmt: skip
    x = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    module = netferry.load(native, example_inputs=x).to_torch().eval()
    drops = [m for m in module.modules() if "Dropout" in type(m).__name__]
    assert [(type(m), m.p) for m in drops] == [(nn.Dropout2d, 0.25), (nn.AlphaDropout, 0.125), (nn.Dropout1d, 0.5)]
    torch.testing.assert_close(module(x), native(x), rtol=1e-5, atol=1e-6)
    torch.manual_seed(3)
    found = module.train()(x)
    assert {bool((channel == 0).all()) for channel in found.flatten(0, 1)} == {True, False}


def test_projections_are_refused() -> None:
    """torch's exporter leaves an LSTM's projection out without a word."""
    native = nn.LSTM(4, 6, proj_size=3, batch_first=True)
    with pytest.raises(UnsupportedError, match="proj_size"):
        netferry.load(native, example_inputs=torch.zeros(2, 5, 4))


@pytest.mark.slow
@pytest.mark.parametrize(("optimize", "why"), [(False, "do not fit each other"), (True, "first state has 6 numbers")])
def test_files_that_lost_a_projection_are_refused(tmp_path: Path, optimize: bool, why: str) -> None:
    """onnxruntime does not run them either."""
    native, x = nn.LSTM(4, 6, proj_size=3, batch_first=True), torch.zeros(2, 5, 4)
    path = tmp_path / "net.onnx"
    torch.onnx.export(native.eval(), (x,), path, dynamo=True, optimize=optimize, opset_version=20, verbose=False)
    with pytest.raises(UnsupportedLayer, match=why):
        netferry.load(path).to_torch()


@pytest.mark.parametrize("fold", [False, True], ids=["as-they-are", "folded"])
@pytest.mark.parametrize(
    ("kind", "both", "starts"),
    [
        pytest.param(nn.LSTM, True, False, id="lstm-both-ways"),
        pytest.param(nn.GRU, True, False, id="gru-both-ways"),
        pytest.param(nn.RNN, False, False, id="rnn"),
        pytest.param(nn.LSTM, False, True, id="lstm-with-states"),
        pytest.param(nn.GRU, True, True, id="gru-with-states"),
    ],
)
def test_layers_of_a_recurrent_module_are_one_module(
    kind: type[nn.RNNBase], both: bool, starts: bool, fold: bool, tmp_path: Path
) -> None:
    """Names of two layers as the native's, outputs (1e-5) at another batch, the way back, source and program."""
    torch.manual_seed(0)
    native, x = Layers(kind, both=both, starts=starts), torch.randn(3, 5, 3)
    model = netferry.load(written(native, x[:2], tmp_path / "net.onnx", fold=fold))
    module = model.to_torch().eval()
    assert type(module.get_submodule("r")) is kind
    assert parameters_of(module) == parameters_of(native)
    for key, value in native.state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key
    for target, name in (("torch-source", "source"), ("torch-export", "net.pt2")):
        api.export(model, tmp_path / name, to=target)
    comes_back(model, module, native, x)


@pytest.mark.parametrize(("opset", "fold"), [(11, True), (17, True), (17, False), (20, True)])
def test_group_norms_are_modules(opset: int, fold: bool, tmp_path: Path) -> None:
    """Written as InstanceNormalization, product and sum, whose weights the exporter folds into another shape."""
    native, x = seeded(Grouped), torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    model = netferry.load(written(native, x[:2], tmp_path / "net.onnx", fold=fold, opset=opset))
    module = model.to_torch().eval()
    assert type(module.get_submodule("norm")) is nn.GroupNorm
    assert parameters_of(module) == parameters_of(native)
    api.export(model, tmp_path / "source", to="torch-source")
    comes_back(model, module, native, x)
    with torch.no_grad():
        for name, parameter in native.named_parameters():
            parameter.copy_(module.get_parameter(name))
    same_gradients(module, native, x)


@pytest.mark.slow
def test_what_the_dynamo_exporter_merged_trains_apart(tmp_path: Path) -> None:
    """Layers that are copies of each other, norms of ones: the default export keeps one tensor of all equal ones. Ties
    stay; after training each gets a tensor of its own in the file."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4), nn.LayerNorm(4))
    native = nn.Sequential(Tied(), nn.Linear(9, 4), layer, copy.deepcopy(layer), nn.LayerNorm(4))
    for one in native.modules():
        if isinstance(one, nn.Linear) and one.bias is not None:
            nn.init.uniform_(one.bias)
    i = torch.tensor([[1, 4, 2], [8, 0, 3]])
    torch.onnx.export(native.eval(), (i,), tmp_path / "net.onnx", dynamo=True, opset_version=18, verbose=False)
    model = netferry.load(tmp_path / "net.onnx")
    count = len(model.graph.initializers)
    module = model.to_torch().eval()
    assert sorted(p.numel() for p in module.parameters()) == sorted(p.numel() for p in native.parameters())
    assert {n for n, _ in module.named_parameters()} >= {"3.0.weight", "3.2.bias", "4.weight"}
    with torch.no_grad():
        torch.testing.assert_close(module(i), native(i), rtol=1e-5, atol=1e-6)
        for parameter in module.parameters():
            parameter.add_(torch.rand_like(parameter))
        wanted = module(i)
    assert model.update_from(module)
    assert len(model.graph.initializers) > count
    torch.testing.assert_close(torch.from_numpy(by_onnxruntime(model, i.numpy())[0]), wanted, rtol=1e-5, atol=1e-5)
    again = model.to_torch().eval()
    with torch.no_grad():
        torch.testing.assert_close(again(i), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_norms_without_weights_are_modules_in_dynamo_files(tmp_path: Path) -> None:
    """torch's dynamo exporter computes their ones and zeros; statistics move in training, and these do not learn."""
    native, x = seeded(Grouped), torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.onnx.export(
        native.eval(), (x,), tmp_path / "net.onnx", dynamo=True, optimize=False, opset_version=18, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    module = netferry.load(tmp_path / "net.onnx").to_torch()
    assert type(module.get_submodule("bare")) is nn.BatchNorm2d
    assert parameters_of(module) == parameters_of(native)
    same_gradients(module, native, x)
    torch.testing.assert_close(module.get_buffer("bare.running_var"), native.get_buffer("bare.running_var"))


def test_source_of_a_quantized_network_is_judged_by_the_graph_as_written(tmp_path: Path) -> None:
    """onnxruntime's kernels on integers round elsewhere than the layers that the file describes."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    torch.manual_seed(0)
    attends = nn.Sequential(nn.Linear(8, 8), Attends(), nn.Linear(8, 8), nn.GELU(), Attends(), nn.Linear(8, 5))
    x = torch.randn(2, 5, 8)

    class Once(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter([{"x": x.numpy()}])

        def get_next(self) -> Any:
            return next(self.rows, None)

    source, target = written(attends, x, tmp_path / "net.onnx", fold=True), tmp_path / "int8.onnx"
    quantize_static(str(source), str(target), Once(), quant_format=QuantFormat.QDQ)
    assert api.export(netferry.load(target), tmp_path / "source", to="torch-source")["check"]["beside"] == "onnxruntime"


def test_tied_weights_that_the_exporter_folded_train_as_one(tmp_path: Path) -> None:
    """A head's weight, written as a transposed copy of the embedding's; both tensors of the file follow."""
    native, i = seeded(Tied), torch.tensor([[1, 4, 2], [8, 0, 3]])
    model = netferry.load(written(native, i, tmp_path / "net.onnx", fold=True))
    module = model.to_torch().eval()
    assert parameters_of(module) == parameters_of(native)
    same_gradients(module, native, i)
    module.float().eval()
    with torch.no_grad():
        module.get_parameter("words.weight").add_(torch.rand(9, 4))
        wanted = module(i)
    assert len(model.update_from(module)) == 2
    torch.testing.assert_close(torch.from_numpy(by_onnxruntime(model, i.numpy())[0]), wanted, rtol=1e-5, atol=1e-6)
