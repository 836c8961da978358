"""The official tests of ONNX through netferry: read, write at the same opset, run; nothing that worked may be lost.

``python -m benchmarks.onnx_node_tests [NAME ...] [--opset N]`` takes every case of ``onnx.backend.test`` (nodes, simple
models, models and operators of PyTorch; 2,024 with onnx 1.23.2), saves it as a file, reads and writes that with
netferry and compares, engine by engine, what the original and what the written file compute:

* ``kept``: onnxruntime passes the original and passes ours.
* ``kept by reference``: onnxruntime cannot run the original (or fails it); onnx.reference passes both.
* ``same``: neither engine passes the original; ours does the same as the original (equal outputs, or the same refusal).
* ``unstable``: read and written once more, the file has other bytes.
* ``lost``: an engine passes the original and not ours. ``added``: neither passes the original, and ours computes
  something else. ``refused``: netferry raises one of its errors.

With ``--opset`` the model is raised to that opset too where its own is lower (then refusals are told, not failures).
The exit code is 1 for anything lost, added, unstable or refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime

import netferry

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class Case:
    """One official test: a model, sets of (inputs, outputs), and how close the outputs must be."""

    name: str
    model: onnx.ModelProto
    data: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


def cases() -> Iterator[Case]:
    """All official cases with their data."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        for kind in KINDS:
            for test in load_model_tests(kind=kind):
                if test.model_dir is None:
                    model = test.model
                    assert model is not None
                    assert test.data_sets is not None
                    data = [([_value(x) for x in i], [_value(x) for x in o]) for i, o in test.data_sets]
                else:
                    folder = Path(test.model_dir)
                    model = onnx.load(folder / "model.onnx")
                    data = [_stored(set_, model) for set_ in sorted(folder.glob("test_data_set_*"))]
                yield Case(test.name, model, data, test.rtol, test.atol)


def _stored(folder: Path, model: onnx.ModelProto) -> tuple[list[Any], list[Any]]:
    graph = model.graph
    held = {t.name for t in graph.initializer}
    asked = [v for v in graph.input if v.name not in held]
    if len(list(folder.glob("input_*.pb"))) == len(graph.input):
        asked = list(graph.input)
    return (
        [_parsed(folder / f"input_{i}.pb", v) for i, v in enumerate(asked)],
        [_parsed(folder / f"output_{i}.pb", v) for i, v in enumerate(graph.output)],
    )


def _parsed(file: Path, info: onnx.ValueInfoProto) -> Any:
    kinds = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}
    kind = kinds.get(info.type.WhichOneof("value") or "", onnx.TensorProto)
    return _value(kind.FromString(file.read_bytes()))


def _value(x: Any) -> Any:
    if isinstance(x, onnx.TensorProto):
        return onnx.numpy_helper.to_array(x)
    if isinstance(x, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(x)
    if isinstance(x, onnx.OptionalProto):
        return onnx.numpy_helper.to_optional(x)
    if isinstance(x, onnx.SparseTensorProto):
        return x
    return [_value(v) for v in x] if isinstance(x, list) else np.asarray(x) if isinstance(x, np.generic) else x


def by_onnxruntime(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """Outputs by onnxruntime on the processor, its own optimizations off."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def by_reference(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """Outputs by ONNX's reference implementation."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(onnx.reference.ReferenceEvaluator(model).run(None, feeds))


ENGINES = {"onnxruntime": by_onnxruntime, "reference": by_reference}


def results(engine: str, case: Case, model: onnx.ModelProto) -> list[list[Any]] | str:
    """Outputs for every set of inputs; the reason where the engine does not run it."""
    held = {t.name for t in model.graph.initializer}
    names = [v.name for v in model.graph.input]
    found = []
    for inputs, _ in case.data:
        asked = names if len(names) == len(inputs) else [n for n in names if n not in held]
        try:
            found.append(ENGINES[engine](model, dict(zip(asked, inputs, strict=True))))
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return found


def passes(case: Case, found: list[list[Any]] | str) -> bool:
    """Whether results are what the official case expects."""
    return not isinstance(found, str) and all(
        differs(got, want, case.rtol, case.atol) is None for got, (_, want) in zip(found, case.data, strict=True)
    )


def differs(got: list[Any], want: list[Any], rtol: float, atol: float) -> str | None:
    """The first difference, None where there is none."""
    if len(got) != len(want):
        return f"{len(got)} values, not {len(want)}"
    for a, b in zip(got, want, strict=True):
        if isinstance(b, list) or isinstance(a, list):
            if not (isinstance(a, list) and isinstance(b, list)):
                return "a sequence on one side only"
            if text := differs(a, b, rtol, atol):
                return text
        elif a is None or b is None:
            if a is not None or b is not None:
                return "None on one side only"
        elif isinstance(b, dict) or isinstance(a, dict):
            if a != b:
                return "other maps"
        else:
            x, y = np.asarray(a), np.asarray(b)
            if x.shape != y.shape:
                return f"shape {x.shape}, not {y.shape}"
            if y.dtype.kind in "OUS":
                if [_text(s) for s in x.reshape(-1)] != [_text(s) for s in y.reshape(-1)]:
                    return "other strings"
                continue
            if y.dtype.kind not in "biufc":  # bfloat16, float8, int4 of ml_dtypes
                x, y = x.astype(np.float32), y.astype(np.float32)
            if not np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True):
                return "other values"
    return None


def _text(x: Any) -> str:
    return x.decode() if isinstance(x, bytes) else str(x)


def through(model: onnx.ModelProto, folder: Path, opset: int | None) -> tuple[onnx.ModelProto, bool]:
    """The model read from a file and written to one, by netferry, and whether that once more gives the same bytes."""
    source, target, again = (folder / f"{name}.onnx" for name in ("source", "target", "again"))
    source.write_bytes(model.SerializeToString())
    loaded = netferry.load(source)
    netferry.save(loaded, target, opset=opset and max(opset, loaded.opset), check="structure")
    netferry.save(netferry.load(target), again, check="structure")
    return onnx.load(target), target.read_bytes() == again.read_bytes()


def outcome(case: Case, folder: Path, opset: int | None = None) -> tuple[str, str]:
    """What became of one case (see the module), and details."""
    try:
        ours, stable = through(case.model, folder, opset)
    except netferry.NetferryError as error:
        return "refused", f"{type(error).__name__}: {error}"[:400]
    if not stable:
        return "unstable", "a second pass writes other bytes"
    before = {engine: results(engine, case, case.model) for engine in ENGINES}
    after = {engine: results(engine, case, ours) for engine in ENGINES}
    for engine, word in (("onnxruntime", "kept"), ("reference", "kept by reference")):
        if passes(case, before[engine]):
            if passes(case, after[engine]):
                return word, ""
            # a higher opset may be one that onnxruntime has no kernel for yet: then the reference judges
            if opset is None or not isinstance(after[engine], str):
                return "lost", f"{engine}: {_told(after[engine])}"
    for engine in ENGINES:
        one, other = before[engine], after[engine]
        if passes(case, other):
            continue
        if isinstance(one, str) or isinstance(other, str):
            if isinstance(one, str) != isinstance(other, str):
                return "added", f"{engine}: {_told(one)} became {_told(other)}"
        elif any(differs(b, a, 0, 0) for a, b in zip(one, other, strict=True)) and not _random(case):
            return "added", f"{engine}: other outputs than the original's"
    return "same", f"{_told(before['onnxruntime'])} | {_told(before['reference'])}"


def _told(found: list[list[Any]] | str) -> str:
    return found if isinstance(found, str) else "outputs"


def _random(case: Case) -> bool:
    return any(word in case.name for word in ("bernoulli", "dropout"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument("--opset", type=int, help="raise models of a lower opset to this one")
    given = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for case in cases():
            if given.names and not any(w in case.name for w in given.names):
                continue
            kind, detail = outcome(case, Path(name), given.opset)
            counts[kind] += 1
            if kind not in ("kept", "kept by reference"):
                print(f"{kind:10} {case.name}: {detail}", flush=True)
    print(", ".join(f"{k} {v}" for k, v in sorted(counts.items())), f"of {sum(counts.values())}")
    bad = counts["lost"] + counts["added"] + counts["unstable"] + (0 if given.opset else counts["refused"])
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
