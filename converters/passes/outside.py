"""The optimizers of others as last steps: onnxscript's in this process, onnxsim in a child.

Neither is trusted: the result is taken only where it has fewer nodes and the same inputs and outputs, with the same
names, types and dimensions. Layers, roles and other metadata that got lost are put back by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from netferry.converters.passes.constants import fixed
from netferry.converters.passes.editing import Edit
from netferry.errors import quoted
from netferry.schemas.copying import copied
from netferry.schemas.ir import ir, own_errors
from netferry.schemas.layers import TYPE_TEXT, Role, role_of
from netferry.schemas.messages import to_model
from netferry.schemas.model import Note
from netferry.schemas.publish import temporary_folder
from netferry.schemas.tensors import SPARSE_KEPT, array_of, content_of, filler_of

_NEVER_FOLDED = {"DequantizeLinear", "QuantizeLinear", "Identity"}
_CHILD = """
import sys
import onnx, onnxsim
model, _ = onnxsim.simplify(onnx.load(sys.argv[1]), check_n=0)
onnx.save(model, sys.argv[2])
"""


@dataclass(frozen=True)
class Step:
    """An optimizer of others."""

    about: str
    run: Callable[[Edit], bool]


def _onnxscript(edit: Edit) -> bool:
    optimizer = importlib.import_module("onnxscript.optimizer")
    if not _suits(edit):
        return False
    copy = copied(edit.model.ir)
    try:
        with _silent(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.optimize_ir(copy, input_size_limit=1024, output_size_limit=4096)
    except Exception as error:  # its faults are not ours to sort
        edit.model.notes.append(_failed("onnxscript", error))
        return False
    return _take(edit, copy)


def _onnxsim(edit: Edit) -> bool:
    if importlib.util.find_spec("onnxsim") is None or not _suits(edit):
        return False
    with temporary_folder() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        before.write_bytes(_whole(edit.model.ir).SerializeToString())
        command = [sys.executable, "-I", "-c", _CHILD, str(before), str(after)]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=edit.budget.child_seconds, cwd=folder, check=False
            )
            if done.returncode or not after.exists():
                edit.model.notes.append(_failed("onnxsim", RuntimeError(f"exit code {done.returncode}")))
                return False
            return _take(edit, to_model(onnx.load(str(after))))
        except (subprocess.TimeoutExpired, DecodeError, ValueError) as error:
            edit.model.notes.append(_failed("onnxsim", error))
            return False


def _whole(model: ir.Model) -> onnx.ModelProto:
    """The message with all weights in it, those too that still lie in files."""
    copy = copied(model)
    for graph in [copy.graph, *copy.graph.subgraphs()]:
        for value in graph.initializers.values():
            tensor = value.const_value
            array = array_of(tensor) if isinstance(tensor, ir.ExternalTensor) else None
            if tensor is not None and array is not None:
                value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=value.name)
    with own_errors():
        return ir.to_proto(copy)


OUTSIDE: dict[str, Step] = {
    "onnxscript": Step("onnxscript's optimizer", _onnxscript),
    "onnxsim": Step("onnxsim, in a child process, where it is installed", _onnxsim),
}


def _failed(name: str, error: Exception) -> Note:
    return Note("warning", f"{name} failed and was left out: {type(error).__name__}")


def _suits(edit: Edit) -> bool:
    """Whether the model may be given away: all values there, not too large, and nothing left on constants alone.

    What our own folding refused (a tensor of a terabyte, a shared weight) these programs would compute at once.
    """
    for node in edit.model.nodes():
        read = [v for v in node.inputs if v is not None]
        if node.op_type not in _NEVER_FOLDED and read and all(fixed(v) for v in read):
            edit.why(node, "works on constants alone, which others would fold without a bound")
            return False
    graph = edit.model.graph
    if graph.meta.get(SPARSE_KEPT):
        return False  # sparse tensors, which the message does not hold
    if any(TYPE_TEXT in v.meta for node in edit.model.nodes() for v in node.outputs):
        return False  # types with maps, which would be lost
    size = 0
    for value in graph.initializers.values():
        if value.const_value is None or filler_of(value.const_value) is not None:
            return False
        size += value.const_value.nbytes
    return size <= edit.budget.child_bytes and not any(n.domain.startswith("netferry.") for n in edit.model.nodes())


def _take(edit: Edit, other: ir.Model) -> bool:
    """Let the other graph be the model's, where it is smaller and has the same face."""
    mine = edit.model.ir
    if sum(1 for _ in other.graph.all_nodes()) >= sum(1 for _ in mine.graph.all_nodes()):
        return False
    if _face(other.graph) != _face(mine.graph) or dict(other.opset_imports) != dict(mine.opset_imports):
        edit.reasons.clear()
        return False
    broken = _broken_weight(mine.graph, other.graph)
    if broken is not None:
        edit.reasons.clear()
        edit.model.notes.append(Note("ignored", f"another program's smaller graph was not taken: {broken}"))
        return False
    _restore(mine, other)
    edit.model.ir = other
    return True


def _broken_weight(mine: ir.Graph, other: ir.Graph) -> str | None:
    """Say which weight the other graph has spoilt: a shared learnable split into copies, or new values not finite."""
    for name, value in mine.initializers.items():
        count = len(value.uses())
        if count > 1 and role_of(value) is Role.LEARNABLE:
            kept = other.initializers.get(name)
            if kept is None or len(kept.uses()) < count:
                return f"it split the shared weight {quoted(name)}"
    for name, value in other.initializers.items():
        old = mine.initializers.get(name)
        if old is not None and _alike(old, value):
            continue
        array = None if value.const_value is None else value.const_value.numpy()
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"it made values of {quoted(name)} that are not finite"
    return None


def _face(graph: ir.Graph) -> list[tuple[str | None, str, str]]:
    return [(v.name, str(v.type), str(v.shape)) for v in (*graph.inputs, *graph.outputs)]


def _restore(mine: ir.Model, other: ir.Model) -> None:
    other.metadata_props.update(mine.metadata_props)
    other.graph.name = mine.graph.name
    by_name = {n.name: n for n in mine.graph.all_nodes()}
    by_output = {v.name: n for n in mine.graph.all_nodes() for v in n.outputs}
    for node in other.graph.all_nodes():
        old = by_name.get(node.name) or next((by_output[v.name] for v in node.outputs if v.name in by_output), None)
        for name in [key for key in node.metadata_props if key.startswith("pkg.onnxscript")]:
            node.metadata_props.pop(name)
        if old is not None:
            node.metadata_props.update(old.metadata_props)
    for name, value in other.graph.initializers.items():
        old_value = mine.graph.initializers.get(name)
        if old_value is not None:
            value.metadata_props.update(old_value.metadata_props)
            if old_value.const_value is not None and value.const_value is not None and _alike(old_value, value):
                value.const_value = old_value.const_value


def _alike(a: ir.Value, b: ir.Value) -> bool:
    x, y = a.const_value, b.const_value
    if x is None or y is None or x.dtype != y.dtype or tuple(x.shape.numpy()) != tuple(y.shape.numpy()):
        return False
    return x is y or content_of(x) == content_of(y)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep onnxscript's log off stderr."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, old in zip(loggers, levels, strict=True):
            logger.setLevel(old)
