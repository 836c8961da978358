"""Nodes that contradict their operators: whatever is done with the file, a typed error or an answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import netferry
from netferry.errors import NetferryError
from tests.attacks.random_nodes import random_chain, random_model

MAKERS = {"one": (random_model, 4), "some": (random_chain, 2)}
"""what makes the model of a seed, and how many blocks are looked at each time"""
MANY = [
    pytest.param(make, block, marks=[] if block < quick else pytest.mark.slow, id=f"{name}-block-{block}")
    for name, (make, quick) in MAKERS.items()
    for block in range(40)
]
ONCE = [pytest.param(571, id="places-of-no-type-to-an-old-operator")]
"""chains of later blocks that ended in an untyped error"""
_TORCH = importlib.util.find_spec("torch") is not None


def _done_with(path: Path, out: Path) -> list[Callable[[], object]]:
    """What is done with a file that could be read."""
    model = netferry.load(path, init=0)
    return [
        lambda: netferry.inspect(model),
        lambda: netferry.scan(path),
        lambda: netferry.save(model, out, check="structure"),
        lambda: _TORCH and netferry.load(path, init=0).to_torch(),
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "block"), MANY)
def test_a_typed_error_or_an_answer(make: Callable[[int], onnx.ModelProto], block: int, tmp_path: Path) -> None:
    """Two hundred models of a block: read, looked at, scanned, written, and as a torch module."""
    for seed in range(200 * block, 200 * block + 200):
        _do(make(seed), tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", ONCE)
def test_chains_that_failed_once(seed: int, tmp_path: Path) -> None:
    _do(random_chain(seed), tmp_path)


def _do(model: onnx.ModelProto, folder: Path) -> None:
    path, out = folder / "net.onnx", folder / "out.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        steps = _done_with(path, out)
    except NetferryError as error:
        assert str(error)
        return
    for step in steps:
        out.unlink(missing_ok=True)
        try:
            step()
        except NetferryError as error:
            assert error.as_dict()
