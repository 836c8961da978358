"""Sound files as waveforms, and a sound network's scores over time.

For serving: imports numpy, soundfile and soxr, never onnx, onnx_ir nor torch. soundfile reads WAV, FLAC, Ogg, Opus,
MP3, AIFF and more; soxr resamples.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.errors import InputError, LimitExceeded, MalformedFile, MissingExtra, UsageError
from netferry.runtime.session import Port, Session
from netferry.schemas.opening import need_regular, open_regular
from netferry.schemas.remote import Remote
from netferry.schemas.sound import SOUND_KEY, SoundRecipe, fourier, mel_matrix, recipe_named, recipes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

_SHOWN = 60
"""seconds of a sound that its small picture shows, at most"""
MOST_SAMPLES = 1 << 29
"""samples of all channels that one file may hold: three hours of stereo at 25 kHz, 2 GiB"""


RATES = (100, 10_000_000)
"""sample rates in hertz that a file may have; at 1 hertz, a minute's file would be resampled to eleven days"""
_BLOCK = 1 << 20

PATCHES_AT_ONCE = 64
"""patches that go through the network together: an hour of sound would take gigabytes otherwise"""


def sound_input(session: Session) -> tuple[str, SoundRecipe] | None:
    """Return the input that takes a waveform, or its log-mel patches, by which recipe; None where there is none.

    Raises:
        MalformedFile: the metadata is not sound.
    """
    try:
        recipes = recipes_of(session.metadata.get(SOUND_KEY))
    except MalformedFile as error:
        raise error.at(file=session.file) from None
    for port in session.inputs:
        recipe = recipes.get(port.name)
        if recipe is not None and (len(port.shape) == 1 or _takes_patches(port, recipe)):
            return port.name, recipe
    return None


def _takes_patches(port: Port, recipe: SoundRecipe) -> bool:
    """N x patch x bands, with a channel of 1 before or after those, and any number of patches."""
    return not isinstance(port.shape[0], int) and tuple(d for d in port.shape[1:] if d != 1) == (
        recipe.patch,
        recipe.bands,
    )


def run_sound(session: Session, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the outputs for all patches of a sound, patches first, computed piece by piece.

    Args:
        session: a network with a :func:`sound_input`. Where that takes patches, they are made here.
        waveform: samples at the recipe's rate.
        outputs: names; each has one row per patch.

    Raises:
        UsageError: the network reads no sound, or an output has no row per patch.
    """
    found = sound_input(session)
    if found is None:
        raise UsageError("the network reads no sound", file=session.file)
    name, recipe = found
    port = next(p for p in session.inputs if p.name == name)
    made: dict[str, list[np.ndarray]] = {output: [] for output in outputs}
    for piece in recipe.pieces(waveform, PATCHES_AT_ONCE):
        fed = piece
        if len(port.shape) > 1:
            rest = [d for d in port.shape[1:] if isinstance(d, int)]
            fed = log_mel_patches(piece, recipe).reshape(-1, *rest)
        count = recipe.patches(len(piece))
        for output, array in session.run({name: fed}, list(outputs)).items():
            if not array.ndim or len(array) != count:
                raise UsageError(
                    f"output {output!r} has no row for each patch: {count} patches gave {list(array.shape)}",
                    file=session.file,
                )
            made[output].append(array)
    return {output: np.concatenate(arrays) for output, arrays in made.items()}


def log_mel_patches(waveform: np.ndarray, recipe: SoundRecipe) -> np.ndarray:
    """Return what the front end gives for a waveform: patches x frames x bands, float32, computed in float64."""
    count = recipe.patches(len(waveform))
    padded = np.zeros(((count - 1) * recipe.patch_hop * recipe.hop) + recipe.least)
    padded[: len(waveform)] = waveform[: len(padded)]
    mel = _log_mel(padded, recipe).astype(np.float32)
    places = np.arange(count)[:, None] * recipe.patch_hop + np.arange(recipe.patch)
    return mel[places]


def _log_mel(samples: np.ndarray, recipe: SoundRecipe) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, recipe.window)[:: recipe.hop]
    real, imaginary = np.split(frames @ fourier(recipe), 2, axis=1)
    return np.log(np.hypot(real, imaginary) @ mel_matrix(recipe) + recipe.offset)


def read_sound(source: Any, sample_rate: int) -> np.ndarray:
    """Return a sound as float32 samples in -1..1 at ``sample_rate`` hertz; channels are averaged.

    Args:
        source: a path, a file at a URL, the bytes of a file, or an array of samples at that rate (samples, or samples x
            channels).

    Raises:
        InputError: the file cannot be opened or is no sound.
        LimitExceeded: longer than :data:`MOST_SAMPLES`, here or at ``sample_rate``.
        MissingExtra: soundfile or soxr is not installed.
    """
    if isinstance(source, np.ndarray):
        samples = source if source.ndim == 1 else source.mean(1)
        return np.ascontiguousarray(samples, np.float32)
    soundfile, soxr = _libraries()
    name = None if isinstance(source, bytes) else str(source)
    try:
        content = source.read() if isinstance(source, Remote) else source
        opened = BytesIO(content) if isinstance(content, bytes) else open_regular(content)
        with opened, _forward(soundfile)(opened) as file:
            rate = file.samplerate
            _check_length(file, sample_rate, name)
            mono = _mono(file, MOST_SAMPLES, name)
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror or error}", file=name) from None
    except (RuntimeError, ValueError) as error:  # soundfile's own errors are RuntimeErrors
        raise InputError(f"is no sound that can be read: {_said(error)}", file=name) from None
    if not len(mono):
        raise InputError("holds no samples", file=name)
    if not np.isfinite(mono).all():
        raise InputError("holds samples that are no numbers", file=name)
    return mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate).astype(np.float32)


def length_of(file: str | os.PathLike[str], sample_rate: int) -> int:
    """Return how many samples a file has at a rate, by its header; a sample more or less than :func:`read_sound` gives.

    Raises:
        InputError: the file cannot be opened or is no sound.
        LimitExceeded: longer than :data:`MOST_SAMPLES`.
        MissingExtra: soundfile or soxr is not installed.
    """
    soundfile, _ = _libraries()
    try:
        found = soundfile.info(os.fspath(need_regular(file)))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"is no sound that can be read: {_said(error)}", file=file) from None
    if found.frames >= _UNKNOWN:
        return len(read_sound(os.fspath(file), sample_rate))
    _check_length(found, sample_rate, file)
    return round(found.frames * sample_rate / found.samplerate)


_UNKNOWN = 1 << 62
"""libsndfile says that many frames or more where the file does not say (a FLAC that was written as a stream)"""


def _forward(soundfile: Any) -> Any:
    """soundfile's reader, which otherwise seeks behind each block: not every FLAC or GSM file can be sought in."""

    class Forward(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Forward


def _check_length(found: Any, sample_rate: int, name: object) -> None:
    """Refuse what is too long by its header, here or at the wanted rate, or has no sound's rate."""
    if not RATES[0] <= found.samplerate <= RATES[1]:
        raise InputError(f"has {found.samplerate} samples a second, not {RATES[0]} to {RATES[1]:,}", file=name)
    longest = found.frames * max(found.channels, sample_rate / found.samplerate)
    if found.frames < _UNKNOWN and longest > MOST_SAMPLES:
        raise LimitExceeded(f"a sound of {found.frames} samples x {found.channels} channels", file=name)


def _mono(file: Any, most: int, name: object) -> np.ndarray:
    """The mean of the channels, read in blocks: neither does each file know its length, nor each one tell the truth."""
    parts: list[np.ndarray] = []
    count = 0
    while True:
        block = file.read(max(1, _BLOCK // file.channels), dtype="float32", always_2d=True)
        if not len(block):
            return np.concatenate(parts) if parts else np.empty(0, np.float32)
        count += block.size
        if count > most:
            raise LimitExceeded(f"a sound of more than {most:,} samples", file=name)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused behind
            parts.append(block.mean(1, dtype=np.float32))


def _said(error: Exception) -> str:
    """libsndfile's own words, without what soundfile says of the object that it read from."""
    return " ".join(str(getattr(error, "error_string", error)).split())[:200]


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
        package = getattr(error, "name", None) or "soundfile"
        raise MissingExtra(package, "sound", "reading sounds") from None
    return soundfile, soxr


def spectrogram(waveform: np.ndarray, recipe: SoundRecipe) -> np.ndarray:
    """Return the log-mel spectrogram, frames x bands, float64, of the sound as it is, for drawing."""
    count = max(1, 1 + (len(waveform) - recipe.window) // recipe.hop)
    padded = np.zeros(max(len(waveform), recipe.window + (count - 1) * recipe.hop))
    padded[: len(waveform)] = waveform
    return _log_mel(padded, recipe)


_SHADES = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]], np.float64)
"""black over purple and orange to white, as matplotlib's magma"""


def spectrogram_picture(source: Any) -> Image.Image:
    """Return a sound's log-mel spectrogram as an RGB picture, time to the right, high bands above.

    Raises:
        InputError, LimitExceeded, MissingExtra: see :func:`read_sound`.
    """
    from PIL import Image

    recipe = recipe_named("vggish")
    waveform = read_sound(source, recipe.sample_rate)
    if len(waveform) > _SHOWN * recipe.sample_rate:
        waveform = waveform[: _SHOWN * recipe.sample_rate]
    mel = spectrogram(waveform, recipe)[:, ::-1].T
    share = (mel - mel.min()) / max(float(np.ptp(mel)), 1e-6) * (len(_SHADES) - 1)
    steps = np.arange(len(_SHADES))
    colors = np.stack([np.interp(share, steps, _SHADES[:, c]) for c in range(3)], -1).round().astype(np.uint8)
    return Image.fromarray(colors).resize((320, 192), Image.Resampling.BILINEAR)


def patch_edges(count: int, length: float, recipe: SoundRecipe) -> np.ndarray:
    """Return where patches begin and end in a drawing, in seconds: count + 1 numbers.

    Each is as wide as the step to the next one, so that patches that overlap do not hide each other; the last reaches
    to the end of what it hears of a sound of ``length`` seconds.
    """
    starts = [recipe.start(n) for n in range(count + 1)]
    heard = min(length, starts[-2] + recipe.least / recipe.sample_rate)
    return np.array([*starts[:-1], max(starts[-1], heard)])


def draw_timeline(
    waveform: np.ndarray, scores: np.ndarray, names: list[str], recipe: SoundRecipe, *, title: str, most: int = 10
) -> Figure:
    """Draw the spectrogram, and under it the scores of the ``most`` highest classes over time.

    Args:
        waveform: samples at the recipe's rate.
        scores: patches x classes.
        names: a name for each class.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    from netferry.runtime.plots import SEQUENTIAL, new_figure, short, styled

    chosen = np.argsort(-scores.mean(0), kind="stable")[:most]
    length = len(waveform) / recipe.sample_rate

    @styled
    def draw() -> Figure:
        figure = new_figure(9, 3.4 + 0.26 * len(chosen))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 0.5 + 0.22 * len(chosen)])
        mel = spectrogram(waveform, recipe)
        frames = len(mel) * recipe.hop / recipe.sample_rate
        above.imshow(mel.T, origin="lower", aspect="auto", extent=(0, frames, 0, recipe.bands), cmap=SEQUENTIAL)
        above.set_ylabel("mel band")
        above.set_title(short(title, 80))
        shown = below.pcolormesh(
            patch_edges(len(scores), length, recipe), np.arange(len(chosen) + 1) - 0.5, scores[:, chosen].T,
            cmap=SEQUENTIAL, vmin=min(0.0, float(scores.min())), vmax=max(1.0, float(scores.max())),
        )  # fmt: skip
        below.invert_yaxis()
        below.set_yticks(range(len(chosen)), [short(names[i], 30) for i in chosen])
        below.set_xlabel("seconds")
        below.set_xlim(0, max(length, frames))
        figure.colorbar(shown, ax=[above, below], label="score", pad=0.02, fraction=0.04)
        return figure

    return draw()
