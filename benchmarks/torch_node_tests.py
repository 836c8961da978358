"""The official node tests of ONNX through the torch backend: pass, unsupported, error, wrong.

``python -m benchmarks.torch_node_tests [NAME ...]`` prints the counts over the plain-tensor cases of ai.onnx, and
every case that does not pass. ``rounding`` are cases that miss the test's own tolerance by no more than two units in
the last place of the largest value, in the output's type (16-bit floats; noise where the result is 0). Cases whose
outputs are drawn at random are judged by what must hold whatever is drawn (shape, type, values kept or dropped).
"""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections import Counter
from typing import Any

import numpy as np
import onnx
import torch

from netferry.converters.passes.opset import to_opset
from netferry.errors import UnsupportedError
from netferry.runtime.torch.build import LOWEST_OPSET, build
from netferry.runtime.torch.facts import torch_values
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source

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


def outcome(case: Any) -> tuple[str, str]:
    """(pass, rounding, random, unsupported, error or wrong; detail) of one case."""
    try:
        model = Model(ir.from_proto(case.model), source=Source("onnx"))
        to_opset(model, max(model.opset, LOWEST_OPSET))
        module = build(model).eval()
    except UnsupportedError as error:
        return "unsupported", str(error).splitlines()[-1].strip()
    except Exception as error:
        return "error", f"build: {type(error).__name__}: {error}"[:300]
    for inputs, wanted in case.data_sets:
        try:
            with torch.no_grad():
                given = [tensor(x) for x in inputs]
                made = module(*given)
        except Exception as error:
            return "error", f"run: {type(error).__name__}: {error}"[:300]
        found = list(made) if isinstance(made, (tuple, list)) else [made]
        if case.name.startswith(RANDOM):
            text = drawn_wrongly(case, given, found, [array(w) for w in wanted])
            if text or "zero_ratio" not in case.name:
                return ("wrong", text) if text else ("random", "")
        expected = [array(w) for w in wanted]
        if text := differs(found, expected, case.rtol, case.atol):
            return ("wrong" if differs(found, expected, case.rtol, case.atol, steps=2) else "rounding"), text
    return "pass", ""


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


def main() -> None:
    """Print counts and what does not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only cases whose name contains one of these")
    wanted = parser.parse_args().names
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    for name, case in cases().items():
        if wanted and not any(w in name for w in wanted):
            continue
        kind, detail = outcome(case)
        counts[kind] += 1
        if kind not in ("pass", "random"):
            print(f"{kind:12} {name}: {detail}")
    total = sum(counts.values())
    good = counts["pass"] + counts["random"] + counts["rounding"]
    print(", ".join(f"{k} {v}" for k, v in sorted(counts.items())), f"of {total}: {100 * good / max(total, 1):.1f} %")
    sys.exit(1 if counts["wrong"] else 0)


if __name__ == "__main__":
    main()
