"""Which parts stay in float32: the search alone, on costs that are known, adding up as independent errors do."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.converters.passes.precision_mix import LEAST_SHARE, Mixer, Part


def chain(sizes: list[int]) -> list[Part]:
    parts = [Part({f"l{n}": None}, size) for n, size in enumerate(sizes)]
    for n in range(1, len(parts)):
        parts[n].neighbours.add(n - 1)
        parts[n - 1].neighbours.add(n)
    return parts


class Known:
    """Largest difference of a mix: the root of the sum of squares of the costs of what is in half precision."""

    def __init__(self, costs: list[float]) -> None:
        self.costs, self.runs = np.array(costs), 0

    def __call__(self, half: np.ndarray) -> float:
        self.runs += 1
        return float(np.sqrt((self.costs[half] ** 2).sum()))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [48, 8], ids=["each-alone", "in-groups"])
def test_what_stays_is_enough_and_little(seed: int, groups: int) -> None:
    """An amplifying network: costs fall and sizes grow with the depth."""
    rng = np.random.default_rng(seed)
    sizes = [int(s) for s in 2 ** np.linspace(6, 14, 40) * rng.uniform(0.5, 1.5, 40)]
    costs = list(2e-2 * 0.85 ** np.arange(40) * rng.uniform(0.5, 1.5, 40))
    known = Known(costs)
    mix = Mixer(chain(sizes), known, groups).find(known, 1.5e-3)
    assert mix is not None
    assert mix.error <= 1.5e-3
    assert mix.runs == known.runs <= groups + 2 * (6 + 16 + 1)
    assert sum(sizes[n] for n in mix.kept) <= 0.35 * sum(sizes)
    best = min(n for n in range(41) if known(np.arange(40) >= n) <= 1.5e-3)  # the shortest beginning that would do
    if groups == 48:
        assert len(mix.kept) <= 1.5 * best


def test_a_part_that_leaves_the_range_comes_first() -> None:
    known = Known([1e-4, 1e-4, np.inf, 1e-4, 1e-4, 1e-4])
    mix = Mixer(chain([100] * 6), known, 48).find(known, 1e-3)
    assert mix is not None
    assert mix.kept == {2}
    assert mix.costs[2] == np.inf


def test_what_need_not_stay_is_given_back() -> None:
    """The ranking takes the cheap ones first; in the end the heavy one alone is needed."""
    known = Known([9e-4, 9e-4, 9e-4, 5e-3, 1e-5])
    mix = Mixer(chain([10, 10, 10, 4000, 4000]), known, 48).find(known, 1.6e-3)
    assert mix is not None
    assert mix.kept == {3}


def test_a_light_part_between_float32_parts_stays_with_them() -> None:
    known = Known([5e-3, 1e-7, 5e-3, 1e-5, 1e-5])
    parts = chain([1000, 1, 1000, 3000, 3000])
    mixer = Mixer(parts, known, 48)
    assert mixer.ranked[:2] == [0, 2]
    assert mixer._closed(2) == {0, 1, 2}
    parts[1].weight_bytes = 1000
    assert Mixer(parts, known, 48)._closed(2) == {0, 2}


def test_no_result_without_a_share_in_half_precision() -> None:
    known = Known([1e-2, 1e-5])
    total = 10_000
    for light in (int(total * LEAST_SHARE * 0.5), int(total * LEAST_SHARE * 2)):
        mix = Mixer(chain([total - light, light]), known, 48).find(known, 1e-3)
        assert (mix is None) == (light < total * LEAST_SHARE)
    known = Known([1e-2, 1e-2])
    assert Mixer(chain([100, 100]), known, 48).find(known, 1e-3) is None
