"""torch's own ONNX exporter, told to keep what training needs: weights, names, batch norms.

``python -m netferry.runtime.torch.onnx_program IN.pt2 OUT.onnx`` is the child process that reads a program; the file
was checked before (converters/pytorch/gate.py), and here no pickle is loaded but of plain tensors.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

OPSET = 21


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as ONNX: constants folded, but no weights folded into each other."""
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules.common import _remove_optional_bias as biases

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported: Any = torch.onnx.export(program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False)
        model = exported.model
        optimizer.fold_constants(model, input_size_limit=1024, output_size_limit=1 << 16)
        rewriter.rewrite(model, pattern_rewrite_rules=biases.rules)
        optimizer.remove_unused_nodes(model)
        exported.save(str(path), external_data=_large(program))


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
    said: dict[str, str] = {"torch": torch.__version__}
    try:
        write_onnx(read_program(source), target)
    except Exception as error:  # torch raises many kinds
        said["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:2000]
        target.unlink(missing_ok=True)
    target.with_name("said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
