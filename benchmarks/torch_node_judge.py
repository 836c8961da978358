"""The official node tests of ONNX as judges of torch modules, whoever made them; needs onnx, NumPy and torch alone."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import onnx
import torch

PLAIN = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16}
"""element types of plain tensors: no strings, no floats of 8 bits or less, no packed integers"""
RANDOM = ("test_bernoulli", "test_training_dropout")


@functools.cache
def cases() -> dict[str, Any]:
    """The plain-tensor cases of ai.onnx by name: 1,217 with onnx 1.23.2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    return {c.name: c for c in found if _plain(c)}


def _plain(case: Any) -> bool:
    graph, opsets = case.model.graph, case.model.opset_import
    domains = {n.domain for n in graph.node} | {o.domain for o in opsets}
    puts = [*graph.input, *graph.output]
    return (
        "expanded" not in case.name
        and domains <= {""}
        and all(v.type.WhichOneof("value") == "tensor_type" for v in puts)
        and all(v.type.tensor_type.elem_type in PLAIN for v in puts)
    )


def array(x: Any) -> Any:
    """A test's value as an array (or a list of them)."""
    return onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x


def tensor(x: Any) -> Any:
    """A test's value as a tensor (or a list of them)."""
    x = array(x)
    return [tensor(v) for v in x] if isinstance(x, list) else x if x is None else torch_values(np.asarray(x))


def differs(found: list[Any], wanted: list[Any], rtol: float, atol: float, steps: int = 0) -> str:
    """The first difference; empty where there is none. ``steps`` of the type's precision at the largest value pass."""
    if len(found) != len(wanted):
        return f"{len(found)} outputs, not {len(wanted)}"
    for i, (got, want) in enumerate(zip(found, wanted, strict=True)):
        if isinstance(want, list):
            if text := differs(list(got), want, rtol, atol, steps):
                return f"output {i}: {text}"
            continue
        expected = torch_values(np.asarray(want))
        if not isinstance(got, torch.Tensor):
            return f"output {i}: no tensor"
        if got.dtype != expected.dtype or got.shape != expected.shape:
            return f"output {i}: {got.dtype} {tuple(got.shape)}, not {expected.dtype} {tuple(expected.shape)}"
        a, b = wide(got), wide(expected)
        slack = atol
        if steps and expected.dtype.is_floating_point:
            slack = max(atol, steps * torch.finfo(expected.dtype).eps * float(np.nanmax(np.abs(b))))
        if not np.allclose(a, b, rtol=rtol, atol=slack, equal_nan=True):
            return f"output {i}: differs by {np.max(np.abs(a - b))}"
    return ""


def wide(x: torch.Tensor) -> np.ndarray:
    """Values as NumPy compares them: floats as float64, whole numbers exactly."""
    x = x.detach()
    return x.to(torch.float64).numpy() if x.dtype.is_floating_point else x.numpy()


def drawn_wrongly(case: Any, inputs: list[torch.Tensor], found: list[torch.Tensor], wanted: list[Any]) -> str:
    """What does not hold of outputs drawn at random; empty where all holds."""
    for got, want in zip(found, wanted, strict=True):
        if tuple(got.shape) != want.shape or got.dtype != torch_values(np.asarray(want)).dtype:
            return "shape or type"
    if "bernoulli" in case.name:
        return "" if bool(((found[0] == 0) | (found[0] == 1)).all()) else "values other than 0 and 1"
    ratio = float(inputs[1]) if len(inputs) > 1 else 0.5
    kept = found[0] != 0
    scaled = inputs[0] / (1 - ratio) if ratio < 1 else inputs[0]
    if not torch.allclose(found[0][kept], scaled[kept]):
        return "kept values are not scaled"
    return "" if len(found) < 2 or torch.equal(found[1], kept) else "the mask is another one"


def torch_values(array: Any) -> torch.Tensor:
    """An array as a tensor; bfloat16 keeps its bits."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def judged(case: Any, module: Any) -> tuple[str, str]:
    """(pass, rounding, random, error or wrong; detail) of a module that was made from a case."""
    for inputs, wanted in case.data_sets:
        try:
            with torch.no_grad():
                given = [tensor(x) for x in inputs]
                made = module(*given)
        except Exception as error:
            return "error", f"run: {type(error).__name__}: {error}"[:300]
        found = list(made) if isinstance(made, (tuple, list)) else [made]
        expected = [array(w) for w in wanted]
        if case.name.startswith(RANDOM):
            text = drawn_wrongly(case, given, found, expected)
            if text or "zero_ratio" not in case.name:
                return ("wrong", text) if text else ("random", "")
        if text := differs(found, expected, case.rtol, case.atol):
            return ("wrong" if differs(found, expected, case.rtol, case.atol, steps=2) else "rounding"), text
    return "pass", ""
