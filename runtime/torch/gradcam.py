"""Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391): where a network looks for a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from netferry.errors import UsageError


def gradcam(module: torch.nn.Module, inputs: np.ndarray, target: int) -> np.ndarray:
    """Return the class activation map of one picture, (H, W) float32, not negative.

    The map is ``relu(sum_k a_k A_k)``: the layer's channels ``A_k``, weighted with ``a_k``, the mean gradient of the
    class's score over the positions of the channel.

    Args:
        module: a module that returns (scores, activations) for the input; scores (1, C, ...) before any softmax.
        inputs: the network's input, batch of one.
        target: number of the class.

    Raises:
        UsageError: the layer's values are no picture, or the score does not depend on them.
    """
    module.eval()
    tensor = torch.from_numpy(np.ascontiguousarray(inputs))
    if tensor.is_floating_point():
        tensor.requires_grad_()
    found: Any = module(tensor)
    scores, activations = found[0], found[1]
    if activations.ndim != 4:
        raise UsageError(f"the layer's values of shape {list(activations.shape)} are no pictures of channels")
    flat = scores.reshape(1, -1)
    score = flat[0, target if flat.shape[1] > 1 else 0]
    if flat.shape[1] == 1 and target == 0:
        score = -score  # one score is that of class 1 of two
    (gradient,) = torch.autograd.grad(score, activations, allow_unused=True)
    if gradient is None:
        raise UsageError("the class's score does not depend on the layer")
    weights = gradient.mean((2, 3), keepdim=True)
    return torch.relu((weights * activations).sum(1))[0].detach().to(torch.float32).numpy()
