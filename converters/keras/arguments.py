"""Arguments of a call: their leaves, a model's inputs among them, the mask that a call gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT, explicit_mask
from netferry.converters.keras.spec import Ref, Spec, refs_in
from netferry.errors import MalformedFile


def flattened(value: Any) -> list[Any]:
    """Leaves of nested lists, tuples and objects, in order; an object's by its keys in theirs, as Keras counts them."""
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flattened(item)]
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in flattened(value[key])]
    return [value]


def masked(inputs: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The one tensor of a call with the mask that the call gives it, in the place of its own."""
    mask = kwargs.get("mask")
    if isinstance(mask, list) and len(mask) == 1:
        mask = mask[0]
    if len(inputs) != 1 or not isinstance(inputs[0], KT) or not isinstance(mask, KT):
        return inputs
    return [replace(inputs[0], mask=explicit_mask(mask))]


def draws(l: Layer) -> bool:
    """Whether a layer draws at random in training."""
    rates = [l.spec.config.get(name) for name in ("rate", "dropout", "recurrent_dropout", "stddev")]
    return l.type.startswith("Random") or any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)


def as_told(structure: Any) -> Any:
    """References of the outermost model in the order of the file, which is that of its inputs and outputs here."""
    return structure if isinstance(structure, Ref) else list(refs_in(structure))


def matched(spec: Spec, args: list[Any], *, outermost: bool) -> list[tuple[Ref, Any]]:
    """The inputs of a model with the tensors of a call: by key where the call has keys, else by place."""
    told = as_told(spec.inputs) if outermost else spec.inputs
    refs = [ref for ref in flattened(told) if isinstance(ref, Ref)]
    given: Any = args[0] if len(args) == 1 else args
    if isinstance(given, dict) and isinstance(told, dict) and set(given) >= set(told):
        given = {k: given[k] for k in told}
    elif isinstance(given, dict) and set(given) >= {ref.layer for ref in refs}:
        given = [given[ref.layer] for ref in refs]
    found = flattened(given)
    if len(found) != len(refs):
        raise MalformedFile(f"the model takes {len(refs)} inputs, {len(found)} are given", layer=spec.name)
    return list(zip(refs, found, strict=True))
