"""The official node tests of ONNX as data: load at their own opset, carry to another, compare with their outputs."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort

from netferry.converters.passes.opset import to_opset
from netferry.errors import UnsupportedOpset
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER
from netferry.schemas.model import Model, Source

OPSETS = range(11, 27)
_RANDOM = ("bernoulli", "dropout", "random", "multinomial", "train_", "adam", "adagrad", "momentum", "gradient")


@functools.cache
def cases() -> dict[str, Any]:
    """Node tests by name, without written-out duplicates, random operators and other domains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    return {
        c.name: c
        for c in found
        if "expanded" not in c.name
        and all(o.domain == "" for o in c.model.opset_import)
        and 7 <= c.model.opset_import[0].version <= 28
        and not any(word in c.name for word in _RANDOM)
    }


def variants(case: Any) -> Iterator[tuple[str, onnx.ModelProto, list[Any], list[Any]]]:
    """The case as it is, and with all inputs but the first as initializers (axes, sizes and shapes known)."""
    inputs, outputs = case.data_sets[0]
    inputs, outputs = [_array(x) for x in inputs], [_array(x) for x in outputs]
    yield "", case.model, inputs, outputs
    graph = case.model.graph
    if len(graph.input) > 1 and all(isinstance(x, np.ndarray) for x in inputs[1:]):
        copy = onnx.ModelProto.FromString(case.model.SerializeToString())
        for info, array in zip(list(copy.graph.input)[1:], inputs[1:], strict=True):
            tensor = _tensor(array, info)
            copy.graph.initializer.append(tensor)
            copy.graph.input.remove(info)
        yield "/const", copy, list(inputs[:1]), list(outputs)


def _array(x: Any) -> Any:
    if isinstance(x, onnx.TensorProto):
        return onnx.numpy_helper.to_array(x)
    return np.asarray(x) if isinstance(x, np.generic) else x


def _tensor(array: np.ndarray, info: onnx.ValueInfoProto) -> onnx.TensorProto:
    kind = info.type.tensor_type.elem_type
    tensor = onnx.numpy_helper.from_array(array, info.name)
    if tensor.data_type != kind:
        raise AssertionError(f"{info.name}: {tensor.data_type} is not {kind}")
    return tensor


def as_model(proto: onnx.ModelProto) -> Model:
    """The proto as a model of ours."""
    return Model(ir.from_proto(proto), source=Source("onnx"))


def carried(proto: onnx.ModelProto, target: int) -> onnx.ModelProto:
    """The proto at another opset, with the IR version that the runtime reads; names and provenance must be kept."""
    model = as_model(proto)
    for i, node in enumerate(model.graph.all_nodes()):
        node.name = node.name or f"node_{i}"
        node.metadata_props[LAYER] = f"layer_{i}"
    before = [v.name for v in model.graph.outputs]
    to_opset(model, target)
    nodes = list(model.graph.all_nodes())
    names = [n.name for n in nodes]
    values = [v.name for n in nodes for v in n.outputs if v.name]
    if [v.name for v in model.graph.outputs] != before or len(set(names)) < len(names):
        raise AssertionError("names of outputs or nodes were lost")
    if not all(n.metadata_props.get(LAYER) for n in nodes) or len(set(values)) < len(values):
        raise AssertionError("provenance was lost, or two values share a name")
    out = ir.to_proto(model.ir)
    out.ir_version = 10 if target <= 22 else 13
    return out


def run(proto: onnx.ModelProto, inputs: list[Any]) -> tuple[list[Any] | None, str]:
    """Outputs by onnxruntime, else by ONNX's reference; None and the reason where neither runs it."""
    held = {t.name for t in proto.graph.initializer}
    feeds = {i.name: x for i, x in zip([i for i in proto.graph.input if i.name not in held], inputs, strict=True)}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    why = ""
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds), "onnxruntime"
    except Exception as error:
        why = str(error)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return list(onnx.reference.ReferenceEvaluator(proto).run(None, feeds)), "reference"
    except Exception as error:
        return None, f"{why[:300]} | {str(error)[:200]}"


def outputs_of(proto: onnx.ModelProto, seed: int = 0) -> list[Any]:
    """Outputs for seeded inputs; a dynamic dimension is 3."""
    rng = np.random.default_rng(seed)
    held = {t.name for t in proto.graph.initializer}
    feeds = []
    for put in proto.graph.input:
        if put.name not in held:
            kind = put.type.tensor_type
            shape = [d.dim_value or 3 for d in kind.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            feeds.append((rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, 2, shape)).astype(dtype))
    outputs, why = run(proto, feeds)
    assert outputs is not None, why
    return outputs


def differs(got: list[Any], want: list[Any], rtol: float, atol: float) -> str | None:
    """The first difference, None where there is none."""
    if len(got) != len(want):
        return f"{len(got)} outputs, not {len(want)}"
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        if isinstance(b, list):
            if not isinstance(a, list) or (text := differs(a, b, rtol, atol)):
                return f"output {i}: {text if isinstance(a, list) else 'not a sequence'}"
            continue
        if b is None or a is None:
            if (a is None) != (b is None):
                return f"output {i}: None"
            continue
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape:
            return f"output {i}: shape {x.shape}, not {y.shape}"
        if x.dtype != y.dtype and {x.dtype.kind, y.dtype.kind} != {"O", "U"}:
            return f"output {i}: {x.dtype}, not {y.dtype}"
        if y.dtype.kind in "OUS":
            if [str(s) for s in x.reshape(-1)] != [str(s) for s in y.reshape(-1)]:
                return f"output {i}: other strings"
            continue
        if y.dtype.kind not in "biufc":  # bfloat16, float8, int4
            x, y = x.astype(np.float32), y.astype(np.float32)
        if not np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True):
            return f"output {i}: values differ by {np.max(np.abs(x.astype(np.float64) - y.astype(np.float64)))}"
    return None


def sound(proto: onnx.ModelProto) -> bool:
    """Whether the case itself passes the full check: a few of the official ones do not."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception:
        return False
    return True


def outcome(case: Any, proto: onnx.ModelProto, inputs: list[Any], outputs: list[Any], target: int) -> tuple[str, str]:
    """(equal, refused, wrong, invalid or unrun, detail) of one case at one opset."""
    try:
        out = carried(proto, target)
    except UnsupportedOpset as error:
        return "refused", str(error)
    try:
        onnx.checker.check_model(out, full_check=sound(proto))
    except Exception as error:
        return "invalid", str(error)[:300]
    got, by = run(out, inputs)
    if got is None:
        return "unrun", by
    wrong = differs(got, outputs, max(case.rtol, 1e-3), max(case.atol, 1e-5))
    if wrong and by == "onnxruntime":  # the runtime's own fault? the reference decides
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                feeds = {i.name: x for i, x in zip(out.graph.input, inputs, strict=True)}
                again = list(onnx.reference.ReferenceEvaluator(out).run(None, feeds))
            if differs(again, outputs, max(case.rtol, 1e-3), max(case.atol, 1e-5)) is None:
                return "equal", "reference, not onnxruntime"
        except Exception:
            pass
    return ("wrong", f"{by}: {wrong}") if wrong else ("equal", by)
