"""A network as source: plain torch, readable, the same outputs, in a process that has torch and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.torch_node_judge import cases, tensor
from netferry import api
from netferry.converters.passes.opset import to_opset
from netferry.errors import OutputError, UsageError
from netferry.runtime.torch.build import LOWEST_OPSET
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from tests.runtime.torch.alone import Alone
from tests.runtime.torch.graphs import convnet, model_of
from tests.runtime.torch.test_official import REFUSED, _rows


def _agrees(alone: Alone, model: Model, folder: Path, *inputs: Any) -> str:
    """Export, run alone, compare with the module in eval mode; returns the code."""
    api.export(model, folder, to="torch-source", check="none")
    module = api.to_torch(model).eval()
    given = [tensor(x) for x in inputs]
    with torch.no_grad():
        torch.manual_seed(0)
        want = module(*given)
    made = alone.run(folder, [given])[0]
    for got, wanted in zip(made, want if isinstance(want, tuple) else (want,), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6, equal_nan=True)
    return (folder / "model.py").read_text()


def test_reads_like_a_network_written_by_hand(alone: Alone, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 3, 12, 12)).astype(np.float32)
    code = _agrees(alone, convnet(), tmp_path / "net", x)
    made = code[code.index("class ") : code.index("TIED")].strip().splitlines()
    assert made == [
        "class G(nn.Module):",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        "        self.block = nn.Module()",
        "        self.block.conv1 = nn.Conv2d(3, 4, 3, padding=1)",
        "        self.block.bn = nn.BatchNorm2d(4, eps=0.001)",
        "        self.relu = nn.ReLU()",
        "        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)",
        "        self.pool = nn.MaxPool2d(2, stride=2)",
        "        self.gap = nn.AdaptiveAvgPool2d(1)",
        "        self.dense = nn.Linear(6, 5)",
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        "        x = self.block.conv1(x)",
        "        x = self.block.bn(x)",
        "        x = self.relu(x)",
        '        x = pad_same(x, mode="SAME_UPPER", kernel=[3, 3], strides=[2, 2], dilations=[1, 1])  # conv2',
        "        x = self.conv2(x)",
        "        x = self.pool(x)",
        "        x = self.gap(x)",
        "        x = x.flatten(1)  # flat",
        "        x = self.dense(x)",
        "        return x",
    ]
    assert "netferry" not in code[code.index('"""', 3) :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [row for row in _rows() if row.values[0] not in REFUSED])
def test_official_case(alone: Alone, name: str, tmp_path: Path) -> None:
    """Each operator as source gives what its module gives, on the official inputs."""
    if name.startswith(("test_bernoulli", "test_training_dropout", "test_dropout_random")):
        pytest.skip("drawn at random: nothing to compare")
    case = cases()[name]
    model = Model(ir.from_proto(case.model), source=Source("onnx"))
    to_opset(model, max(model.opset, LOWEST_OPSET))
    _agrees(alone, model, tmp_path, *case.data_sets[0][0])


def test_ties_are_lines_of_code(alone: Alone, tmp_path: Path) -> None:
    text = """g (int64[N] i) => (float[N, 9] y) { e = Gather (table, i)  y = Gemm <transB = 1> (e, table) }"""
    code = _agrees(alone, model_of(text, {"table": (9, 4)}), tmp_path, np.array([1, -2, 5]))
    assert "self.gemm.weight = self.gather.weight" in code


def test_branches_are_methods(alone: Alone, tmp_path: Path) -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) {
      s = ReduceSum <keepdims = 0> (x)  zero = Constant <value_float = 0.0> ()  c = Greater (s, zero)
      y = If (c) <then_branch = t () => (float[N, 4] a) { k = MatMul (x, w)  a = Relu (k) },
                  else_branch = e () => (float[N, 4] b) { b = Neg (x) }> }"""
    for sign in (1, -1):
        x = np.full((2, 4), sign, np.float32)
        code = _agrees(alone, model_of(text, {"w": (4, 4)}), tmp_path / str(sign), x)
    assert "        if y:" in code or "        if x_1:" in code or "if " in code
    assert "nn.Linear(4, 4, bias=False)" in code


def test_names_from_the_file_cannot_become_code(alone: Alone, tmp_path: Path) -> None:
    """Quotes, newlines and brackets in names of the network, its values and layers stay names."""
    model = convnet()
    evil = '"""\nimport os; os._exit(7)\n"""'
    model.graph.name = evil
    model.graph.inputs[0].name = f"x{evil}"
    for node in model.graph:
        for key in list(node.metadata_props):
            node.metadata_props[key] += evil
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    code = _agrees(alone, model, tmp_path, x)
    names = {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)}
    assert "os" not in names


def test_the_check_compares_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netferry.errors import CheckFailed
    from netferry.runtime.torch.source import write

    found = api.export(convnet(), tmp_path / "good", to="torch-source")
    assert found["check"]["beside"] == "onnxruntime"
    assert max(found["check"]["max_rel"].values()) <= 1e-5
    assert sorted(p.name for p in (tmp_path / "good").iterdir()) == ["model.py", "weights.safetensors"]
    monkeypatch.setattr(write, "write_tensors", lambda tensors, path, real=write.write_tensors: real(
        {k: v * 1.01 if v.is_floating_point() else v for k, v in tensors.items()}, path))  # fmt: skip
    with pytest.raises(CheckFailed):
        api.export(convnet(), tmp_path / "bad", to="torch-source")
    assert not (tmp_path / "bad").exists()


def test_wrong_calls(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        api.export(convnet(), tmp_path / "file", to="torch-source")
    with pytest.raises(UsageError):
        api.export(convnet(), tmp_path / "net", to="keras")
    with pytest.raises(UsageError):
        api.export(convnet(), tmp_path / "net.pt", to="torch-export")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_program_keeps_the_batch_dynamic(tmp_path: Path) -> None:
    found = api.export(convnet(), tmp_path / "net.pt2", to="torch-export")
    assert max(found["check"]["max_rel"].values()) <= 1e-5
    program = torch.export.load(tmp_path / "net.pt2")
    assert program.module()(torch.zeros(5, 3, 12, 12)).shape == (5, 5)
    assert "block.conv1.weight" in program.state_dict
