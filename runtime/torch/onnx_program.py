"""torch's own ONNX exporter, told to keep what training needs: weights, names, batch norms.

``python -m netferry.runtime.torch.onnx_program IN.pt2 OUT.onnx`` is the child process that reads a program; the file
was checked before (converters/pytorch/gate.py), and here no pickle is loaded but of plain tensors.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export.graph_signature import InputKind

from netferry.errors import NetferryError, UnsupportedError, quoted
from netferry.runtime.torch.program import frozen_in
from netferry.runtime.torch.weightless import SPATIAL
from netferry.schemas.layers import ROLE, TRAINING, Role
from netferry.schemas.merged import KIND

OPSET = 21
_TRAINING_MODE = 2
"""the input of Dropout that makes it act"""


def write_onnx(program: torch.export.ExportedProgram, path: Path, sizes: Mapping[str, str] | None = None) -> None:
    """Write a program as ONNX: constants folded, but no weights folded into each other.

    Args:
        program: what torch.export made.
        path: the file.
        sizes: what the program's symbols of sizes (``s77``) are called.

    Raises:
        UnsupportedError: torch's exporter has no counterpart for what the program computes.
    """
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules.common import _remove_optional_bias as biases

    _refuse_projections(program)
    notes = _keep_dropouts(program)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = _exported(program)
        model = exported.model
        parameters = {s.target for s in program.graph_signature.input_specs if s.kind is InputKind.PARAMETER}
        with _values_hidden(model.graph, parameters):
            optimizer.fold_constants(model, input_size_limit=1024, output_size_limit=1 << 16)
            rewriter.rewrite(model, pattern_rewrite_rules=biases.rules)
            dropouts = [n for n in model.graph if n.op_type == "Dropout" and len(n.inputs) > _TRAINING_MODE]
            for i, node in enumerate(dropouts):  # last: the optimizer takes out dropouts that do not act
                node.replace_input_with(_TRAINING_MODE, None)
                if len(dropouts) == len(notes):
                    node.metadata_props.update(notes[i])
            optimizer.remove_unused_nodes(model)
        told = {s.target for s in program.graph_signature.input_specs}
        for name, value in model.graph.initializers.items():
            if (
                name not in told and KIND not in value.metadata_props
            ):  # what the exporter made: norms without weights get ones, states zeros
                value.metadata_props[ROLE] = Role.CONSTANT.value
        if sizes:
            _name_sizes(model, sizes)
        exported.save(str(path), external_data=_large(program))


def _exported(program: torch.export.ExportedProgram) -> Any:
    try:
        return torch.onnx.export(program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False)
    except Exception as error:  # its own kinds are private; the cause says what it could not do
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        words = " ".join(str(cause).split())
        raise UnsupportedError(f"torch's ONNX exporter cannot take this network: {quoted(words, 300)[1:-1]}") from error


def _name_sizes(model: Any, names: Mapping[str, str]) -> None:
    """Rename the symbols of dynamic dimensions, in expressions (``2*s77``) too."""
    symbols = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    values = [*model.graph.inputs, *(v for node in model.graph.all_nodes() for v in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and size.value:
                value.shape[axis] = symbols.sub(lambda found: names[found[1]], size.value)


@contextmanager
def _values_hidden(graph: Any, names: Container[str | None]) -> Iterator[None]:
    """Leave initializers without values: what is computed of parameters, or is zero before training, stays."""
    hidden = {v: v.const_value for name, v in graph.initializers.items() if name in names}
    for value in hidden:
        value.const_value = None
    try:
        yield
    finally:
        for value, tensor in hidden.items():
            value.const_value = tensor


def _keep_dropouts(program: torch.export.ExportedProgram) -> list[dict[str, str]]:
    """Let dropouts that were traced in eval mode be written: torch's exporter leaves them out unless they act.

    Returns, for each in its order, what ONNX cannot say of it: that it drops whole channels (``nn.Dropout2d``), or
    keeps mean and variance (``nn.AlphaDropout``).
    """
    aten = torch.ops.aten
    kinds = (aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default)
    found: list[dict[str, str]] = []
    for node in program.graph.nodes:
        if node.target not in kinds or not node.args[1]:
            continue
        note = {SPATIAL: "1"} if node.target is aten.feature_dropout.default else {}
        if node.target is aten.alpha_dropout.default:
            note = {TRAINING: json.dumps({"layer": "AlphaDropout", "rate": node.args[1]})}
        found.append(note)
        node.target, node.args = aten.dropout.default, (*node.args[:2], True)
    program.graph_module.recompile()
    return found


def _refuse_projections(program: torch.export.ExportedProgram) -> None:
    """torch's exporter leaves out the projection of an LSTM and writes a node that no runtime takes."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.lstm.input:
            weights, biased, layers, both = node.args[2], node.args[3], node.args[4], node.args[7]
            if len(weights) != layers * (2 if both else 1) * (4 if biased else 2):
                raise UnsupportedError("an LSTM with projections (proj_size) has no counterpart in ONNX")


def _large(program: torch.export.ExportedProgram) -> bool:
    return sum(t.numel() * t.element_size() for t in program.state_dict.values()) > 1_500_000_000


def read_program(path: Path) -> torch.export.ExportedProgram:
    """Load a checked .pt2 file; pickles of anything but tensors fail, guards in it are dropped."""
    load = torch.load

    def only_tensors(*args: Any, **settings: Any) -> Any:
        return load(*args, **{**settings, "weights_only": True})

    def refused(*args: Any, **settings: Any) -> Any:
        raise RuntimeError("objects of custom classes are not loaded")

    torch.load = only_tensors
    torch._C._pickle_load_obj = refused  # pyright: ignore[reportAttributeAccessIssue]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path)
    program._guards_code = []  # code in text; the exporter needs none
    return program


def main() -> None:
    """Read a program, write an ONNX file and ``said.json`` beside it."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    said: dict[str, Any] = {"torch": torch.__version__}
    try:
        program = read_program(source)
        write_onnx(program, target)
        said["frozen"] = frozen_in(program)
    except Exception as error:  # torch raises many kinds
        told = str(error) if isinstance(error, NetferryError) else f"{type(error).__name__}: {error}"
        said["error"] = " ".join(told.split())[:2000]
        target.unlink(missing_ok=True)
    target.with_name("said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
