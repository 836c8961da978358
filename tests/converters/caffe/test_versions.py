"""The same net in V0, V1 and V2 gives the same graph, and the same bytes but for the record of the source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import netferry
from netferry.runtime.session import Session

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"


def converted(folder: Path, name: str) -> onnx.ModelProto:
    target = folder / f"{name}.onnx"
    netferry.convert(FIXTURES / f"{name}.prototxt", target, FIXTURES / f"{name}.caffemodel", check="structure")
    return onnx.load(target)


@pytest.mark.parametrize("version", ["digits_v1", "digits_v0"])
def test_versions_give_the_same_graph(tmp_path: Path, version: str) -> None:
    new, old = converted(tmp_path, "digits"), converted(tmp_path, version)
    assert new.graph.SerializeToString() == old.graph.SerializeToString()
    facts = [{p.key: p.value for p in m.metadata_props if p.key != "netferry.source"} for m in (new, old)]
    assert facts[0] == facts[1]


def test_the_training_net_gives_the_deployed_one(tmp_path: Path) -> None:
    netferry.convert(
        FIXTURES / "digits_train_val.prototxt", tmp_path / "t.onnx", FIXTURES / "digits.caffemodel", check="structure"
    )
    deployed, training = converted(tmp_path, "digits"), onnx.load(tmp_path / "t.onnx")
    assert [n.op_type for n in deployed.graph.node] == [n.op_type for n in training.graph.node]
    assert [o.name for o in training.graph.output] == ["prob"]
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 1, 20, 20)).astype(np.float32)
    got = [Session(tmp_path / name).run({"data": x})["prob"] for name in ("t.onnx", "digits.onnx")]
    np.testing.assert_array_equal(*got)


def test_a_caffemodel_alone_is_enough_where_it_holds_the_settings(tmp_path: Path) -> None:
    netferry.convert(FIXTURES / "digits.caffemodel", tmp_path / "alone.onnx", check="structure")
    alone, both = onnx.load(tmp_path / "alone.onnx"), converted(tmp_path, "digits")
    assert alone.graph.SerializeToString() == both.graph.SerializeToString()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        target = tmp_path / name / "digits.onnx"
        netferry.convert(FIXTURES / "digits.prototxt", target, FIXTURES / "digits.caffemodel", check="structure")
        files.append(target.read_bytes())
    assert files[0] == files[1]
