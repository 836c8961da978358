"""Seeded values for parameters that have none: reproducible, in scale, of any shape."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.errors import UnsupportedOption
from netferry.schemas.initialise import fill


@pytest.mark.parametrize("kind", ["msra", "xavier", "uniform", "gaussian", "constant", "positive_unitball"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (2, 3, 5, 5), (0,), (0, 3), (3, 0)], ids=str)
def test_fill(kind: str, shape: tuple[int, ...]) -> None:
    made = fill({"type": kind}, shape, "w", 0)
    assert made.shape == shape
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made, fill({"type": kind}, shape, "w", 0))


@pytest.mark.parametrize("kind", ["gaussian", "truncated_normal"])
def test_mean_and_spread_are_the_ones_asked_for(kind: str) -> None:
    made = fill({"type": kind, "mean": 3.0, "std": 0.5}, (200, 200), "w", 0)
    assert abs(made.mean() - 3) < 0.01
    assert 0.42 < made.std() < 0.51
    assert kind == "gaussian" or np.abs(made - 3).max() <= 1.0


def test_centred_values_sum_to_nothing_over_what_an_output_reads() -> None:
    made = fill({"type": "gaussian", "std": 2.0, "centred": 0}, (50, 400), "w", 0)
    np.testing.assert_allclose(made.mean(1), 0, atol=1e-6)
    assert abs(made.std() - 2) < 0.05


def test_bilinear_is_an_upsampling_kernel() -> None:
    made = fill({"type": "bilinear"}, (2, 1, 4, 4), "w", 0)
    ramp = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
    np.testing.assert_allclose(made, np.broadcast_to(np.outer(ramp, ramp), (2, 1, 4, 4)))


@pytest.mark.parametrize(("kind", "shape"), [("bilinear", (2, 1, 4, 3)), ("bilinear", (4, 4)), ("warp", (3,))])
def test_fillers_that_there_are_not(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedOption):
        fill({"type": kind}, shape, "w", 0)


def test_names_and_seeds_differ() -> None:
    assert not np.array_equal(fill({}, (9,), "a", 0), fill({}, (9,), "b", 0))
    assert not np.array_equal(fill({}, (9,), "a", 0), fill({}, (9,), "a", 1))
    assert fill({}, (9,), "\udcff", 0).shape == (9,)
