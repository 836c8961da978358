"""Registries of layer readers: one function per layer type, duplicates refused, the supported list printed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from netferry.errors import UsageError, quoted

F = TypeVar("F", bound=Callable[..., object])


class Registry(Generic[F]):
    """Layer type -> reader function.

    Args:
        format: the source format, for messages and ``netferry layers``.
    """

    def __init__(self, format: str) -> None:
        self.format = format
        self._readers: dict[str, F] = {}

    def layer(self, *types: str) -> Callable[[F], F]:
        """Decorator: register a function as the reader of layer ``types``.

        Raises:
            UsageError: a type has a reader already: of netferry, or of a plug-in.
        """

        def register(function: F) -> F:
            for kind in types:
                if kind in self._readers:
                    both = f"{self._readers[kind].__module__} and {function.__module__}"
                    raise UsageError(f"{self.format} layer {quoted(kind)} has two readers: of {both}")
                self._readers[kind] = function
            return function

        return register

    def get(self, kind: str) -> F | None:
        """Return the reader of a layer type, or None."""
        return self._readers.get(kind)

    def __contains__(self, kind: object) -> bool:
        return kind in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._readers))

    def __len__(self) -> int:
        return len(self._readers)

    def describe(self) -> list[dict[str, str]]:
        """One row per type: type, family (the module), first line of the reader's docstring."""
        rows: list[dict[str, str]] = []
        for kind in self:
            reader = self._readers[kind]
            text = (reader.__doc__ or "").strip().splitlines()
            family = reader.__module__.rsplit(".", 1)[-1]
            rows.append({"type": kind, "family": family, "about": text[0] if text else ""})
        return rows
