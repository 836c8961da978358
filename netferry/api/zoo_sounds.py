"""The classes of sounds that YAMNet tells apart, and what they are kinds of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netferry.zoo.sound_classes import SoundClass


def ontology(*, everything: bool = False) -> dict[str, Any]:
    """Return the AudioSet ontology as a node-link graph, which ``networkx.node_link_graph`` reads.

    Args:
        everything: all 632 classes, instead of YAMNet's 521 and what is above them.

    Returns:
        ``nodes`` of ``id``, ``name`` and ``class`` (YAMNet's output, None where it has none); ``edges`` from ``source``
        to ``target``, a kind of it; ``graph`` with the number of ``classes``, the ids of the ``roots``, source and
        licence.
    """
    from netferry.zoo.sound_classes import LICENCE, SOURCE, sound_classes

    classes = sound_classes(everything)
    return {
        "directed": True,
        "multigraph": False,
        "graph": {
            "classes": sum(each.index is not None for each in classes.values()),
            "roots": [each.id for each in classes.values() if not each.parents],
            "source": SOURCE,
            "licence": LICENCE,
        },
        "nodes": [_node(each) for each in classes.values()],
        "edges": [{"source": each.id, "target": child} for each in classes.values() for child in each.children],
    }


def find_sounds(word: str, *, everything: bool = False) -> list[dict[str, Any]]:
    """Return the classes of sounds of a name, the closest first.

    Args:
        word: an id, or words that the name's words begin with, in any case.
        everything: see :func:`ontology`.

    Returns:
        For each ``id``, ``name``, ``class``, its ``children`` and its ``paths``: from the top down, without itself.

    Raises:
        UsageError: there is none.
    """
    from netferry.zoo.sound_classes import paths, search, sound_classes

    classes = sound_classes(everything)
    return [
        {
            **_node(each),
            "paths": [[_node(step) for step in way] for way in paths(each.id, everything)],
            "children": [_node(classes[child]) for child in each.children],
        }
        for each in search(word, everything)
    ]


def _node(each: SoundClass) -> dict[str, Any]:
    return {"id": each.id, "name": each.name, "class": each.index}
