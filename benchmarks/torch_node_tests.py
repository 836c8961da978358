"""The official node tests of ONNX through the torch backend: pass, unsupported, error, wrong.

``python -m benchmarks.torch_node_tests [NAME ...]`` prints the counts over the plain-tensor cases of ai.onnx, and
every case that does not pass. ``rounding`` are cases that miss the test's own tolerance by no more than two units in
the last place of the largest value, in the output's type (16-bit floats; noise where the result is 0). Cases whose
outputs are drawn at random are judged by what must hold whatever is drawn (shape, type, values kept or dropped).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from typing import Any

import torch

from benchmarks.torch_node_judge import cases, judged
from netferry.converters.passes.opset import to_opset
from netferry.errors import UnsupportedError
from netferry.runtime.torch.build import LOWEST_OPSET, build
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source


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
    return judged(case, module)


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
