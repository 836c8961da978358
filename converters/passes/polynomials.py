"""Sizes as polynomials with integer coefficients in the dynamic dimensions, which are at least 0.

``2*batch*h`` is ``{("batch", "h"): 2}``. Two sizes are taken for equal only where their polynomials are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Term = tuple[str, ...]


@dataclass(frozen=True)
class Poly:
    """A polynomial: its terms, sorted, none with coefficient 0."""

    terms: tuple[tuple[Term, int], ...]

    def __add__(self, other: Poly) -> Poly:
        return _sum([*self.terms, *other.terms])

    def __neg__(self) -> Poly:
        return Poly(tuple((t, -c) for t, c in self.terms))

    def __sub__(self, other: Poly) -> Poly:
        return self + -other

    def __mul__(self, other: Poly) -> Poly:
        return _sum((tuple(sorted(a + b)), c * d) for a, c in self.terms for b, d in other.terms)

    def __str__(self) -> str:
        return "+".join("*".join([str(c), *t]) for t, c in self.terms) or "0"

    @property
    def number(self) -> int | None:
        """The value, where it does not depend on a dynamic dimension."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    @property
    def atom(self) -> str | None:
        """The dynamic dimension that this is, and nothing else."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    @property
    def natural(self) -> bool:
        """Whether it is at least 0, whatever the sizes."""
        return all(c >= 0 for _, c in self.terms)

    def over(self, other: Poly) -> Poly | None:
        """The exact quotient by a single term; None where there is none."""
        if len(other.terms) != 1:
            return None
        term, factor = other.terms[0]
        out: list[tuple[Term, int]] = []
        for mine, c in self.terms:
            rest = list(mine)
            for name in term:
                if name not in rest:
                    return None
                rest.remove(name)
            if c % factor:
                return None
            out.append((tuple(rest), c // factor))
        return _sum(out)


def _sum(terms: Iterable[tuple[Term, int]]) -> Poly:
    found: dict[Term, int] = {}
    for term, c in terms:
        found[term] = found.get(term, 0) + c
    return Poly(tuple(sorted((t, c) for t, c in found.items() if c)))


def number(n: int) -> Poly:
    """A constant."""
    return Poly((((), int(n)),) if n else ())


def symbol(name: str) -> Poly:
    """A dynamic dimension."""
    return Poly((((name,), 1),))


def product(values: Iterable[Poly]) -> Poly:
    """The product; 1 of none."""
    out = number(1)
    for value in values:
        out = out * value
    return out
