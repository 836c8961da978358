"""Weights in safetensors files: of a model into a file, of a file into an architecture that is here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.training import require_torch, to_torch, update_from
from netferry.errors import InputError, MalformedFile, MissingExtra, OutputError, WeightsError, quoted

if TYPE_CHECKING:
    from netferry.api.reading import StrPath
    from netferry.schemas.model import Model


def save_weights(model: Model, target: StrPath) -> list[str]:
    """Write a model's parameters and state as a safetensors file, named as :func:`netferry.to_torch` names them.

    No pickle is involved: the file holds numbers and names. Weights that are tied are written under their first name.

    Returns:
        The names in the file.

    Raises:
        MissingExtra: torch or safetensors is not installed.
        OutputError: the file cannot be written.
    """
    require_torch()
    from netferry.runtime.torch.source.write import write_tensors
    from netferry.schemas.publish import whole

    path = Path(target)
    state: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in to_torch(model).state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            state[name] = tensor
        seen.add(id(tensor))
    try:
        with whole(path) as made:
            write_tensors(state, made)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", file=path) from None
    return list(state)


def load_weights(model: Model, source: StrPath, *, skip_missing: bool = False) -> list[str]:
    """Fill a model's parameters and state from a safetensors file, in place.

    Args:
        model: the model; one without values (an architecture alone) becomes whole.
        source: names are those of :func:`netferry.to_torch`'s ``state_dict`` (as :func:`save_weights` writes them, and
            as a state dict of the same network in PyTorch has them), or those of the model's own initializers.
        skip_missing: parameters that the file lacks keep their values.

    Returns:
        Names of the initializers that changed.

    Raises:
        WeightsError: weights are missing, surplus or wrongly shaped; nothing is changed then.
        MalformedFile: it is no safetensors file.
        MissingExtra: torch or safetensors is not installed.
    """
    require_torch()
    import torch

    path = Path(source)
    tensors = _read(path)
    empty = {name: model.graph.initializers[name].const_value for name in model.uninitialised}
    try:
        if empty:
            model.initialise(0)
        module = to_torch(model)
        state = module.state_dict(keep_vars=True)
        names = _matched(model, module, tensors, path)
        first: dict[int, str] = {}
        for name in state:
            first.setdefault(id(state[name]), name)
        wanted = {n for n in first.values() if not n.endswith("num_batches_tracked")}
        missing = sorted(wanted - {first[id(state[n])] for n in names})
        if missing and not (skip_missing and not empty):
            raise WeightsError(f"lacks {len(missing)} weights: {_some(missing)}", file=path)
        with torch.no_grad():
            for name, tensor in names.items():
                if state[name].shape != tensor.shape:
                    shapes = f"{list(tensor.shape)}, the network {list(state[name].shape)}"
                    raise WeightsError(f"has shape {shapes}", file=path, layer=name)
                state[name].copy_(tensor)
        changed = update_from(model, module)
    except BaseException:
        for name, value in empty.items():
            model.graph.initializers[name].const_value = value
        raise
    return sorted({*changed, *empty})


def _some(names: list[str]) -> str:
    return ", ".join(map(quoted, names[:8])) + (" …" if len(names) > 8 else "")


def _matched(model: Model, module: Any, tensors: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file's tensors by the module's names."""
    from netferry.runtime.torch.build import PLACES

    state = module.state_dict(keep_vars=True)
    surplus = sorted(set(tensors) - set(state))
    if not surplus:
        return tensors
    places = module.meta[PLACES]
    if set(tensors) <= set(places):
        found = {}
        for name, tensor in tensors.items():
            place = places[name]
            if tuple(tensor.shape) != place.shape:
                shapes = f"{list(tensor.shape)}, the network {list(place.shape)}"
                raise WeightsError(f"has shape {shapes}", file=path, layer=name)
            found.update(zip(place.paths, place.packing.unpack(tensor), strict=True))
        return {k: v.reshape(state[k].shape) for k, v in found.items()}
    raise WeightsError(f"holds {len(surplus)} weights that the network has not: {_some(surplus)}", file=path)


def _read(path: Path) -> dict[str, Any]:
    from importlib.util import find_spec

    if find_spec("safetensors") is None:
        raise MissingExtra("safetensors", "train", "reading weights")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from netferry.schemas.opening import need_regular

    try:
        return load_file(need_regular(path))
    except SafetensorError as error:
        raise MalformedFile(f"is no safetensors file: {quoted(error, 200)[1:-1]}", file=path) from None
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror or error}", file=path) from None
