"""What is frozen in a model takes no gradients in its module, and its batch norms keep their statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import netferry
from netferry.api import to_torch, update_from
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of

CFG = """[net]
height=6
width=6
channels=3
[convolutional]
filters=4
size=3
batch_normalize=1
activation=leaky
[convolutional]
filters=2
size=1
activation=linear
[avgpool]
"""


def values(model: Model) -> dict[str, np.ndarray]:
    return {name: np.array(array_of(value), np.float32) for name, value in model.graph.initializers.items()}


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "free"])
def test_a_step(tmp_path: Path, frozen: bool) -> None:
    """One step of SGD changes what is free; what is frozen is the same to the bit, statistics too (seed 0)."""
    (tmp_path / "net.cfg").write_text(CFG)
    model = netferry.load(tmp_path / "net.cfg", init=0)
    first = next(row for row in model.layers if row.learnables)
    if frozen:
        model.freeze(except_=[row.name for row in model.layers if row.learnables and row.name != first.name])
    held = {value.name or "" for value in [*first.learnables, *first.state]}
    assert model.frozen == (held if frozen else set())
    module = to_torch(model)
    torch.manual_seed(0)
    learns = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learns, lr=0.1)
    module(torch.rand(4, 3, 6, 6)).square().sum().backward()
    optimizer.step()
    before = values(model)
    update_from(model, module.eval())
    after = values(model)
    assert {name for name in before if np.array_equal(before[name], after[name])} == model.frozen
