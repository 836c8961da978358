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


def first_named(spec: Spec, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call with the tensors in front, where Keras 3 was given them by name: ``dense(inputs=x)``."""
    name = next((n for n in _FIRST if n in kwargs), None)
    if args or name is None or spec.type.startswith(("ops:", "tf.", "raw.")):
        return args, kwargs
    return [kwargs[name]], {k: v for k, v in kwargs.items() if k != name}


_FIRST = ("inputs", "sequences", "sequence", "xs", "x")
_SECOND_IS_MASK = ("GlobalAveragePooling1D", "GlobalAvgPool1D")


def masked(inputs: list[Any], kwargs: dict[str, Any], mask: Any = None) -> list[Any]:
    """The tensors of a call with the masks that the call gives them, in the place of their own."""
    masks = flattened(kwargs.get("mask", mask))
    given = [item for value in inputs for item in (value if isinstance(value, list) else [value])]
    if len(given) != len(masks) or not any(isinstance(m, KT) for m in masks):
        return inputs
    return [
        replace(x, mask=explicit_mask(m)) if isinstance(x, KT) and isinstance(m, KT) else x
        for x, m in zip(given, masks, strict=True)
    ]


def mask_behind(l: Layer) -> Any:
    """The mask that a call gives by its place."""
    return l.args[1] if l.type in _SECOND_IS_MASK and len(l.args) > 1 else None


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
