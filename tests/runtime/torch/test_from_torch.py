"""PyTorch to ONNX: programs and modules by torch's own exporter, weights from safetensors; pickles never."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netferry
from netferry.errors import (
    FormatError,
    MalformedFile,
    NetferryError,
    UnsafeFile,
    UnsupportedLayer,
    UsageError,
    WeightsError,
)
from netferry.schemas.layers import Role
from tests.runtime.torch.graphs import by_onnxruntime, convnet


class Net(nn.Module):
    """A convolution, a batch norm, a recurrent-free head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


def _net() -> Net:
    torch.manual_seed(0)
    return Net().train()


class Named(nn.Module):
    """Inputs by name, one of them a dict, as models of language take them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 5)

    def forward(
        self, x: torch.Tensor, more: dict[str, torch.Tensor], scale: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        y = self.head(x + more["a"]) * more["b"]
        return {"y": y if scale is None else y * scale}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by_name", [True, False], ids=["by-name", "in-order"])
def test_inputs_by_name_and_in_dicts(by_name: bool) -> None:
    net, generator = Named(), torch.Generator().manual_seed(0)
    x, a, b, scale = (torch.randn(1, n, generator=generator) for n in (4, 4, 5, 5))
    more = {"a": a, "b": b}
    example = {"x": x, "more": more, "scale": scale} if by_name else (x, more, scale)
    model = netferry.load(net, example_inputs=example)
    given = [torch.cat([t, t, t]) for t in (x, a, b, scale)]
    wanted = net(given[0], {"a": given[1], "b": given[2]}, given[3])["y"]
    torch.testing.assert_close(model.to_torch()(*given), wanted)


@pytest.mark.filterwarnings("ignore")
def test_a_module_becomes_a_model_and_a_module_again() -> None:
    """Names and values of parameters stay, the batch norm is not folded, the batch is dynamic."""
    net = _net()
    model = netferry.load(net, example_inputs=torch.zeros(1, 3, 8, 8))
    assert net.training
    assert model.inputs[0].shape is not None
    assert isinstance(model.inputs[0].shape[0], str)
    assert set(model.parameters(Role.LEARNABLE)) == {n for n, _ in net.named_parameters()}
    module = model.to_torch()
    assert {n for n, _ in module.named_parameters()} == {n for n, _ in net.named_parameters()}
    assert {type(m) for m in module.modules()} >= {nn.Conv2d, nn.BatchNorm2d, nn.Linear}
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = net.eval()(x)
        torch.testing.assert_close(module.eval()(x), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_onnxruntime(model, x.numpy())[0], want.numpy(), rtol=1e-5, atol=1e-6)


def test_a_module_without_examples_is_refused() -> None:
    with pytest.raises(UsageError):
        netferry.load(_net())


def _program(folder: Path) -> Path:
    from netferry.runtime.torch.program import program_of, write_program

    program = program_of(_net(), [torch.zeros(3, 3, 8, 8)], [("batch", 3, 8, 8)])
    write_program(program, folder / "net.pt2")
    return folder / "net.pt2"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_program_converts_in_a_process_of_its_own(tmp_path: Path) -> None:
    netferry.convert(_program(tmp_path), tmp_path / "net.onnx", optimize="none")
    model = netferry.load(tmp_path / "net.onnx")
    assert set(model.parameters(Role.LEARNABLE)) == {n for n, _ in _net().named_parameters()}
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = _net().eval()(x).numpy()
    np.testing.assert_allclose(by_onnxruntime(model, x.numpy())[0], want, rtol=1e-5, atol=1e-6)


def _changed(source: Path, target: Path, change: Any = None, add: dict[str, bytes] | None = None) -> Path:
    """The program with its JSON changed, or with members added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if change is not None and "/models/" in member.filename:
                document = json.loads(content)
                change(document)
                content = json.dumps(document).encode()
            new.writestr(member.filename, content)
        root = old.namelist()[0].split("/")[0]
        for name, content in (add or {}).items():
            new.writestr(f"{root}/{name}", content)
    return target


def _size(text: str) -> Any:
    def change(document: dict[str, Any]) -> None:
        value = next(iter(document["graph_module"]["graph"]["tensor_values"].values()))
        value["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}

    return change


def _target(text: str) -> Any:
    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = text

    return change


@pytest.mark.filterwarnings("ignore")
def test_programs_that_ask_for_more_are_refused_before_torch_sees_them(tmp_path: Path) -> None:
    """Code in sizes, foreign operators, libraries, pickled objects: one typed error each, and nothing runs."""
    good, bad = _program(tmp_path), tmp_path / "bad.pt2"
    mark = tmp_path / "ran"
    code = f"__import__('pathlib').Path('{mark}').touch()"
    rows: list[tuple[type[NetferryError], dict[str, Any]]] = [
        (UnsafeFile, {"change": _size(code)}),
        (UnsafeFile, {"change": _size("().__class__")}),
        (UnsafeFile, {"change": _size("s1.func")}),
        (UnsafeFile, {"change": _size("lambdify(s1)")}),
        (UnsupportedLayer, {"change": _target("torch.hub.load")}),
        (UnsupportedLayer, {"change": _target("torch.ops.aten.conv2d.default.__call__")}),
        (UnsafeFile, {"add": {"data/aotinductor/model/x.so": b"ELF"}}),
        (UnsafeFile, {"add": {"data/constants/custom_obj_0": b"x"}}),
        (UnsafeFile, {"add": {"models/../../x": b"x"}}),
        (MalformedFile, {"add": {"models/other.json": b"{}"}}),
        (MalformedFile, {"add": {"models/other.json": b"{"}}),
    ]
    for error, settings in rows:
        _changed(good, bad, **settings)
        with pytest.raises(error):
            netferry.load(bad)
    assert not mark.exists()
    bad.write_bytes(good.read_bytes()[:-200])
    with pytest.raises(FormatError):
        netferry.load(bad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_pickled_sample_inputs_do_not_run(tmp_path: Path) -> None:
    """Where torch would fall back to loading any object, the child does not."""
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    import io

    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    good, bad = _program(tmp_path), tmp_path / "bad.pt2"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w") as new:
        for member in old.infolist():
            evil = "sample_inputs" in member.filename
            new.writestr(member.filename, buffer.getvalue() if evil else old.read(member))
    with pytest.raises(NetferryError):
        netferry.load(bad)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "pytorch_model.bin", "old.pt"])
def test_pickles_are_refused_with_the_safe_way(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "old.pt":
        path.write_bytes(pickle.dumps({"a": 1}, 2))
    else:
        torch.save(_net().state_dict(), path)
    with pytest.raises(UnsafeFile) as caught:
        netferry.load(path)
    assert "weights_only=True" in (caught.value.hint or "")


def test_weights_fill_an_architecture(tmp_path: Path) -> None:
    """By the names of the state dict; the file is checked whole before anything changes."""
    model, other = convnet(), convnet()
    module = other.to_torch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    other.update_from(module)
    written = other.save_weights(tmp_path / "net.safetensors")
    assert "block.conv1.weight" in written
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    assert model.load_weights(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(by_onnxruntime(model, x)[0], by_onnxruntime(other, x)[0])

    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "net.safetensors")
    before = by_onnxruntime(model, x)[0]
    short = {k: v for k, v in tensors.items() if k != "dense.bias"}
    rows = (
        ({**tensors, "more": torch.zeros(1)}, "more"), (short, "dense.bias"),
        ({**tensors, "dense.bias": torch.zeros(7)}, "shape"),
    )  # fmt: skip
    for wrong, word in rows:
        save_file(wrong, tmp_path / "wrong.safetensors")
        with pytest.raises(WeightsError) as caught:
            model.load_weights(tmp_path / "wrong.safetensors")
        assert word in str(caught.value)
    np.testing.assert_array_equal(by_onnxruntime(model, x)[0], before)
    assert model.load_weights(tmp_path / "net.safetensors", skip_missing=True) == []
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "net.safetensors").read_bytes()[:50])
    with pytest.raises(MalformedFile):
        model.load_weights(tmp_path / "cut.safetensors")


def test_weights_by_option_and_without_a_network(tmp_path: Path) -> None:
    model = convnet()
    netferry.save(model, tmp_path / "net.onnx", check="structure")
    model.save_weights(tmp_path / "net.safetensors")
    filled = netferry.load(tmp_path / "net.onnx", tmp_path / "net.safetensors")
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    np.testing.assert_array_equal(by_onnxruntime(filled, x)[0], by_onnxruntime(model, x)[0])
    with pytest.raises(UsageError):
        netferry.load(tmp_path / "net.safetensors")


class _Sequences(torch.nn.Module):
    def __init__(self, kind: Any, bidirectional: bool, bias: bool) -> None:
        super().__init__()
        self.rnn = kind(5, 6, bidirectional=bidirectional, batch_first=True, bias=bias)
        self.head = torch.nn.Linear(12 if bidirectional else 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both-ways"])
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
def test_recurrent_modules_come_back_as_they_were(kind: Any, bidirectional: bool, bias: bool) -> None:
    """torch's exporter slices the weights and puts their gates in ONNX's order; here they are torch's again."""
    torch.manual_seed(0)
    native = _Sequences(kind, bidirectional, bias).eval()
    x = torch.randn(3, 7, 5)
    model = netferry.load(native, example_inputs=x)
    module = model.to_torch().eval()
    assert type(module.get_submodule("rnn")) is kind
    assert {k: v.shape for k, v in module.state_dict().items()} == {k: v.shape for k, v in native.state_dict().items()}
    for key, value in native.state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key
    with torch.no_grad():
        torch.testing.assert_close(module(x), native(x), rtol=0, atol=1e-6)
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        wanted = module(x)
    assert model.update_from(module)
    with torch.no_grad():
        torch.testing.assert_close(model.to_torch().eval()(x), wanted, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", [False, True], ids=["module", "program"])
def test_what_takes_no_gradients_in_torch_takes_none_here(program: bool, tmp_path: Path) -> None:
    """A frozen batch norm of torch goes on counting, unlike Keras's."""
    torch.manual_seed(0)
    net = _net()
    for parameter in net.features.parameters():
        parameter.requires_grad_(False)
    source: Any = net
    if program:
        source = tmp_path / "net.pt2"
        torch.export.save(torch.export.export(net.eval(), (torch.zeros(2, 3, 8, 8),)), source)
    model = netferry.load(source, example_inputs=None if program else torch.zeros(2, 3, 8, 8))
    assert model.frozen == {"features.0.weight", "features.1.weight", "features.1.bias"}
    assert any("requires_grad=False" in note.message for note in model.notes)
    module = model.to_torch()
    assert {n for n, p in module.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    before = module.get_buffer("features.1.running_mean").clone()
    module.train()(torch.randn(2, 3, 8, 8))
    assert not torch.equal(module.get_buffer("features.1.running_mean"), before)
