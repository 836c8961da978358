"""Networks of every source at every opset: the sweep of benchmarks/opset_sweep.py as tests."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from benchmarks.opset_sweep import OPSETS, networks, sweep
from tests.shared import shared_root

NO_ARCHITECTURE = ("squeezenet_tf_notop.h5", "squeezenet_th_notop.h5")


def _rows() -> list[Any]:
    root = shared_root()
    found = [] if root is None else [n for n in networks(root) if not n[0].endswith(NO_ARCHITECTURE)]
    return [pytest.param(files, id=name) for name, files in found]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("files", _rows())
def test_network_agrees_with_itself_or_is_refused_with_the_reason(files: tuple[Path, ...], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for opset, kind, detail in sweep(files, OPSETS, tmp_path):
            assert kind == "agrees" or (kind == "refused" and "needs opset" in detail), f"{opset}: {kind} {detail}"
