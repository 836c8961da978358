"""A model as torch modules for training: what learns, how fast, and the frozen trunk in front of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from netferry.errors import UsageError
from netferry.runtime.torch.build import PLACES
from netferry.runtime.torch.frozen import BATCH_NORMS
from netferry.runtime.training.dropout import with_quick_dropouts
from netferry.schemas.layers import Role
from netferry.schemas.model import Model

ToTorch = Callable[[Model], Any]
"""netferry.api.to_torch: a copy of the model, raised to the opset that torch modules are made of"""
State = dict[str, list[Tensor]]
"""Parameters and statistics by initializer: the tensors in which the module holds each"""


@dataclass
class Learner:
    """A module whose parameters learn as the model says.

    Attributes:
        network: the module; its output are logits, values in front of the last activation.
        factors: factor of the learning rate of each initializer that learns.
    """

    network: nn.Module
    factors: dict[str, float]
    places: Mapping[str, Any] = field(default_factory=dict)
    _channels_last: bool | None = None

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer: one per factor, ``rate`` times the factor each."""
        tensors = dict(self.network.named_parameters(remove_duplicate=False))
        by_factor: dict[float, list[nn.Parameter]] = {}
        seen: set[int] = set()
        for name, factor in self.factors.items():
            for path in self.places[name].paths:
                if id(tensors[path]) not in seen:
                    seen.add(id(tensors[path]))
                    by_factor.setdefault(factor, []).append(tensors[path])
        return [{"params": found, "lr": rate * factor, "base": rate * factor} for factor, found in by_factor.items()]

    def arranged(self, inputs: list[Tensor]) -> list[Tensor]:
        """Pictures in the memory order of the module's kernels."""
        if self._channels_last is None:
            kernels = [p for p in self.network.parameters() if p.ndim == 4]
            self._channels_last = any(
                p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in kernels
            )
        if not self._channels_last:
            return inputs
        return [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]

    def state(self) -> State:
        """Copies of all that training changes: parameters that learn, statistics that move."""
        held = self._held()
        return {name: [held[p].detach().cpu().clone() for p in self.places[name].paths] for name in self._changing()}

    def load(self, state: State) -> None:
        """Take over tensors that :meth:`state` gave; what the state does not have stays."""
        held = self._held()
        with torch.no_grad():
            for name, tensors in state.items():
                if name not in self.places:
                    raise UsageError(f"the checkpoint is of another network: it has {name!r}")
                for path, tensor in zip(self.places[name].paths, tensors, strict=True):
                    held[path].copy_(tensor)

    def _held(self) -> dict[str, Tensor]:
        network = self.network
        return {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers())}

    def _changing(self) -> list[str]:
        moving = [n for n, p in self.places.items() if p.role == Role.STATE and not self._fixed(p.paths[0])]
        return [*self.factors, *moving]

    def _fixed(self, path: str) -> bool:
        module = self.network.get_submodule(path.rpartition(".")[0])
        return isinstance(module, BATCH_NORMS) and not module.training


def learner(model: Model, to_torch: ToTorch, factors: Mapping[str, float]) -> Learner:
    """Build the module of a model, with what is frozen frozen.

    Args:
        model: the (second half of the) network.
        to_torch: makes the module.
        factors: factor of the learning rate by initializer; what is frozen or has 0 does not learn.

    Raises:
        UsageError: nothing learns.
    """
    network = with_quick_dropouts(to_torch(model))
    places = network.meta[PLACES]
    tensors = dict(network.named_parameters(remove_duplicate=False))
    for parameter in tensors.values():
        parameter.requires_grad_(False)
    learns: dict[str, float] = {}
    for name, place in places.items():
        factor = 0.0 if name in model.frozen else factors.get(name, 1.0)
        if place.role == Role.LEARNABLE and factor > 0:
            learns[name] = factor
            for path in place.paths:
                tensors[path].requires_grad_(True)
    if not learns:
        raise UsageError("nothing learns: every layer is frozen", hint="model.unfreeze(), or --train head")
    if sum(isinstance(m, nn.Conv2d) for m in network.modules()) > 1:  # half as long on a processor, less on a GPU
        network.to(memory_format=torch.channels_last)
    network.train()
    return Learner(network, learns, places)


def frozen_trunk(model: Model, to_torch: ToTorch) -> nn.Module:
    """The module of a frozen trunk: no gradients, evaluation mode, batch norms folded into convolutions."""
    return folded(to_torch(model)).requires_grad_(False)


def folded(module: Any) -> fx.GraphModule:
    """Fold each batch norm into the convolution in front of it, where nobody else reads that one."""
    module = copy.deepcopy(module).eval()
    modules = dict(module.named_modules())
    for node in list(module.graph.nodes):
        before = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if node.op != "call_module" or before is None or before.op != "call_module" or len(before.users) != 1:
            continue
        norm, conv = modules[node.target], modules[before.target]
        once = sum(n.op == "call_module" and n.target in (node.target, before.target) for n in module.graph.nodes) == 2
        if isinstance(norm, BATCH_NORMS) and isinstance(conv, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and once:
            fused = fuse_conv_bn_eval(conv, norm)
            parent, _, leaf = str(before.target).rpartition(".")
            setattr(module.get_submodule(parent), leaf, fused)
            modules[before.target] = fused
            node.replace_all_uses_with(before)
            module.graph.erase_node(node)
    module.recompile()
    return module
