"""What a graph notes of layers that act in training only, as modules; the notes come from files and are checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from torch import nn

from netferry.runtime.torch import training_only
from netferry.runtime.torch.facts import rank_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import TRAINING

_FILLS = ("reflect", "constant", "wrap", "nearest")
_AXES = 4


def training_module(node: ir.Node) -> nn.Module | None:
    """The module that a note on the node asks for; None without one, or where the note is not understood."""
    text = node.metadata_props.get(TRAINING)
    if text is None or len(text) > 4096:
        return None
    try:
        note = json.loads(text)
        maker = _MAKERS[note["layer"]]
        return maker(note, rank_of(node.inputs[0]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _number(note: dict[str, Any], name: str, least: float = -math.inf, most: float = math.inf) -> float:
    value = note[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(name)
    if not least <= value <= most:
        raise ValueError(name)
    return float(value)


def _pair(note: dict[str, Any], name: str, least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
    low, high = note[name]
    values = {"low": low, "high": high}
    return _number(values, "low", least, most), _number(values, "high", least, most)


def _places(values: Any, rank: int | None, count: int | None = None) -> tuple[int, ...]:
    if not isinstance(values, list) or any(type(v) is not int or not 0 <= v < (rank or 0) for v in values):
        raise ValueError("places of axes")
    if len(set(values)) != len(values) or (count is not None and len(values) != count):
        raise ValueError("places of axes")
    return tuple(values)


def _axes(note: dict[str, Any], rank: int | None) -> dict[str, Any]:
    if rank != _AXES:
        raise ValueError("no pictures")
    return {"axes": _places(note["axes"], rank, _AXES)}


def _dropped(kind: Callable[..., nn.Module], plain: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def make(note: dict[str, Any], rank: int | None) -> nn.Module:
        rate, shared = _number(note, "rate", 0, 0.999999), _places(note.get("shared", []), rank)
        return kind(rate, shared) if shared else plain(rate)

    return make


def _flip(note: dict[str, Any], rank: int | None) -> nn.Module:
    flags = {name: bool(note[name]) for name in ("horizontal", "vertical", "apart")}
    return training_only.RandomFlip(**flags, **_axes(note, rank))


def _resampled(note: dict[str, Any], rank: int | None) -> dict[str, Any]:
    mode, fill = note["interpolation"], note["fill_mode"]
    if mode not in ("bilinear", "nearest") or fill not in _FILLS:
        raise ValueError("interpolation")
    found = {"interpolation": mode, "fill_mode": fill, "fill_value": _number(note, "fill_value")}
    return found | _axes(note, rank)


def _zoom(note: dict[str, Any], rank: int | None) -> nn.Module:
    width = None if note["width"] is None else _pair(note, "width", -1, 1)
    return training_only.RandomZoom(_pair(note, "height", -1, 1), width, **_resampled(note, rank))


def _translation(note: dict[str, Any], rank: int | None) -> nn.Module:
    height, width = (_pair(note, name, -1, 1) for name in ("height", "width"))
    return training_only.RandomTranslation(height, width, **_resampled(note, rank))


def _crop(note: dict[str, Any], rank: int | None) -> nn.Module:
    height, width = (int(_number(note, name, 1, 2**31 - 1)) for name in ("height", "width"))
    return training_only.RandomCrop(height, width, **_axes(note, rank))


_MAKERS: dict[str, Callable[[dict[str, Any], int | None], nn.Module]] = {
    "GaussianNoise": lambda note, rank: training_only.GaussianNoise(_number(note, "stddev", 0)),
    "GaussianDropout": lambda note, rank: training_only.GaussianDropout(_number(note, "rate", 0, 0.999999)),
    "Dropout": _dropped(training_only.SharedDropout, nn.Dropout),
    "AlphaDropout": _dropped(training_only.SharedAlphaDropout, nn.AlphaDropout),
    "RandomFlip": _flip,
    "RandomRotation": lambda note, rank: training_only.RandomRotation(
        _pair(note, "factor", -1, 1), **_resampled(note, rank)
    ),
    "RandomZoom": _zoom,
    "RandomTranslation": _translation,
    "RandomContrast": lambda note, rank: training_only.RandomContrast(
        _pair(note, "factor", 0), _pair(note, "value_range"), **_axes(note, rank)
    ),
    "RandomBrightness": lambda note, rank: training_only.RandomBrightness(
        _pair(note, "factor", -1, 1), _pair(note, "value_range"), **_axes(note, rank)
    ),
    "RandomCrop": _crop,
}
