"""Weights found in files and bound to layers: by position within a layer, as Keras itself does.

Two ways of writing exist. *Legacy* files (model.save to .h5, all of Keras 1 and most of 2) list per top-level layer
the arrays of ``trainable_weights + non_trainable_weights``, those of nested models included. *Path* files (.keras,
.weights.h5 of Keras 3 and late Keras 2) keep each object's variables under ``<path>/vars/<number>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from netferry.converters.hdf5 import Hdf5File
from netferry.converters.hdf5_data import Array
from netferry.converters.keras.registry import Slot, slots_of
from netferry.converters.keras.spec import Spec
from netferry.errors import LimitExceeded, MalformedFile, WeightsError, quoted
from netferry.schemas.model import Note


@dataclass
class Bound:
    """The arrays of one layer by slot name; of a nested model with the path of its layers in front."""

    arrays: dict[str, Array] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


class Store(Protocol):
    """Weights as a file keeps them."""

    def bind(self, model: Spec, notes: list[Note]) -> tuple[dict[str, Array], list[str]]:
        """Return arrays by full slot name (``layers/conv2d_1/kernel``), and what is missing in readable form."""
        ...


class LegacyStore:
    """Weights by top-level layer name and position."""

    def __init__(self, file: Hdf5File, group: str) -> None:
        self.file, self.group = file, group
        names = file.names(group, "layer_names")
        if names is None:
            raise MalformedFile("the weights have no layer_names", file=file.path)
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise MalformedFile(f"layer {quoted(twice)} is there twice", file=file.path)
        self.names = names
        self.version = file.attribute(group, "keras_version")
        self.backend = file.attribute(group, "backend")

    def arrays(self, layer: str) -> list[Array]:
        """Return a layer's arrays in the order in which its writer lists them."""
        group = f"{self.group}/{layer}"
        names = self.file.names(group, "weight_names") or []
        return [self.file.dataset(f"{group}/{name}") for name in names]

    def bind(self, model: Spec, notes: list[Note]) -> tuple[dict[str, Array], list[str]]:
        """Bind by layer name, or by position, as Keras does, where the names are those of another run or version.

        A name that both have must then stand in the same place, or differ by Keras's counting alone.
        """
        wanted = [(key, child, slots_of(child)) for key, child in model.keyed_layers()]
        holders = [(key, child, slots) for key, child, slots in wanted if slots]
        stored = {name: self.arrays(name) for name in self.names}
        filled = [name for name in self.names if stored[name]]
        by_name = all(child.name in stored for _, child, _ in holders)
        pairs = {child.name: child.name for _, child, _ in wanted}
        if not by_name and len(filled) == len(holders):
            fits = all(len(stored[name]) == len(slots) for name, (_, _, slots) in zip(filled, holders, strict=True))
            ours = {child.name for _, child, _ in holders}
            if fits and all(
                _counted_on(name, child.name) or (name not in ours and not stored.get(child.name))
                for name, (_, child, _) in zip(filled, holders, strict=True)
            ):
                pairs = {child.name: name for name, (_, child, _) in zip(filled, holders, strict=True)}
                notes.append(Note("assumed", "layer names differ between the files: weights bound by position"))
        order = list(dict.fromkeys(child.name for _, child, _ in holders))
        if by_name and [name for name in filled if name in set(order)] != order:
            told = "the weights file has the layers in another order: bound by name, where Keras goes by the order"
            notes.append(Note("warning", told))
        found: dict[str, Array] = {}
        missing: list[str] = []
        used: set[str] = set()
        for key, child, slots in wanted:
            name = pairs.get(child.name, child.name)
            used.add(name)
            arrays = stored.get(name, [])
            ordered = legacy_order(child, slots)
            if not slots:
                # a layer nobody can read keeps what it has
                found.update({f"layers/{key}/{i}": array for i, array in enumerate(arrays)})
                continue
            for slot, array in zip(ordered, arrays, strict=False):
                found[f"layers/{key}/{slot.name}"] = array
            missing.extend(f"{child.name}/{slot.name}" for slot in ordered[len(arrays) :])
            if len(arrays) > len(ordered):
                extra = f"{len(arrays) - len(ordered)} more arrays than the layer has variables"
                notes.append(Note("ignored", f"the weights file holds {extra}", child.name))
        notes.extend(
            Note("ignored", "the weights file has this layer, the model does not", name)
            for name in filled
            if name not in used
        )
        return found, missing


def _counted_on(one: str, other: str) -> bool:
    """Whether two names are equal but for a number at the end: Keras names layers by counting in one process.

    The published files of keras.applications begin at ``conv2d_1``; a model that is made first begins at ``conv2d``.
    """
    return re.sub(r"_\d+$", "", one) == re.sub(r"_\d+$", "", other)


def legacy_order(spec: Spec, slots: Sequence[Slot]) -> list[Slot]:
    """Order of a top-level layer's arrays: trained ones first; Keras 1 kept nested layers together."""
    if spec.generation == 1 and spec.layers is not None:
        return [
            Slot(f"layers/{key}/{s.name}")
            for key, child in spec.keyed_layers()
            for s in legacy_order(child, slots_of(child))
        ]
    return sorted(slots, key=lambda s: not s.trainable)


class PathStore:
    """Weights by path: one file, or several shards.

    Keras 2.12 to 2.15 spells paths in ways of its own (see :func:`checkpoint_paths`); on Windows it wrote each as the
    name of one group, ``layers\\dense``.
    """

    def __init__(self, files: Sequence[Hdf5File]) -> None:
        self.files = files
        self._walked = 0
        self._spelled = {
            name.replace("\\", "/"): name for file in files for name in file.groups("") if "\\" in name
        }  # fmt: skip

    def array(self, path: str, index: int | str) -> Array | None:
        """Return variable ``index`` of the object at ``path``; a few layers write names instead of numbers."""
        name = "/".join(p for p in (self._spelled.get(path, path), "vars", str(index)) if p)
        for file in self.files:
            if file.has(name):
                return file.dataset(name)
        return None

    def _objects(self, path: str) -> list[str]:
        """Paths of all objects at and below ``path`` that hold variables."""
        found: list[str] = []
        for file in self.files:
            actual = self._spelled.get(path, path)
            if not file.is_group(actual):
                continue
            self._walked += 1
            if self._walked > file.limits.layers:  # hard links can make a circle of groups
                raise LimitExceeded(f"more than {file.limits.layers} groups of weights (limit layers)", file=file.path)
            for name in file.groups(actual):
                if name == "vars":
                    if file.datasets(f"{actual}/vars"):
                        found.append(path)
                else:
                    found.extend(self._objects(f"{path}/{name}"))
        found.extend(p for below in self._spelled if below.startswith(f"{path}/") for p in self._objects(below))
        return list(dict.fromkeys(found))

    def bind(self, model: Spec, notes: list[Note]) -> tuple[dict[str, Array], list[str]]:
        """Bind every variable by the path of its object and its number there."""
        found: dict[str, Array] = {}
        missing: list[str] = []
        counts: dict[str, int] = {}
        slots = slots_of(model)
        places = self._places([path for s in slots for path in (_object(s.name), _object(s.also)) if path])
        for slot in slots:
            path = places.get(_object(slot.name), "")
            index = counts.get(path, 0)
            counts[path] = index + 1
            array = self.array(path, index)
            if array is None and slot.also:
                array = self.array(places[_object(slot.also)], index)
            if array is None:
                array = self.array(path, slot.name.rpartition("/")[2])
            if array is None:
                missing.append(slot.name)
            else:
                found[slot.name] = array
        if missing:
            written_once = self._written_once(model, places, found, set(missing))
            for path, original in written_once.items():
                notes.append(Note("assumed", f"is the layer {quoted(original)}, which the file has once", path))
            missing = [name for name in missing if name not in found]
        missing = [name.removeprefix("layers/") for name in missing]
        top = "layers" if _CHECKPOINT not in self._tops() else _CHECKPOINT
        for path in self._objects(top):
            if path.endswith("seed_generator"):
                continue
            known = counts.get(path, 0)
            extra = 0
            while (array := self.array(path, known + extra)) is not None:
                found[f"{path.replace(_CHECKPOINT, 'layers')}/{known + extra}"] = array
                extra += 1
            if extra and known:
                notes.append(Note("ignored", f"{extra} variables more than the layer has", path))
        return found, missing

    def _written_once(
        self, model: Spec, places: dict[str, str], found: dict[str, Array], missing: set[str]
    ) -> dict[str, str]:
        """Fill in weights of layers that stand in several models: Keras writes an object the first time it meets it.

        Where it meets it again it writes nothing, where other layers without variables still have a group. So a layer
        without a group is the one of its name, class and settings that has its weights. Returns path -> path.
        """
        whole: dict[tuple[str, str, str], list[tuple[str, list[Slot]]]] = {}
        absent: list[tuple[str, tuple[str, str, str], list[Slot]]] = []
        for path, leaf in _leaves(model):
            slots = slots_of(leaf)
            names = [f"{path}/{slot.name}" for slot in slots]
            same = (leaf.type, leaf.name, json.dumps(_own(leaf.config), sort_keys=True))
            if names and all(name in found for name in names):
                whole.setdefault(same, []).append((path, slots))
            elif names and all(name in missing for name in names):
                objects = {places.get(_object(name), _object(name)) for name in names} | {path}
                if not any(file.is_group(self._spelled.get(o, o)) for file in self.files for o in objects):
                    absent.append((path, same, slots))
        made: dict[str, str] = {}
        for path, same, slots in absent:
            if len(originals := whole.get(same, [])) == 1:
                original = originals[0][0]
                found.update({f"{path}/{slot.name}": found[f"{original}/{slot.name}"] for slot in slots})
                made[path] = original
        return made

    def _tops(self) -> set[str]:
        """Names of the outermost groups."""
        return {name.partition("/")[0] for file in self.files for name in (*file.groups(""), *self._spelled)}

    def _places(self, paths: Sequence[str]) -> dict[str, str]:
        """Where the file keeps each object: its path, spelled as the version that wrote the file spells it."""
        ways = [{path: path for path in paths}]
        if _CHECKPOINT in self._tops():
            ways += [checkpoint_paths(paths, doubled=doubled) for doubled in (True, False)]
        return max(ways, key=lambda way: sum(self.array(place, 0) is not None for place in set(way.values())))


_CHECKPOINT = "_layer_checkpoint_dependencies"


def checkpoint_paths(paths: Sequence[str], *, doubled: bool) -> dict[str, str]:
    """Spell paths of objects as Keras 2.12 to 2.15 does: a model's layers lie under another name.

    ``doubled``: layers with weights count twice when layers of one class are numbered (``dense``, ``dense_2``,
    ``dense_4``), as they are twice in that list of dependencies; 2.14 mended that.
    """
    seen: dict[tuple[str, str], dict[str, int]] = {}
    made: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        for i, key in enumerate(parts[1:], start=1):
            if parts[i - 1] != "layers":
                continue
            match = re.fullmatch(r"(.+?)_(\d{1,9})", key)
            base, number = (match[1], int(match[2])) if match else (key, 0)
            before = seen.setdefault(("/".join(parts[: i - 1]), base), {})
            number += before.setdefault(key, len(before)) if doubled else 0
            parts[i - 1], parts[i] = _CHECKPOINT, f"{base}_{number}" if number else base
        made[path] = "/".join(parts)
    return made


def _leaves(model: Spec, path: str = "") -> Iterator[tuple[str, Spec]]:
    """The layers of a model, of the models in it and in wrappers, and cells, with their paths."""
    for key, child in model.keyed_layers():
        place = f"{path}layers/{key}"
        if child.layers is not None:
            yield from _leaves(child, f"{place}/")
            continue
        yield place, child
        for name in ("layer", "cell"):
            if isinstance(child.config.get(name), dict):
                inner = child.inner(child.config[name], name)
                yield from [(f"{place}/{name}", inner)] if inner.layers is None else _leaves(inner, f"{place}/{name}/")


def _own(config: Any) -> Any:
    """Settings without the numbers by which Keras tells objects apart within one file."""
    if isinstance(config, dict):
        return {key: _own(value) for key, value in config.items() if key != "shared_object_id"}
    return [_own(value) for value in config] if isinstance(config, list) else config


def _object(slot: str) -> str:
    return slot.rpartition("/")[0]


def require(missing: list[str], skip: bool, notes: list[Note], file: object) -> None:
    """Refuse a file that lacks weights, listing all, unless the caller goes on without them.

    Raises:
        WeightsError: with the list.
    """
    if not missing:
        return
    shown = ", ".join(quoted(m) for m in missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    if skip:
        notes.append(Note("warning", f"{len(missing)} weights are not in the file: {shown}"))
        return
    raise WeightsError(
        f"{len(missing)} weights are not in the file: {shown}",
        file=file,
        hint="--skip-missing goes on and leaves them without values",
    )
