"""The scale at which a new head starts.

Frameworks draw weights so that a layer's outputs vary by about one where its inputs do. The features of a trained
network are of any scale (SqueezeNet's reach 300), and a head drawn for inputs of scale one then starts with logits so
loud that a few hundred pictures cannot train their noise away: on 5 classes of 42 pictures it costs 3 to 7 points of
accuracy. So the layers of a new head are measured on real examples and made quieter where they are too loud
(LSUV: Mishkin & Matas 2016, "All you need is a good init", in the one direction).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netferry.runtime.training.examples import Examples
from netferry.runtime.training.network import Learner

HIDDEN, LAST = 1.0, 0.25
"""largest standard deviation of what a hidden layer, and of what the last layer of a new head gives before it has
learnt; of 0.04 to 1.4 for the last, 0.4 and less gave the smallest validation losses"""
MOST = 64
"""examples that are looked at"""


def quieten(made: Learner, names: Sequence[str], examples: Examples, rows: Sequence[int]) -> dict[str, float]:
    """Scale weights of new layers down until what they give varies by no more than it should.

    Args:
        made: the part that learns; its parameters change.
        names: initializers of new layers, in graph order: those of more than one dimension are scaled.
        examples: as the part sees them.
        rows: which of them, at most 64 are used.

    Returns:
        The factor of each weight that was changed.
    """
    factors: dict[str, float] = {}
    network, rows = made.network, list(rows)[:MOST]
    tensors = dict(network.named_parameters(remove_duplicate=False))
    network.eval()
    learns = [n for n in names if n in made.factors and len(made.places[n].paths) == 1]
    weights = {n: made.places[n].paths[0] for n in learns if tensors[made.places[n].paths[0]].ndim > 1}
    for name, path in weights.items() if rows else ():
        weight, module = tensors[path], network.get_submodule(path.rpartition(".")[0])
        most = LAST if name == list(weights)[-1] else HIDDEN
        spread = _spread_of(network, module, made, examples, rows)
        if spread is not None and spread > most:
            factors[name] = most / spread
            with torch.no_grad():
                weight.mul_(factors[name])
    network.train()
    return factors


def _spread_of(
    network: nn.Module, module: nn.Module, made: Learner, examples: Examples, rows: list[int]
) -> float | None:
    """Standard deviation of what a module gives over some examples; None where it gives no tensor or nothing finite."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append(output.detach().flatten())

    hook = module.register_forward_hook(keep)
    try:
        with torch.no_grad():
            for start in range(0, len(rows), 16):
                inputs = [torch.from_numpy(a) for a in examples.inputs(rows[start : start + 16])]
                network(*made.arranged(inputs))
    finally:
        hook.remove()
    if not seen:
        return None
    spread = float(torch.cat(seen).double().std())
    return spread if spread > 0 and torch.isfinite(torch.tensor(spread)) else None
