"""Converts a Caffe net, runs it on onnxruntime and compares with what the original framework computed."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from netferry.converters.caffe.read import read
from netferry.converters.options import ReadOptions
from netferry.schemas.ir import ir
from netferry.schemas.model import Model

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One folder of the conformance set."""

    folder: Path
    info: dict[str, Any]

    @property
    def inputs(self) -> Arrays:
        return dict(np.load(self.folder / "input.npz"))

    @property
    def expected(self) -> Arrays:
        return dict(np.load(self.folder / "expected.npz"))

    def convert(self, **options: Any) -> Model:
        weights = self.info.get("model")
        given = ReadOptions(weights=self.folder / weights if weights else None, **options)
        return read(self.folder / self.info["prototxt"], given)


def case(folder: Path) -> Case:
    """Open a case."""
    return Case(folder, json.loads((folder / "case.json").read_text()))


class Runner:
    """A converted model in onnxruntime that also gives blobs inside, by name."""

    def __init__(self, model: Model, blobs: list[str] | None = None) -> None:
        model.require_values()
        graph = model.ir.graph
        present = {v.name for v in graph.outputs}
        for node in graph:
            for value in node.outputs:
                if value.name in (blobs or []) and value.name not in present:
                    graph.outputs.append(value)
        self.dims = {v.name or "": [d if isinstance(d, int) else d.value for d in v.shape or ()] for v in graph.inputs}
        ir.external_data.load_to_model(model.ir)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        proto = ir.to_proto(model.ir)
        onnx.checker.check_model(proto, full_check=True)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
        self.session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, feeds: Arrays) -> Arrays:
        """Run; feeds that the net does not have are left out."""
        names = [o.name for o in self.session.get_outputs()]
        known = {i.name for i in self.session.get_inputs()}
        results = self.session.run(names, {k: v for k, v in feeds.items() if k in known})
        return dict(zip(names, (np.asarray(r) for r in results), strict=True))


def agree(got: Arrays, want: Arrays, tolerance: dict[str, float], required: list[str]) -> None:
    """Compare by name, shape and value; ``required`` names must be there."""
    for name in [*required, *(n for n in want if n in got and n not in required)]:
        assert name in got, f"{name} is missing, there are {sorted(got)}"
        assert got[name].shape == want[name].shape, f"{name}: shape {got[name].shape}, expected {want[name].shape}"
        np.testing.assert_allclose(got[name], want[name], rtol=tolerance["rtol"], atol=tolerance["atol"], err_msg=name)


def rows(arrays: Arrays, runner: Runner, pick: Any) -> Arrays:
    """Another batch: ``pick`` takes rows along the axis named batch of every input that has one."""
    out: Arrays = {}
    for name, array in arrays.items():
        dims = runner.dims.get(name, [])
        axis = dims.index("batch") if "batch" in dims else None
        out[name] = array if axis is None else np.take(array, pick(array.shape[axis]), axis)
    return out


def agree_in_rows(got: Arrays, want: Arrays, batch: int, pick: Any, tolerance: dict[str, float]) -> None:
    """Compare outputs whose batch was picked from: each has one axis of ``batch`` entries that changed alike."""
    for name, array in want.items():
        if name not in got:
            continue
        chosen = len(pick(batch))
        axes = [i for i, (a, e) in enumerate(zip(got[name].shape, array.shape, strict=True)) if a != e]
        if not axes:
            assert batch == chosen or batch not in array.shape, f"{name}: {array.shape} does not follow the batch"
            continue
        assert len(axes) == 1, f"{name}: shape {got[name].shape} from {array.shape}"
        axis = axes[0]
        assert got[name].shape[axis] * batch == array.shape[axis] * chosen
        each = array.shape[axis] // batch  # a layer may merge the batch with other axes
        picked = np.concatenate([np.take(array, range(i * each, (i + 1) * each), axis) for i in pick(batch)], axis)
        np.testing.assert_allclose(got[name], picked, rtol=tolerance["rtol"], atol=tolerance["atol"], err_msg=name)


logging.getLogger("onnx_ir").setLevel(logging.ERROR)
