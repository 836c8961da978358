"""Networks by name::

    >>> from netferry import zoo
    >>> model = zoo.load("resnet50")                        # seeded weights, offline
    >>> model = zoo.load("resnet50", weights="published")   # those of its official home
    >>> model = zoo.load("resnet50", num_classes=5)         # another head

The functions are those of :mod:`netferry.api.zoo`; this package holds the catalogue, definitions and class names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netferry.api.zoo import build, find_sounds, load, names, ontology, pull, show

__all__ = ["build", "find_sounds", "load", "names", "ontology", "pull", "show"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'netferry.zoo' has no attribute {name!r}")
    return getattr(import_module("netferry.api.zoo"), name)
