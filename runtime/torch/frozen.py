"""What does not learn, in a module as in its graph."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from netferry.runtime.torch.build import PLACES
from netferry.runtime.torch.modules_norm import FrozenStatistics
from netferry.schemas.layers import Role

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def hold(network: Any, frozen: Collection[str]) -> None:
    """Keep a module's frozen initializers: parameters take no gradients, batch norms keep to their statistics.

    Args:
        network: a module that netferry built.
        frozen: names of the initializers (:attr:`netferry.schemas.model.Model.frozen`).
    """
    if not frozen:
        return
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name, place in network.meta[PLACES].items():
        if name not in frozen:
            continue
        if place.role == Role.LEARNABLE:
            for path in place.paths:
                if path in parameters:  # whole numbers are none
                    parameters[path].requires_grad_(False)
        elif place.role == Role.STATE:
            module = network.get_submodule(place.paths[0].rpartition(".")[0])
            if type(module) in BATCH_NORMS:
                FrozenStatistics.of(module)
