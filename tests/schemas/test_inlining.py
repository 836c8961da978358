"""Functions that cannot be written out where they are called: typed errors, and the model as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from netferry import api
from netferry.errors import UnsupportedError
from netferry.schemas.inlining import write_out_functions


def _model(opset: int, function: onnx.FunctionProto, call: onnx.NodeProto) -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", "C", 2]) for n in ("x", "y")]
    held = [numpy_helper.from_array(np.ones(2, np.float32), n) for n in ("s", "b")]
    graph = helper.make_graph([call], "net", info[:1], info[1:], held)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=10)


def _behind() -> onnx.ModelProto:
    """A function of another opset than the model's, whose operator needs a size that no function knows."""
    node = helper.make_node("GroupNormalization", ["a", "s", "b"], ["c"], num_groups=2)
    function = helper.make_function("own", "f", ["a", "s", "b"], ["c"], [node], [helper.make_opsetid("", 18)])
    return _model(20, function, helper.make_node("f", ["x", "s", "b"], ["y"], domain="own"))


def _given_a_graph() -> onnx.ModelProto:
    """A function whose branch is a setting of the call."""
    choice = helper.make_node("If", ["yes"], ["c"])
    for name in ("then_branch", "else_branch"):
        choice.attribute.add(name=name, ref_attr_name="branch", type=onnx.AttributeProto.GRAPH)
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    imports = [helper.make_opsetid("", 21)]
    function = helper.make_function("own", "f", ["a"], ["c"], [yes, choice], imports, ["branch"])
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "branch", [], [helper.make_tensor_value_info("r", 1, None)]
    )
    return _model(21, function, helper.make_node("f", ["x"], ["y"], domain="own", branch=branch))


def _saved(model: onnx.ModelProto, folder: Path) -> Path:
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def test_a_function_of_another_opset(tmp_path: Path) -> None:
    model = api.load(_saved(_behind(), tmp_path))
    with pytest.raises(UnsupportedError, match="Opset mismatch"):
        write_out_functions(model.ir)
    assert list(model.ir.functions) == [("own", "f", "")]
    pytest.importorskip("torch", reason="torch is not installed")
    api.to_torch(model)  # said at the model's opset first
    assert list(model.ir.functions) == [("own", "f", "")]


def test_a_function_that_is_given_a_graph(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    model = api.load(_saved(_given_a_graph(), tmp_path))
    with pytest.raises(UnsupportedError, match="cannot be written out"):
        api.to_torch(model)
    assert list(model.ir.functions) == [("own", "f", "")]
