"""How a waveform becomes what a sound network reads: log-mel patches, by the recipes of VGGish and YAMNet.

Both come from the AudioSet release (Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP
2017; tensorflow/models, research/audioset): magnitudes of a short-time Fourier transform with a periodic Hann window,
64 mel bands by the HTK scale, the logarithm with an offset, cut into patches of 0.96 s.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from netferry.errors import MalformedFile, UsageError

SOUND_KEY = "netferry.sound"
"""metadata of a model that reads a waveform, or log-mel patches: JSON, input name -> recipe"""
_MOST = 1 << 21
"""samples of a patch, numbers of its frames, and of the two matrices"""


@dataclass(frozen=True)
class SoundRecipe:
    """From samples to patches; times in samples, frequencies in hertz."""

    name: str
    sample_rate: int = 16_000
    window: int = 400
    """25 ms"""
    hop: int = 160
    """10 ms"""
    fft: int = 512
    bands: int = 64
    low: float = 125.0
    high: float = 7500.0
    offset: float = 0.01
    patch: int = 96
    """frames of a patch, 0.96 s"""
    patch_hop: int = 96
    """frames from one patch to the next"""
    pad: bool = False
    """fill the last patch up with silence rather than leave it out; a sound shorter than a patch is always filled up"""

    @property
    def least(self) -> int:
        """Samples of one patch."""
        return (self.patch - 1) * self.hop + self.window

    def patches(self, samples: int) -> int:
        """Return how many patches a sound of ``samples`` samples gives."""
        further = max(samples - self.least, 0) / (self.patch_hop * self.hop)
        return 1 + (math.ceil(further) if self.pad else math.floor(further))

    def pieces(self, waveform: np.ndarray, most: int) -> Iterator[np.ndarray]:
        """Yield parts of a waveform of at most ``most`` patches each; together they give the patches of the whole."""
        count, step = self.patches(len(waveform)), self.patch_hop * self.hop
        for first in range(0, count, most):
            here = min(most, count - first)
            yield waveform[first * step : (first + here - 1) * step + self.least]

    def start(self, patch: int) -> float:
        """Return the time in seconds at which a patch begins."""
        return patch * self.patch_hop * self.hop / self.sample_rate

    def _possible(self) -> bool:
        """Whether the numbers make sense, and ask for no more memory than 40 times what YAMNet does."""
        counts = (self.sample_rate, self.window, self.hop, self.fft, self.bands, self.patch, self.patch_hop)
        if not all(type(n) is int and 0 < n < 1 << 20 for n in counts):
            return False
        if not all(type(n) in (int, float) for n in (self.low, self.high, self.offset)):
            return False
        frames = max(self.patch, self.patch_hop)
        sizes = (self.window * self.fft, self.bands * self.fft, frames * self.fft, frames * self.hop)
        in_order = 0 <= self.low < self.high <= self.sample_rate / 2 and 0 < self.offset < 1e30
        return in_order and self.window <= self.fft and all(size <= _MOST for size in sizes)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Any) -> SoundRecipe:
        """Read the JSON form.

        Raises:
            MalformedFile: unknown or missing fields, or numbers that make no sense.
        """
        try:
            recipe = cls(**raw)
            if not isinstance(recipe.name, str) or not isinstance(recipe.pad, bool):
                raise ValueError("name is a text, pad true or false")
            if not recipe._possible():
                raise ValueError("numbers out of range")
        except (TypeError, ValueError) as error:
            raise MalformedFile(f"the metadata {SOUND_KEY} is not sound: {error}") from None
        return recipe


RECIPES = {
    "vggish": SoundRecipe("vggish"),
    "yamnet": SoundRecipe("yamnet", offset=0.001, patch_hop=48, pad=True),
}


def recipe_named(name: str) -> SoundRecipe:
    """Return a recipe by name.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"no sound front end {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def recipes_of(text: str | None) -> dict[str, SoundRecipe]:
    """Read the metadata: input name to recipe; empty where there is none.

    Raises:
        MalformedFile: it is not what it should be.
    """
    if text is None:
        return {}
    try:
        raw = json.loads(text)
        items = raw.items()
    except (ValueError, RecursionError, AttributeError):
        raise MalformedFile(f"the metadata {SOUND_KEY} is no JSON object") from None
    return {str(name): SoundRecipe.from_dict(value) for name, value in items}


@lru_cache(maxsize=8)
def fourier(recipe: SoundRecipe) -> np.ndarray:
    """Return the windowed transform as a matrix, window x (cosines, sines) of fft/2 + 1 bins, float64."""
    n = np.arange(recipe.window, dtype=np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / recipe.window)
    angle = 2 * np.pi * np.outer(n, np.arange(recipe.fft // 2 + 1)) / recipe.fft
    made = hann[:, None] * np.concatenate([np.cos(angle), np.sin(angle)], 1)
    made.flags.writeable = False  # shared by all callers
    return made


@lru_cache(maxsize=8)
def mel_matrix(recipe: SoundRecipe) -> np.ndarray:
    """Return the mel weights, fft/2 + 1 bins x bands, float64.

    Triangles on the HTK mel scale, 1127 ln(1 + f / 700), whose slopes are straight in mel; bin 0 counts nothing. (The
    operator MelWeightMatrix rounds the corners to bins and is straight in bins: another matrix.)
    """

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    bins = mel(np.linspace(0.0, recipe.sample_rate / 2, recipe.fft // 2 + 1))[:, None]
    corners = np.linspace(mel(recipe.low), mel(recipe.high), recipe.bands + 2)
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    weights = np.maximum(0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    weights[0] = 0.0
    weights.flags.writeable = False
    return weights
