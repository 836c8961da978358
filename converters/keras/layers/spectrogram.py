"""Sound to pictures: STFTSpectrogram and MelSpectrogram as convolutions, which every runtime has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.padding import padding_of
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT, channels_last_to_first
from netferry.converters.keras.operations.elementwise import arctan2
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import LimitExceeded, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")
_EPSILON = 1e-7
"""keras.config.epsilon()"""
_MOST = 2**27
"""numbers in the matrix of a Fourier transform, at most"""


def _stft_slots(spec: Spec) -> list[Slot]:
    mode = spec.config.get("mode", "log")
    return [Slot(n) for n, without in (("real_kernel", "imag"), ("imag_kernel", "real")) if mode != without]


@layer("STFTSpectrogram", weights=_stft_slots)
def stft_spectrogram(b: Builder, l: Layer, x: KT) -> KT:
    """A learnable Fourier transform of frames, each channel alone; as real, imaginary part, magnitude, log …"""
    mode = l.config.choice("mode", "log", *_MODES)
    length = l.config.integer("frame_length", 256, least=1)
    step = l.config.integer("frame_step", least=1) if l.config.take("frame_step", None) is not None else length // 2
    size = l.config.take("fft_length", None)
    size = 2 ** math.ceil(math.log2(length)) if size is None else l.config.integer("fft_length", least=length)
    kind = l.config.choice("padding", "valid", "valid", "same")
    expand = l.config.flag("expand_dims", False)
    first = l.data_format() == "channels_first"
    l.config.ignore("window", "periodic", "scaling")  # they only say how the kernels began
    l.rank(x, 3)
    channels = l.dim(x, 1 if first else 2)
    bins = size // 2 + 1
    if length * bins > _MOST:
        raise LimitExceeded(f"a Fourier transform of {length} x {bins} numbers, at most {_MOST}", layer=l.path)
    value = as_float(b, x).to(b, (0, 1, 2) if first else (0, 2, 1))
    padding = padding_of(kind, shape_of(value)[2:], [length], [step], [1])
    kernels = [
        l.weight(b, s.name, s.name.replace("_kernel", ".weight"), (length, 1, bins), transform=channels_last_to_first)
        for s in _stft_slots(l.spec)
    ]  # fmt: skip

    def convolved(*parts: ir.Value) -> ir.Value:
        """(batch, channels * bins, time): every channel with the same kernels."""
        all_ = [*parts] * channels
        weight = all_[0] if len(all_) == 1 else b.op("Concat", *all_, axis=0)
        group = channels if channels > 1 else None
        return b.op("Conv", value, weight, kernel_shape=[length], strides=[step], group=group, **padding.attributes)

    made = _in_mode(b, mode, bins, channels, convolved, kernels)
    if not expand:
        return KT(made, (0, 1, 2) if first else (0, 2, 1))
    wide = b.reshape(made, [0, channels, bins * (2 if mode == "stft" else 1), -1])
    return KT(wide, (0, 1, 3, 2) if first else (0, 3, 2, 1))


def _in_mode(b: Builder, mode: str, bins: int, channels: int, convolved: Any, kernels: list[ir.Value]) -> ir.Value:
    if mode in ("real", "imag", "stft"):
        return convolved(*kernels)
    real, imaginary = (convolved(k) for k in kernels)
    if mode == "angle":
        return arctan2(b, imaginary, real)
    power = b.op("Add", b.op("Mul", real, real), b.op("Mul", imaginary, imaginary))
    if mode == "psd":
        # all but the first and last bin stand for two frequencies, the negative one included
        twice = np.full((bins, 1), 2, np.float32)
        twice[[0, -1]] = 1
        return b.op("Mul", power, b.const(np.tile(twice, (channels, 1)), "sides"))
    magnitude = b.op("Sqrt", b.op("Max", power, b.const(_EPSILON, "epsilon")))
    if mode == "magnitude":
        return magnitude
    return b.op("Log", b.op("Max", magnitude, b.const(_EPSILON, "epsilon")))


@layer("MelSpectrogram")
def mel_spectrogram(b: Builder, l: Layer, x: KT) -> KT:
    """Sound (batch, samples) to (batch, bands, time): windowed Fourier transform, mel bands, decibels."""
    size = l.config.integer("fft_length", 2048, least=1)
    step = l.config.integer("sequence_stride", 512, least=1)
    length = l.config.take("sequence_length", None)
    length = l.config.integer("sequence_length", size, least=1) if length else size
    power, bands = l.config.number("mag_exp", 2.0), l.config.integer("num_mel_bins", 128, least=1)
    l.rank(x, 2)
    if length > size:
        raise l.config.bad("sequence_length", length, f"at most fft_length={size}")
    if size * (size + 2) > _MOST:
        raise LimitExceeded(f"a Fourier transform of {size} samples, at most {math.isqrt(_MOST)}", layer=l.path)
    mel = _mel_matrix(l, size // 2 + 1, bands)
    heard = np.flatnonzero(mel.any(axis=1))
    transform = _fourier(size, _window(l, length, size), heard)
    signal = b.op("Unsqueeze", as_float(b, x).logical(b), b.const([1], "axes"))
    padded = b.op("Pad", signal, b.const([0, 0, size // 2, 0, 0, size // 2], "pads"), mode="reflect")
    parts = b.op("Conv", padded, b.const(transform, "fourier"), kernel_shape=[size], strides=[step])
    square = b.op("Mul", parts, parts)
    weight = mel[heard].T[:, :, None]
    if power == 2:  # real and imaginary squares are summed by the bands
        weight = np.concatenate([weight, weight], axis=1)
    else:
        first, second = b.op("Split", square, outputs=2, num_outputs=2, axis=1)
        square = b.op("Pow", b.op("Add", first, second), b.const(power / 2, "mag_exp"))
    made = b.op("Conv", square, b.const(np.ascontiguousarray(weight), "bands"), kernel_shape=[1])
    least, reference = l.config.number("min_power", 1e-10), l.config.number("ref_power", 1.0)
    top = l.config.number("top_db", 80.0)
    if l.config.flag("power_to_db", True):
        decibels = b.op("Log", b.op("Max", made, b.const(least, "min_power")))
        decibels = b.op("Mul", decibels, b.const(10 / math.log(10), "decibels"))
        zero = 10 * math.log10(max(abs(reference), least))
        if zero:
            decibels = b.op("Sub", decibels, b.const(zero, "ref_power"))
        # Keras takes the loudest of the whole batch
        loudest = b.op("ReduceMax", decibels, keepdims=0)
        made = b.op("Max", decibels, b.op("Sub", loudest, b.const(top, "top_db")))
    return KT.of(made)


def _window(l: Layer, length: int, size: int) -> np.ndarray:
    """The window with zeros on both sides, ``size`` numbers."""
    given = l.config.take("window", "hann")
    if given is None:
        values = np.ones(length)
    elif isinstance(given, str):
        if given not in ("hann", "hamming"):
            raise UnsupportedOption(f"window={given!r} (Keras itself has 'hann' and 'hamming')", layer=l.path)
        turn = 2 * np.pi * np.arange(length) / length
        values = 0.5 - 0.5 * np.cos(turn) if given == "hann" else 0.54 - 0.46 * np.cos(turn)
    else:
        values = np.asarray(given, np.float64) if isinstance(given, list) else np.zeros(0)
        if values.shape != (length,):
            raise l.config.bad("window", given, f"a name or {length} numbers")
    before = (size - length) // 2
    return np.pad(values, (before, size - length - before))


def _fourier(size: int, window: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Kernels (2 * bins, 1, size): the windowed cosines of the wanted bins, then their sines."""
    turns = np.outer(bins, np.arange(size)) % size  # exact: angles of whole turns lose nothing
    angles = 2 * np.pi * turns / size
    return (np.concatenate([np.cos(angles), -np.sin(angles)]) * window)[:, None, :].astype(np.float32)


def _mel_matrix(l: Layer, bins: int, bands: int) -> np.ndarray:
    """(bins, bands) of triangles that are linear in mel, HTK's scale, as Keras computes them (in float32)."""
    rate = l.config.number("sampling_rate", 16000)
    low = l.config.number("min_freq", 20.0)
    high = l.config.maybe_number("max_freq") or int(rate / 2)
    if not rate > 0 or not 0 <= low < high:
        raise l.config.bad("min_freq", low, f"below max_freq={high}")

    def to_mel(frequency: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1.0 + np.asarray(frequency, np.float64) / 700.0)

    edges = np.linspace(to_mel(low), to_mel(high), bands + 2)
    places = to_mel(np.linspace(0, rate / 2, bins)[1:])[:, None]
    begin, centre, end = edges[:-2], edges[1:-1], edges[2:]
    slopes = np.minimum((places - begin) / (centre - begin), (end - places) / (end - centre))
    return np.pad(np.maximum(slopes, 0), ((1, 0), (0, 0))).astype(np.float32)
