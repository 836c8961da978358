"""EinsumDense against the real Keras."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case


@pytest.mark.parametrize(
    ("arguments", "shape", "operators"),
    [
        pytest.param("'ab,bc->ac', 5, bias_axes='c'", (4,), {"Gemm"}, id="dense"),
        pytest.param("'abc,cd->abd', (None, 5), bias_axes='d', activation='relu'", (None, 4), {"MatMul"}, id="series"),
        pytest.param("'...x,xy->...y', 5, bias_axes='y'", (3, 4), {"MatMul"}, id="ellipsis-in-front"),
        pytest.param("'...x,xy->...y', 5", (3, 2, 4), {"MatMul"}, id="ellipsis-two-axes"),
        pytest.param("'abc,cde->abde', (None, 2, 5), bias_axes='de'", (3, 4), {"Einsum"}, id="heads"),
        pytest.param("'abcd,cde->abe', (3, 5), bias_axes='e'", (3, 2, 4), {"Einsum"}, id="heads-joined"),
        pytest.param("'abc,bd->adc', (5, 4), bias_axes='d'", (3, 4), {"Einsum"}, id="over-time"),
        pytest.param("'ab...,bc->ac...', (5,), bias_axes='c'", (3, 4, 2), {"Einsum"}, id="ellipsis-behind"),
        pytest.param("'abc,bc->ab', (3,)", (3, 4), {"Einsum"}, id="no-new-axis"),
    ],
)
def test_equations(case: Case, arguments: str, shape: tuple[int | None, ...], operators: set[str]) -> None:
    assert operators <= set(case(f"L.EinsumDense({arguments})", shape).operators)


def test_after_convolution(case: Case) -> None:
    assert (
        "Einsum" not in case("L.EinsumDense('...x,xy->...y', 5, bias_axes='y')(L.Conv2D(4, 2)(x))", (5, 4, 3)).operators
    )
