"""The scale at which a new head starts.

Frameworks draw weights so that a layer's outputs vary by about one where its inputs do. The features of a trained
network are of any scale (SqueezeNet's reach 300), and a head drawn for inputs of scale one then starts with logits so
loud that a few hundred pictures cannot train their noise away. So the layers of a new head are measured on real
examples and made quieter where they are too loud (LSUV: Mishkin & Matas 2016, "All you need is a good init", in the
one direction).

Where a rectifier follows the classifier (SqueezeNet's conv10), a class whose values are all negative at the start gets
no gradient and never learns. There the biases start so that every class begins at the same positive value, as
Krizhevsky et al. 2012 have it for rectified units.
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
learnt; validation losses of SqueezeNet on 210 pictures do not tell 0.04 to 0.4 for the last apart, and grow above"""
ALIVE = 1.0
"""mean of each class in front of a rectifier, 4 standard deviations from where it would be dead"""
MOST = 64
"""examples that are looked at"""


def begin(
    made: Learner, names: Sequence[str], examples: Examples, rows: Sequence[int], *, rectified: str | None = None
) -> dict[str, float]:
    """Scale weights of new layers down until what they give varies by no more than it should.

    Args:
        made: the part that learns; its parameters change.
        names: initializers of new layers, in graph order: those of more than one dimension are scaled.
        examples: as the part sees them.
        rows: which of them, at most 64 are used.
        rectified: the classifier's bias, where a rectifier follows it: each class starts above 0.

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
        given = _given(network, module, made, examples, rows)
        spread = 0.0 if given is None else float(given.std())
        if spread > most:
            factors[name] = most / spread
            with torch.no_grad():
                weight.mul_(factors[name])
    if rectified in made.factors and rows:
        path = made.places[rectified].paths[0]
        given = _given(network, network.get_submodule(path.rpartition(".")[0]), made, examples, rows)
        if given is not None and given.ndim > 1 and given.shape[1] == len(tensors[path]):
            mean = given.transpose(0, 1).flatten(1).mean(1)
            with torch.no_grad():
                tensors[path].add_((ALIVE - mean).to(tensors[path]))
    network.train()
    return factors


def _given(network: nn.Module, module: nn.Module, made: Learner, examples: Examples, rows: list[int]) -> Tensor | None:
    """What a module gives for some examples; None where it gives no tensor, or nothing finite."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append(output.detach().double())

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
    given = torch.cat(seen)
    return given if bool(torch.isfinite(given).all()) else None
