"""Which class of a network a data set's label means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from netferry.errors import UsageError, quoted

_SYNSET = re.compile(r"[nvars]\d{8}")


class Labelling:
    """Turns labels of a data set into class numbers of a network, and says how it does.

    A label is one of the network's names: as it is, else without regard to case, ``_`` and ``-``, else as the first of
    the synonyms that commas part (``tench, Tinca tinca``). Networks without names take numbers, or, where the data is a
    folder per class with as many folders as the network has classes, the folders in alphabetical order.

    Args:
        names: the network's class names, None where it has none.
        classes: the data set's, where those are known beforehand.
        count: how many classes the network has.

    Attributes:
        names: a name for every class.
    """

    def __init__(self, names: Sequence[str] | None, classes: Sequence[str] | None, count: int) -> None:
        self._count = count
        self._known: dict[str, int] = {}
        if names is None and classes is not None and len(classes) == count and not _are_numbers(classes):
            names = classes
        self.names = list(names) if names is not None else [f"class {i}" for i in range(count)]
        self._numbers = names is None
        for spell in (str, _plain, lambda n: _plain(n.split(",")[0])):
            spelled = [spell(name) for name in self.names]
            often = Counter(spelled)
            for number, text in enumerate(spelled):
                if spell is str or often[text] == 1:  # ImageNet has two cranes: exact names mean the first
                    self._known.setdefault(text, number)

    def __call__(self, label: str | None, item: str) -> int:
        """Return the class that a label means.

        Raises:
            UsageError: the item has no label, or one that is no class of the network.
        """
        if label is None:
            raise UsageError("the item has no label", file=item, hint="a folder per class, or an index with labels")
        for text in (label, _plain(label)):
            if text in self._known:
                return self._known[text]
        if label.isascii() and label.isdigit() and int(label) < self._count and len(label) < 10:
            return int(label)
        if self._numbers:
            hint = "--labels gives the network's class names, one a line"
        else:
            hint = f"the network's classes: {', '.join(self.names[:8])}{' …' if len(self.names) > 8 else ''}"
        raise UsageError(f"label {quoted(label)} is no class of the network", file=item, hint=hint)


def _plain(text: str) -> str:
    words = re.sub(r"[\s_-]+", " ", text.strip().casefold()).split(" ", 1)
    return words[1] if len(words) == 2 and _SYNSET.fullmatch(words[0]) else " ".join(words)


def _are_numbers(classes: Sequence[str]) -> bool:
    return all(c.isascii() and c.isdigit() for c in classes)
