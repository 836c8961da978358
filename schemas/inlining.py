"""Functions of a model written out where they are called."""

from __future__ import annotations

import importlib

from netferry.errors import UnsupportedError, quoted
from netferry.schemas.ir import ir


def write_out_functions(model: ir.Model) -> bool:
    """Put the nodes of functions in the place of the calls, in place; returns whether there was one.

    Raises:
        UnsupportedError: a function of another opset than the model's, one that is given a graph, or one that calls
            itself; calls before it may be written out already, and the model says the same.
    """
    if not model.functions:
        return False
    try:
        return bool(importlib.import_module(f"{ir.__name__}.passes.common").InlinePass()(model).modified)
    except Exception as error:  # onnx_ir says it by ValueError, wrapped in errors of its passes
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = quoted(" ".join(str(cause).split()) or type(cause).__name__)[1:-1]
        raise UnsupportedError(f"its functions cannot be written out where they are called: {said}") from None
