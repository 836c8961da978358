"""Values with their own mean and spread: learnt standardized, and put back into the head afterwards."""

from __future__ import annotations

import numpy as np

from netferry.runtime.training.objective import Objective
from netferry.schemas.head import CLASSIFIERS, class_axis, ending_of
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of, array_tensor

_LINEAR = {"GlobalAveragePool", "AveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity",
           "Transpose", "Dropout"}  # fmt: skip


def standardize(model: Model, objective: Objective, targets: np.ndarray, fresh: bool) -> bool | None:
    """Learn values as (value - mean) / spread, where the head can take mean and spread over afterwards."""
    ending = ending_of(model)
    node = ending.classifier
    if node is None or any(n.op_type not in _LINEAR for n in ending.behind) or len(node.inputs) < 3:
        return None
    objective.center = targets.mean(0).astype(np.float32)
    spread = targets.std(0).astype(np.float32)
    objective.spread = np.where(spread > 0, spread, 1).astype(np.float32)
    if not fresh:
        _affine(model, 1 / objective.spread, -objective.center / objective.spread)
    return True


def destandardize(model: Model, objective: Objective) -> None:
    """Let the head give values as they are."""
    _affine(model, objective.spread, objective.center)


def _affine(model: Model, factor: np.ndarray, shift: np.ndarray) -> None:
    """Let the classifier give ``factor * result + shift``."""
    node = ending_of(model).classifier
    weight, bias = (None, None) if node is None else (node.inputs[CLASSIFIERS[node.op_type]], node.inputs[2])
    if node is None or weight is None or bias is None:
        raise AssertionError("checked before")
    for value, axis, plus in ((weight, class_axis(node), None), (bias, -1, shift)):
        old = array_of(value)
        if old is None:
            raise AssertionError("checked before")
        shape = [1] * old.ndim
        shape[axis] = len(factor)
        new = old * factor.reshape(shape) + (0 if plus is None else plus.reshape(shape))
        value.const_value = array_tensor(new.astype(old.dtype), value.name)
