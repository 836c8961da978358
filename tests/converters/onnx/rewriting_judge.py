"""Whether netferry takes a rewritten ONNX model for what it is: the original's numbers, by onnxruntime.

``python -m tests.converters.onnx.rewriting_judge COUNT [FIRST_SEED]`` judges that many random compositions, and leaves
out of each that fails what it fails without.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnxruntime
import pytest

import netferry
from netferry.converters.passes.outside import OUTSIDE
from netferry.errors import NetferryError
from tests.converters.onnx import rewriting_bytes, rewriting_nodes, rewriting_tensors, rewriting_wraps
from tests.converters.onnx.rewriting import Case, compose, steps_of
from tests.converters.onnx.rewriting_nets import NETS, OFFICIAL, official

__all__ = ["further", "judge", "made", "run", "same"]
assert all(
    (rewriting_bytes, rewriting_nodes, rewriting_tensors, rewriting_wraps)
)  # their rewritings register themselves

FURTHER = ("lower", "higher", "safe", "full", "inspect", "scan", "to_torch", "cut", "fp16")
"""what else is done with a converted model, one of them for each composition"""
TESTS_FROM = 1_000_000
"""seeds from which the networks are ONNX's own tests of operators"""


def run(model: Path | bytes, feeds: dict[str, Any]) -> list[Any]:
    """Outputs by onnxruntime, its own optimizations off."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def same(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    """Raise where values differ in type, shape or number."""
    if isinstance(wanted, list):
        assert isinstance(got, list)
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            same(a, b, tolerance)
        return
    a, b = np.asarray(got), np.asarray(wanted)
    assert a.dtype == b.dtype, (a.dtype, b.dtype)
    assert a.shape == b.shape, (a.shape, b.shape)
    if b.dtype.kind in "fc":
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        if tolerance < 1e-4 and b.dtype.kind == "f" and not b.any():
            np.testing.assert_array_equal(np.signbit(a), np.signbit(b))
    else:
        np.testing.assert_array_equal(a, b)


def made(net: str, steps: list[tuple[str, int]], folder: Path) -> tuple[Path, Case, list[Any]]:
    """A rewritten network's file, and what the original computes."""
    found = NETS[net]() if net in NETS else official(net)
    assert found is not None, f"no network {net}"
    model, feeds = found
    wanted = run(model.SerializeToString(), feeds)
    case = compose(Case(model, dict(feeds), folder), steps)
    return case.write(), case, wanted


def judge(net: str, steps: list[tuple[str, int]], then: str, folder: Path) -> str | None:
    """Convert a rewritten network, compare, convert again, and do one thing more with it.

    Returns:
        How a further thing was refused, None where it was done.

    Raises:
        Exception: whatever is wrong.
    """
    path, case, wanted = made(net, steps, folder)
    out, again = folder / "out.onnx", folder / "again.onnx"
    netferry.convert(path, out)
    onnx.checker.check_model(str(out), full_check=_is_checked(path))
    for a, b in zip(run(out, case.feeds), wanted, strict=True):
        same(a, b)
    netferry.convert(out, again)
    assert again.read_bytes() == out.read_bytes(), "a second conversion changes the file"
    try:
        further(then, path, case, wanted)
    except NetferryError as error:
        return f"{then}: {type(error).__name__}: {error.reason}"
    return None


def _is_checked(path: Path) -> bool:
    """Whether onnx's inference takes a file: it knows no sparse weights, and errs on some operators."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception:
        return False
    return True


def further(then: str, path: Path, case: Case, wanted: list[Any]) -> None:
    out, lowest = path.parent / "further.onnx", 11
    options: dict[str, dict[str, Any]] = {
        "lower": {"opset": random.Random(len(path.read_bytes())).randint(lowest, max(lowest, case.opset))},
        "higher": {"opset": 24}, "safe": {"optimize": "safe"}, "full": {"optimize": "full", "disable": tuple(OUTSIDE)},
        "fp16": {"precision": "fp16"},
    }  # fmt: skip
    if then in options:
        netferry.convert(path, out, **options[then])
        for a, b in zip(run(out, case.feeds), wanted, strict=True):
            same(a, b, 1e-2 if then == "fp16" else 1e-5)
    elif then == "inspect":
        netferry.inspect(path, html=path.parent / "page.html")
    elif then == "scan":
        assert netferry.scan(path)["verdict"] != "dangerous"
    elif then == "cut":
        model = netferry.load(path)
        layers = [row.name for row in model.layers]
        if layers:
            netferry.convert(path, out, outputs=[layers[len(layers) // 2]])
    else:
        _by_torch(path, case, wanted)


def _by_torch(path: Path, case: Case, wanted: list[Any]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = netferry.load(path)
    module = netferry.to_torch(model).eval()
    fed = [case.feeds[v.name] for v in model.inputs if v.name in case.feeds]
    if any(isinstance(x, list) for x in fed):
        return  # sequences
    with torch.no_grad():
        got = module(*(torch.from_numpy(np.array(x)) for x in fed))
    found = list(got.values()) if isinstance(got, dict) else list(got) if isinstance(got, (list, tuple)) else [got]
    plain = all(isinstance(x, np.ndarray) for x in wanted)  # sequences come in lists
    for a, b in zip(found, wanted, strict=plain):
        if plain:
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-4)


def composition(seed: int) -> tuple[str, list[tuple[str, int]], str]:
    """(network, steps, what is done further) of a seed."""
    rng = random.Random(seed)
    net = rng.choice(list(NETS)) if seed < TESTS_FROM else rng.choice(OFFICIAL)
    return net, steps_of(rng.randrange(1 << 30)), rng.choice(FURTHER)


def fails(net: str, steps: list[tuple[str, int]], then: str) -> BaseException | None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            judge(net, steps, then, Path(folder))
        except Exception as error:
            return error
    return None


def main(count: int, first: int = 0) -> int:
    failed, refused = 0, Counter[str]()
    for seed in range(first, first + count):
        net, steps, then = composition(seed)
        faulthandler.dump_traceback_later(60)  # where it hangs
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                refused[judge(net, steps, then, Path(folder)) or "done"] += 1
                continue
            except Exception as error:
                kind = type(error)
        failed += 1
        for step in list(steps):
            less = [s for s in steps if s is not step]
            found = fails(net, less, then)
            if type(found) is kind:
                steps = less
        error = fails(net, steps, then)
        print(f"\n=== seed {seed}: {net} {steps} {then}\n    {kind.__name__}: {' '.join(str(error).split())[:600]}")
        frames = traceback.extract_tb(error.__traceback__) if error else []
        print("    " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-6:])))
        with tempfile.TemporaryDirectory() as folder:
            try:
                path, case, wanted = made(net, steps, Path(folder))
                for a, b in zip(run(path, case.feeds), wanted, strict=True):
                    same(a, b)
                print("    onnxruntime runs the rewritten file, with the original's numbers")
            except BaseException as theirs:
                print(f"    onnxruntime: {' '.join(str(theirs).split())[:300]}")
        sys.stdout.flush()
    print(f"\n{count} compositions from seed {first}, {failed} failed")
    for text, number in refused.most_common(40):
        print(f"  {number} {text[:200]}")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
