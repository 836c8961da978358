"""The AudioSet ontology: kinds of sounds, from general to special, and which of them YAMNet tells apart.

Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017. A class may stand
under several others (``Hiss`` under ``Cat``, ``Snake``, ``Steam`` and ``Onomatopoeia``): a directed graph
without cycles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from netferry.errors import UsageError, quoted
from netferry.zoo.catalogue import class_names

SOURCE = "AudioSet ontology of 2017-03-06, https://github.com/audioset/ontology"
LICENCE = "CC BY-SA 4.0"


@dataclass(frozen=True)
class SoundClass:
    """A class of sounds; ``index`` is YAMNet's output of it, None where YAMNet has none."""

    id: str
    name: str
    index: int | None
    parents: tuple[str, ...]
    children: tuple[str, ...]


@cache
def sound_classes(everything: bool = False) -> dict[str, SoundClass]:
    """Return classes of sounds by id, in the ontology's order: depth first from the top.

    Args:
        everything: all 632 of the ontology, instead of YAMNet's 521 and what is above them.
    """
    text = files("netferry.zoo").joinpath("labels", "audioset_ontology.tsv").read_text("utf-8")
    rows = [(line + "\t").split("\t")[:3] for line in text.splitlines()]
    names = {key: name for key, name, _ in rows}
    children = {key: below.split() for key, _, below in rows}
    parents: dict[str, list[str]] = {key: [] for key in names}
    for key, below in children.items():
        for child in below:
            parents[child].append(key)
    index = {key: i for i, key in enumerate(class_names("audioset_ids"))}
    kept = set(names) if everything else _with_ancestors(set(index), parents)
    return {
        key: SoundClass(
            key, names[key], index.get(key), tuple(parents[key]), tuple(c for c in children[key] if c in kept)
        )
        for key in names
        if key in kept
    }


def _with_ancestors(keys: set[str], parents: dict[str, list[str]]) -> set[str]:
    """The keys and all that is above them."""
    found: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += parents[key]
    return found


def search(word: str, everything: bool = False) -> list[SoundClass]:
    """Return the classes of an id or of a name in which each word begins so, the closest first.

    ``cat`` finds Cat, Caterwaul and Cattle but not Scratch. A name or synonym that is just that comes first,
    then names with these whole words, then the others, each in the ontology's order.

    Raises:
        UsageError: there is none.
    """
    classes = sound_classes(everything)
    asked = _words(word)
    if word.strip() in classes:
        return [classes[word.strip()]]
    ranked = [(_rank(asked, each.name), each) for each in classes.values()]
    found = [each for rank, each in sorted((r for r in ranked if r[0] is not None), key=lambda r: r[0] or 0)]
    if not found:
        raise UsageError(f"no class of sounds is named {quoted(word)}", hint=_instead(word, everything))
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _rank(asked: list[str], name: str) -> int | None:
    """0 for the name or one of its synonyms, 1 for whole words of it, 2 for beginnings of words, None for neither."""
    words = _words(name)
    if not asked or not all(any(w.startswith(a) for w in words) for a in asked):
        return None
    if asked in [_words(synonym) for synonym in (name, *name.split(","))]:
        return 0
    return 1 if set(asked) <= set(words) else 2


def _instead(word: str, everything: bool) -> str:
    """What to do where nothing was found."""
    import difflib

    if not everything:
        try:
            return f"with --all there are {'; '.join(quoted(each.name) for each in search(word, True)[:3])}"
        except UsageError:
            pass
    known = {w: None for each in sound_classes(everything).values() for w in _words(each.name)}
    near = difflib.get_close_matches(word.casefold(), known, 3, 0.7)
    return f"did you mean {', '.join(near)}?" if near else "netferry zoo ontology, without a word, shows the top"


def paths(key: str, everything: bool = False) -> Iterator[tuple[SoundClass, ...]]:
    """Yield each way from the top down to a class, without the class itself; an empty one for a class at the top."""
    classes = sound_classes(everything)
    parents = classes[key].parents
    if not parents:
        yield ()
    for parent in parents:
        for way in paths(parent, everything):
            yield (*way, classes[parent])
