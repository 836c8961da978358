"""The layer readers' side of the Keras importer: the registry, and what a reader gets to see of a layer.

A reader is one function::

    @layer("Dense", weights=kernel_and_bias)
    def dense(b: Builder, l: Layer, x: KT) -> KT: ...

It gets the builder (already stamping nodes with the layer's name), the layer, and the tensors of its first
argument, one by one; it returns the layer's outputs: one :class:`KT`, or a tuple. Further arguments of the call
(``value=``, ``initial_state=``) are in ``l.kwargs`` and ``l.args``.

``weights`` says which variables the layer has, in the order in which Keras creates them: a tuple of names, or a
function of the :class:`~netferry.converters.keras.spec.Spec` that returns :class:`Slot` objects (needed where
settings decide). Files bind weights by position, so this order is the file format.

``mask`` says what becomes of the mask of the first input: ``"keep"``, ``"drop"`` (Keras's default), or ``"own"``
(the reader sets the mask of what it returns).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from netferry.converters.registry import Registry

if TYPE_CHECKING:
    from netferry.converters.keras.spec import Spec

Reader = Callable[..., Any]
registry: Registry[Reader] = Registry("keras")


@dataclass(frozen=True)
class Slot:
    """One variable of a layer.

    ``name`` is the path below the layer in Keras 3's weight files plus the variable's own name
    (``kernel``, ``cell/recurrent_kernel``, ``forward_layer/cell/bias``).
    """

    name: str
    trainable: bool = True
    also: str = ""
    """the path that other versions of Keras write"""


class Unreadable(Exception):
    """A reader's way to say that nobody can read this layer (its settings hold a class of the user): it becomes a
    placeholder."""


Slots = Callable[["Spec"], Sequence[Slot]]
_slots: dict[str, Slots] = {}
_masks: dict[str, str] = {}


def layer(*types: str, weights: Sequence[str] | Slots = (), mask: str = "drop") -> Callable[[Reader], Reader]:
    """Decorator: register a function as the reader of Keras layers ``types`` (class names of any generation).

    Raises:
        UsageError: a type has a reader already.
    """

    def register(function: Reader) -> Reader:
        registry.layer(*types)(function)
        for kind in types:
            _masks[kind] = mask
            if callable(weights):
                _slots[kind] = weights
            else:
                fixed = tuple(Slot(name) for name in weights)
                _slots[kind] = lambda _, fixed=fixed: fixed
        return function

    return register


def slots_of(spec: Spec) -> list[Slot]:
    """Return the variables of a layer (of a whole model for a nested one), in the order of their creation."""
    if spec.layers is not None:
        return [
            replace(placed, trainable=placed.trainable and child.trainable)
            for key, child in spec.keyed_layers()
            for placed in below(f"layers/{key}", slots_of(child))
        ]
    found = _slots.get(spec.type)
    slots = list(found(spec)) if found is not None else []
    return slots if spec.trainable else [replace(s, trainable=False) for s in slots]


def below(path: str, slots: Sequence[Slot]) -> list[Slot]:
    """Return an inner layer's slots as seen from the layer around it, which keeps it as attribute ``path``."""
    return [Slot(f"{path}/{s.name}", s.trainable, f"{path}/{s.also}" if s.also else "") for s in slots]


def mask_policy(kind: str) -> str:
    """keep, drop or own."""
    return _masks.get(kind, "drop")


def kernel_and_bias(spec: Spec) -> list[Slot]:
    """``kernel`` and, unless switched off, ``bias``."""
    use = spec.config.get("use_bias", spec.config.get("bias", True))
    return [Slot("kernel"), Slot("bias")] if use else [Slot("kernel")]
