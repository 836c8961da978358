"""Sounds as examples: each patch of a sound is one, with the sound's target; changed at random in the waveform.

Augmentation: the patch is cut out elsewhere (time shift), louder or softer (gain), and with white noise under it; mixup
(Zhang et al. 2018) is an option of training and mixes the log-mel patches of a batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from netferry.errors import NetferryError, UsageError
from netferry.runtime.data.folder import Pictures
from netferry.runtime.sounds import length_of, log_mel_patches, read_sound
from netferry.runtime.training.memory import Memory
from netferry.schemas.sound import SoundRecipe

_QUIETEST = 60.0
"""noise lies at most so many decibels under the sound: less is not heard, and not seen by the logarithm's offset"""


@dataclass(frozen=True)
class SoundAugment:
    """Random changes to training sounds; each is drawn anew for every patch and epoch."""

    shift: float = 0.0
    """seconds, at most, by which a patch begins earlier or later; silence where there is no sound"""
    gain: float = 0.0
    """decibels, at most, louder or softer"""
    noise: float | None = None
    """white noise, at least so many decibels under the sound, at most 60; None adds none"""

    def __post_init__(self) -> None:
        for name, value, most in (("shift", self.shift, 60.0), ("gain", self.gain, 60.0), ("noise", self.noise, 60.0)):
            if value is not None and not 0 <= value <= most:
                raise UsageError(f"augmentation: {name} lies within 0 and {most:g}, not {value:g}")

    @property
    def does_nothing(self) -> bool:
        """Whether every sound stays as it is."""
        return not self.shift and not self.gain and self.noise is None

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def cut(self, waveform: np.ndarray, start: int, length: int, rate: int, rng: np.random.Generator) -> np.ndarray:
        """Return ``length`` samples of a sound from about ``start`` on, changed; float32."""
        moved, louder, under = rng.uniform(-1, 1, 3)  # always as many, so that one option does not change another
        start += round(self.shift * moved * rate)
        piece = segment(waveform, start, length)
        if self.noise is not None:
            loudness = float(np.sqrt(np.mean(np.square(piece), dtype=np.float64)))
            below = self.noise + (_QUIETEST - self.noise) * (under + 1) / 2
            piece = piece + rng.standard_normal(length, np.float32) * np.float32(loudness * 10 ** (-below / 20))
        return piece * np.float32(10 ** (self.gain * louder / 20))


DEFAULT = SoundAugment(shift=0.24, gain=6.0, noise=20.0)
_WORD = re.compile(r"\s*(shift|gain|noise)=([0-9]*\.?[0-9]+)\s*$")


def parse_sound_augment(text: str) -> SoundAugment:
    """Read ``shift=0.24,gain=6,noise=20``; ``none`` is nothing at all.

    Raises:
        UsageError: not of this form.
    """
    if text.strip() in ("none", "off", ""):
        return SoundAugment()
    found: dict[str, float] = {}
    for part in text.split(","):
        match = _WORD.match(part)
        if match is None:
            raise UsageError(
                f"augmentation {part.strip()!r} is not understood for sounds",
                hint="shift=SECONDS, gain=DECIBELS, noise=DECIBELS; mixup is an option of its own (--mixup 0.2)",
            )
        found[match[1]] = float(match[2])
    return SoundAugment(**found)


def segment(waveform: np.ndarray, start: int, length: int) -> np.ndarray:
    """Return ``length`` samples from ``start`` on; silence in front of the sound and behind it."""
    out = np.zeros(length, np.float32)
    first, last = max(start, 0), min(start + length, len(waveform))
    if first < last:
        out[first - start : last - start] = waveform[first:last]
    return out


class SoundExamples:
    """The patches of sounds as a network takes them; decoded sounds are kept while they fit into memory.

    Args:
        sounds: files with targets.
        recipe: how patches are made.
        inner: the shape of one patch at the network's input, like (96, 64) or (1, 96, 64).
        augment, seed: changes of training sounds.
        dtype: of the patches.
    """

    read = True

    def __init__(
        self,
        sounds: Pictures,
        recipe: SoundRecipe,
        inner: Sequence[int],
        *,
        augment: SoundAugment | None = None,
        seed: int = 0,
        dtype: np.dtype | None = None,
    ) -> None:
        self.sounds, self.recipe, self.inner, self.seed = sounds, recipe, tuple(inner), seed
        self.augment = None if augment is None or augment.does_nothing else augment
        self.dtype = np.dtype(np.float32) if dtype is None else dtype
        self._decoded = Memory[np.ndarray]()
        counts = [recipe.patches(length_of(file, recipe.sample_rate)) for file in sounds.files]
        self.sound_of = np.repeat(np.arange(len(counts)), counts)
        self.place = np.concatenate([np.arange(n) for n in counts]) if counts else np.zeros(0, np.int64)
        self.targets = sounds.targets[self.sound_of]

    @property
    def augmented(self) -> bool:
        """Whether ``draws`` change them."""
        return self.augment is not None

    def __len__(self) -> int:
        return len(self.sound_of)

    def inputs(self, rows: Sequence[int], draws: Sequence[int] | None = None) -> list[np.ndarray]:
        """One array N x the patch's shape; see :class:`netferry.runtime.training.examples.Examples`."""
        recipe, pieces = self.recipe, []
        for number, row in enumerate(rows):
            waveform = self.waveform(int(self.sound_of[row]))
            start = int(self.place[row]) * recipe.patch_hop * recipe.hop
            if draws is None or self.augment is None:
                pieces.append(segment(waveform, start, recipe.least))
            else:
                rng = np.random.default_rng([self.seed, 2, draws[number], row])
                pieces.append(self.augment.cut(waveform, start, recipe.least, recipe.sample_rate, rng))
        return [self._shaped(np.concatenate([log_mel_patches(piece, recipe) for piece in pieces]))]

    def whole(self, sound: int) -> np.ndarray:
        """All patches of a sound, as it is."""
        return self._shaped(log_mel_patches(self.waveform(sound), self.recipe))

    def _shaped(self, patches: np.ndarray) -> np.ndarray:
        return patches.reshape(-1, *self.inner).astype(self.dtype, copy=False)

    def waveform(self, sound: int) -> np.ndarray:
        """The samples of a sound."""
        kept = self._decoded.get(sound)
        if kept is not None:
            return kept
        file = self.sounds.files[sound]
        try:
            samples = read_sound(file, self.recipe.sample_rate)
        except NetferryError as error:
            raise error.at(file=file) from None
        self._decoded.keep(sound, samples, samples.nbytes)
        return samples
