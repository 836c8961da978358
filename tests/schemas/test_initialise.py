"""Seeded values for parameters that have none: reproducible, in scale, of any shape."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.schemas.initialise import fill


@pytest.mark.parametrize("kind", ["msra", "xavier", "uniform", "gaussian", "constant", "positive_unitball"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (2, 3, 5, 5), (0,), (0, 3), (3, 0)], ids=str)
def test_fill(kind: str, shape: tuple[int, ...]) -> None:
    made = fill({"type": kind}, shape, "w", 0)
    assert made.shape == shape
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made, fill({"type": kind}, shape, "w", 0))


def test_names_and_seeds_differ() -> None:
    assert not np.array_equal(fill({}, (9,), "a", 0), fill({}, (9,), "b", 0))
    assert not np.array_equal(fill({}, (9,), "a", 0), fill({}, (9,), "a", 1))
    assert fill({}, (9,), "\udcff", 0).shape == (9,)
