"""Trained weights back into the very graph that the module was built from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from netferry.errors import UsageError, WeightsError, quoted
from netferry.runtime.torch.build import PLACES
from netferry.runtime.torch.store import Place
from netferry.runtime.torch.ties import separate
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, static_shape
from netferry.schemas.merged import merged_parameters, separate_merged
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of


def update_from(model: Model, module: nn.Module) -> list[str]:
    """Write a module's parameters and running statistics into the model it was built from.

    Names, structure, metadata and element types stay. A tensor whose values are what they were keeps its place (in
    its file, for instance). Nothing is written where one tensor does not fit.

    Args:
        model: the model that ``module`` was built from, or one with the same initializers.
        module: the module, or one that DistributedDataParallel or torch.compile made of it.

    Returns:
        Names of the initializers that changed.

    Raises:
        UsageError: the module was not built by netferry.
        WeightsError: parameters are missing, have other shapes, or hold values that are not finite.
    """
    inner = _unwrapped(module)
    places: dict[str, Place] = inner.meta[PLACES]
    tensors: dict[str, Tensor] = {**dict(inner.named_parameters(remove_duplicate=False)), **dict(inner.named_buffers())}
    new: dict[str, np.ndarray] = {}
    for name, place in places.items():
        value = model.graph.initializers.get(name) or _separated(model, name)
        if value is None:
            raise WeightsError("the model has no such parameter; was the module built from another one?", layer=name)
        if name in model.graph.initializers and static_shape(value) != place.shape:
            shapes = f"{list(static_shape(value))}, it was {list(place.shape)} where the module comes from"
            raise WeightsError(f"has shape {shapes}", layer=name)
        missing = [path for path in place.paths if path not in tensors]
        if missing:
            raise WeightsError(f"the module has no {quoted(missing[0])} any more", layer=name)
        wanted = place.packing.unpack(torch.empty(place.shape, device="meta"))
        for path, whole in zip(place.paths, wanted, strict=True):
            found = tensors[path]
            if found.shape != whole.shape:
                shapes = f"{list(found.shape)} in the module, {list(whole.shape)} in the model"
                raise WeightsError(f"{quoted(path)} has shape {shapes}", layer=name)
            if found.is_meta:
                raise WeightsError(f"{quoted(path)} is on torch's meta device and has no values", layer=name)
        with torch.no_grad():
            packed = place.packing.pack([tensors[path].detach().cpu() for path in place.paths])
        if packed.is_floating_point() and not bool(torch.isfinite(packed).all()):
            raise WeightsError("holds values that are not finite", layer=name)
        new[name] = _as_stored(packed.reshape(place.shape), value)
    return [name for name, array in new.items() if _write(model, name, array, places[name].role)]


def _unwrapped(module: nn.Module) -> torch.fx.GraphModule:
    found: object = module
    while not (isinstance(found, torch.fx.GraphModule) and PLACES in found.meta):
        inside = getattr(found, "_orig_mod", None) or (found.module if hasattr(found, "module") else None)
        if not isinstance(inside, nn.Module):
            raise UsageError("the module was not built by netferry: there is no way back for its weights")
        found = inside
    return found


def _as_stored(tensor: Tensor, value: ir.Value) -> np.ndarray:
    """Values in the element type of the graph."""
    kind = value.dtype
    if kind is None:
        raise WeightsError("has no element type", layer=value.name)
    if kind == ir.DataType.BFLOAT16:
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(kind.numpy())
    return tensor.to(torch.from_numpy(np.zeros(1, kind.numpy())).dtype).contiguous().numpy()


def _separated(model: Model, name: str) -> ir.Value | None:
    """The initializer that a copy of it, which training made different, shares with others: merged, or by Identity."""
    merged = next((one for one in merged_parameters(model.graph) if one.name == name), None)
    if merged is not None:
        return merged.source
    for node in model.graph:
        if node.op_type == "Identity" and node.outputs[0].name == name and node.inputs[0] is not None:
            source = node.inputs[0]
            while (producer := source.producer()) is not None and producer.op_type == "Identity" and producer.inputs[0]:
                source = producer.inputs[0]
            return source if source.is_initializer() else None
    return None


def _write(model: Model, name: str, array: np.ndarray, role: Role) -> bool:
    value = model.graph.initializers.get(name)
    old = array_of(value or _separated(model, name))
    if old is not None and old.shape == array.shape and old.tobytes() == array.tobytes():
        return False
    tensor = ir.Tensor(np.array(array, order="C"), name=name)
    if value is not None:
        value.const_value = tensor
        return True
    separate_merged(model.graph, name)
    if (value := model.graph.initializers.get(name)) is not None:
        value.const_value = tensor
        return True
    node = next(n for n in model.graph if n.op_type == "Identity" and n.outputs[0].name == name)
    separate(model.graph, node, tensor, role)
    return True
