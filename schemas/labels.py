"""Class labels: reading the files in which people keep them."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from netferry.errors import MalformedFile, quoted
from netferry.schemas.opening import read_bounded

MAX_BYTES = 16 * 1024 * 1024
"""Largest label file that is read; ImageNet-21k with all synonyms has 0.7 MB."""
MAX_LABELS = 1_000_000
_SYNSET = re.compile(r"[nvars]\d{8}")


def read_labels(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> list[str]:
    """Return the class labels of a file, in the order of the classes.

    Text holds one label per line, line k being class k - 1; empty lines at the end do not count. A WordNet id in
    front of every line (``n01440764 tench, Tinca tinca``, Caffe's synset_words.txt) is left out, a file of ids alone
    keeps them. JSON holds a list of strings, or an object from class index to label (``{"0": "tench"}``) or to
    ``[id, label]`` (Keras's imagenet_class_index.json), or from label to class index (``{"tench": 0}``, Keras's
    ``class_indices``), or such an object under ``id2label`` or ``label2id`` (config.json of Hugging Face's models).

    Raises:
        InputError: the file cannot be opened.
        LimitExceeded: larger than ``max_bytes``.
        MalformedFile: not UTF-8, not labels, no labels, or classes left out.
    """
    raw = read_bounded(path, max_bytes, "a label file (max_bytes)")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedFile(
            "the labels are not UTF-8 text", file=path, offset=error.start, hint="iconv -f LATIN1 -t UTF-8 converts it"
        ) from None
    try:
        labels = _from_json(text) if text.lstrip()[:1] in ("[", "{") else _from_lines(text)
        return check_labels(labels)
    except MalformedFile as error:
        raise error.at(file=path) from None


def check_labels(labels: list[str]) -> list[str]:
    """Return the labels where there are some, and each is one line of text.

    Raises:
        MalformedFile: none, too many, or one with control characters.
    """
    if not labels:
        raise MalformedFile("there are no labels")
    if len(labels) > MAX_LABELS:
        raise MalformedFile(f"there are {len(labels):,} labels, more than {MAX_LABELS:,}")
    for index, label in enumerate(labels):
        if any(ord(c) < 32 or ord(c) == 127 for c in label):
            raise MalformedFile(f"label {index} has control characters: {quoted(label)}")
    return labels


def _from_lines(text: str) -> list[str]:
    lines = [line.strip().replace("\t", " ") for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line:  # the classes behind it would all be off by one, or not: nobody can tell
            raise MalformedFile("an empty line among the labels", line=number, column=1)
    words = [line.split(None, 1) for line in lines]
    if lines and all(len(w) == 2 and _SYNSET.fullmatch(w[0]) for w in words):
        return [w[1] for w in words]
    return lines


def _from_json(text: str) -> list[str]:
    try:
        raw = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        if text.lstrip()[:1] == "[":  # a line of text may start so
            return _from_lines(text)
        raise MalformedFile(f"the JSON is broken: {error.msg}", line=error.lineno, column=error.colno) from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of too many digits
        raise MalformedFile(f"the JSON is no list of labels: {quoted(error)[1:-1]}") from None
    if isinstance(raw, list):
        return [_label(value, i) for i, value in enumerate(raw)]
    raw = next((raw[name] for name in ("id2label", "label2id") if isinstance(raw.get(name), dict)), raw)
    if raw and all(type(value) is int for value in raw.values()):
        return _by_index({value: key for key, value in raw.items()}, len(raw))
    by_index: dict[int, str] = {}
    for key, value in raw.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10) or int(key) in by_index:
            raise MalformedFile(f"the JSON maps {quoted(key)} to a label, which is no class index of its own")
        by_index[int(key)] = _label(value, int(key))
    return _by_index(by_index, len(by_index))


def _by_index(labels: dict[int, str], count: int) -> list[str]:
    missing = next((i for i in range(count) if i not in labels), None)
    if missing is not None:
        raise MalformedFile(f"the JSON has {count} labels, but none for class {missing}")
    return [labels[i] for i in range(count)]


def _label(value: Any, index: int) -> str:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return value[1]
    if not isinstance(value, str):
        raise MalformedFile(f"label {index} is {quoted(value)}, no text")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedFile("a key of the JSON appears twice")
    return found
