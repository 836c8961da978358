"""ONNX's official node tests through the torch backend; what is refused is kept in refused.txt, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.torch_node_judge import cases
from benchmarks.torch_node_tests import outcome

REFUSED = set((Path(__file__).parent / "refused.txt").read_text().split())


def _rows() -> list[Any]:
    """The first case of each operator runs always."""
    first: dict[str, str] = {}
    for name, case in cases().items():
        first.setdefault(case.model.graph.node[0].op_type, name)
    quick = set(first.values())
    return [pytest.param(name, id=name, marks=() if name in quick else pytest.mark.slow) for name in cases()]


@pytest.mark.filterwarnings("ignore")  # torch warns of slow paths for odd settings
@pytest.mark.parametrize("name", _rows())
def test_official_case(name: str) -> None:
    kind, detail = outcome(cases()[name])
    if name in REFUSED:
        assert kind == "unsupported", detail
    else:
        assert kind in ("pass", "rounding", "random"), f"{kind}: {detail}"


def test_counts() -> None:
    assert set(cases()) >= REFUSED
    assert len(REFUSED) / len(cases()) < 0.05
