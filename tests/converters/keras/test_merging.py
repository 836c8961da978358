"""Merging against the real Keras: same layout, different layouts, broadcasting."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

PICTURE = (5, 4, 6)


@pytest.mark.parametrize("kind", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        pytest.param("L.{}()(xs)", (PICTURE, PICTURE), id="plain"),
        pytest.param("L.{}()([L.Conv2D(6, 1)(xs[0]), L.Conv2D(6, 1)(xs[1])])", (PICTURE, PICTURE), id="both-conv"),
        pytest.param("L.{}()([L.Conv2D(6, 1)(xs[0]), xs[1]])", (PICTURE, PICTURE), id="one-conv"),
        pytest.param("L.{}()([L.Conv2D(6, 1)(xs[0]), xs[1]])", (PICTURE, (1, 1, 6)), id="broadcast-channels"),
        pytest.param("L.{}()(xs)", (PICTURE, (6,)), id="broadcast-rank"),
    ],
)
def test_elementwise(case: Case, kind: str, model: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    case(model.format(kind), *shapes)


@pytest.mark.parametrize("kind", ["Add", "Multiply", "Average", "Maximum", "Minimum"])
def test_three(case: Case, kind: str) -> None:
    case(f"L.{kind}()(xs)", (4, 3), (4, 3), (4, 3))


@pytest.mark.parametrize(
    ("model", "shapes", "transposes"),
    [
        pytest.param("L.Concatenate()(xs)", ((5,), (3,)), 0, id="vectors"),
        pytest.param("L.Concatenate()(xs)", ((5, 4, 6), (5, 4, 2)), 0, id="pictures"),
        pytest.param("L.Concatenate(axis=1)(xs)", ((5, 4, 6), (3, 4, 6)), 0, id="axis1"),
        pytest.param("L.Concatenate()([L.Conv2D(3, 1)(xs[0]), L.Conv2D(2, 1)(xs[0])])", (PICTURE, PICTURE), 2, id="conv"),
        pytest.param("L.Concatenate(axis=-2)([L.Conv2D(3, 1)(xs[0]), L.Conv2D(3, 1)(xs[0])])", (PICTURE, PICTURE), 2,
                     id="conv-width"),
        pytest.param("L.Concatenate()([L.Conv2D(3, 1)(xs[0]), xs[1]])", (PICTURE, PICTURE), 3, id="conv-and-input"),
        pytest.param("L.Dense(3)(L.Concatenate()([L.Flatten()(L.Conv2D(3, 2)(xs[0])), xs[1]]))", (PICTURE, (4,)), 2,
                     id="flatten"),
    ],
)  # fmt: skip
def test_concatenate(case: Case, model: str, shapes: tuple[tuple[int, ...], ...], transposes: int) -> None:
    assert case(model, *shapes, counts="xs[0])])" not in model).operators.count("Transpose") <= transposes


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        pytest.param("L.Dot(axes=1)(xs)", ((5,), (5,)), id="vectors"),
        pytest.param("L.Dot(axes=1, normalize=True)(xs)", ((5,), (5,)), id="cosine"),
        pytest.param("L.Dot(axes=2)(xs)", ((4, 5), (3, 5)), id="series"),
        pytest.param("L.Dot(axes=(2, 1))(xs)", ((4, 5), (5, 3)), id="two-axes"),
        pytest.param("L.Dot(axes=1)(xs)", ((5, 4), (5, 3)), id="axis1"),
        pytest.param("L.Dot(axes=(1, 2), normalize=True)(xs)", ((5, 4), (3, 5)), id="normalized"),
        pytest.param("L.Dot(axes=(2, 1))(xs)", ((4, 5), (5,)), id="matrix-vector"),
    ],
)
def test_dot(case: Case, model: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    case(model, *shapes)
