"""One child per generation of Keras for the whole session, and a case per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.converters.keras.oracle import Case, Keras


@pytest.fixture(scope="session")
def keras_of() -> Iterator[Callable[[int], Keras]]:
    """Return the child of a generation, started when first asked for."""
    children: dict[int, Keras] = {}

    def get(generation: int) -> Keras:
        if generation not in children:
            children[generation] = Keras(generation)
        return children[generation]

    yield get
    for child in children.values():
        child.close()


@pytest.fixture(params=[pytest.param(2, id="keras2"), pytest.param(3, id="keras3")])
def case(request: pytest.FixtureRequest, keras_of: Callable[[int], Keras], tmp_path: Path) -> Case:
    """A case in each generation."""
    return Case(keras_of(request.param), tmp_path)


@pytest.fixture
def case2(keras_of: Callable[[int], Keras], tmp_path: Path) -> Case:
    """A case of Keras 2 only."""
    return Case(keras_of(2), tmp_path)


@pytest.fixture
def case3(keras_of: Callable[[int], Keras], tmp_path: Path) -> Case:
    """A case of Keras 3 only."""
    return Case(keras_of(3), tmp_path)
