"""What a network sees: channels of a layer as a mosaic, occlusion maps, features in two dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from netferry.errors import MissingExtra, UsageError
from netferry.runtime.decoding import Picture
from netferry.runtime.feed import Feed
from netferry.runtime.preprocess import preprocess

MAX_CHANNELS = 144


def seen_picture(feed: Feed, picture: Picture) -> np.ndarray:
    """Return a picture as the network sees it, resized and cropped, not normalised: H x W x 3 uint8."""
    recipe = feed.recipe
    size = recipe.size
    if size is None and recipe.crop is not None and recipe.mean_image is not None:
        size = (int(recipe.mean_image.shape[1]), int(recipe.mean_image.shape[2]))
    color = "GRAY" if recipe.color == "GRAY" else "RGB"
    plain = recipe.with_(mean=(), scale=(), mean_image=None, color=color, layout="NHWC", size=size)
    array = np.clip(np.round(preprocess(picture, plain, feed.size)), 0, 255).astype(np.uint8)
    return np.repeat(array, 3, 2) if array.shape[2] == 1 else array


def strongest(channels: np.ndarray, limit: int = MAX_CHANNELS) -> np.ndarray:
    """Return the numbers of the channels (C, H, W) to show: all in their order, or the ``limit`` of largest mean
    magnitude, in their order."""
    if len(channels) <= limit:
        return np.arange(len(channels))
    strength = np.abs(channels.astype(np.float64)).mean((1, 2))
    return np.sort(np.argsort(-strength, kind="stable")[:limit])


def occlusion_map(
    score: Callable[[np.ndarray], np.ndarray],
    tensor: np.ndarray,
    *,
    channels_last: bool = False,
    patch: float = 0.25,
    steps: int = 14,
    batch: int = 16,
    fill: float | np.ndarray = 0.0,
) -> np.ndarray:
    """Return how much a class's score falls where a patch covers the picture (Zeiler and Fergus 2014), (H, W) float32.

    Args:
        score: gives the class's score for a batch of inputs.
        tensor: the network's input for the picture, without the batch dimension.
        patch: side of the patch over the picture's shorter side.
        steps: positions of the patch along each axis.
        batch: covered pictures in one run.
        fill: what the patch shows; 0 is the mean of normalised pictures.
    """
    height, width = tensor.shape[:2] if channels_last else tensor.shape[1:]
    side = max(1, round(min(height, width) * patch))
    rows = np.unique(np.linspace(0, height - side, steps).round().astype(int))
    columns = np.unique(np.linspace(0, width - side, steps).round().astype(int))
    places = [(r, c) for r in rows for c in columns]
    whole = float(score(tensor[None])[0])
    total, times = np.zeros((height, width)), np.zeros((height, width))
    for start in range(0, len(places), batch):
        chosen = places[start : start + batch]
        covered = np.repeat(tensor[None], len(chosen), 0)
        for picture, (r, c) in zip(covered, chosen, strict=True):
            if channels_last:
                picture[r : r + side, c : c + side] = fill
            else:
                picture[:, r : r + side, c : c + side] = fill
        for (r, c), value in zip(chosen, score(covered), strict=True):
            total[r : r + side, c : c + side] += whole - float(value)
            times[r : r + side, c : c + side] += 1
    return (total / np.maximum(times, 1)).astype(np.float32)


def scaled_to(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a map (h, w) in another size, bilinear, brought to 0..1; a map without positive values is all 0."""
    image = Image.fromarray(np.maximum(heat, 0).astype(np.float32))
    large = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    top = float(large.max())
    return large / top if top > 0 else np.zeros_like(large)


def in_two_dimensions(features: np.ndarray, method: str = "auto", seed: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Return features (n, d) as points (n, 2), and how: ``method``, and ``explained`` variance or ``perplexity``.

    ``pca`` keeps distances as far as two axes can; ``tsne`` keeps neighbourhoods (van der Maaten and Hinton 2008), its
    distances between groups mean little. ``auto`` takes t-SNE from 30 items on. Each feature is standardised before.

    Raises:
        UsageError: fewer than three items, no such method. MissingExtra: scikit-learn is not installed.
    """
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise MissingExtra("scikit-learn", "evaluate", "a map of features")
    from sklearn.decomposition import PCA

    if method not in ("auto", "pca", "tsne"):
        raise UsageError(f"method is auto, pca or tsne, not {method!r}")
    count = len(features)
    if count < 3:
        raise UsageError(f"a map of features needs at least three items, not {count}")
    wide = features.astype(np.float64)
    spread = wide.std(0)
    wide = (wide - wide.mean(0)) / np.where(spread > 0, spread, 1)
    if method == "pca" or (method == "auto" and count < 30):
        pca = PCA(2, random_state=seed)
        points = pca.fit_transform(wide) if wide.shape[1] > 1 else np.hstack([wide, np.zeros_like(wide)])
        explained = pca.explained_variance_ratio_.tolist() if wide.shape[1] > 1 else [1.0, 0.0]
        return points, {"method": "pca", "explained": explained}
    from sklearn.manifold import TSNE

    if wide.shape[1] > 50:  # as its authors do, to keep noise out
        wide = PCA(min(50, count), random_state=seed).fit_transform(wide)
    perplexity = float(max(2, min(30, (count - 1) / 3)))
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(wide)
    return np.asarray(points), {"method": "tsne", "perplexity": perplexity}


def as_channels(values: np.ndarray, channels_last: bool) -> np.ndarray:
    """A layer's values of one item as (C, H, W): vectors and sequences have channels of one row."""
    if values.ndim == 3:
        return values.transpose(2, 0, 1) if channels_last else values
    if values.ndim == 2 and channels_last:
        values = values.T
    if values.ndim == 1:
        return values[:, None, None]
    if values.ndim == 2:
        return values[:, None, :]
    raise UsageError(f"values of shape {list(values.shape)} cannot be drawn as channels")


def peak(heat: np.ndarray) -> list[float]:
    """Where a map is largest: x and y over the picture's size."""
    y, x = divmod(int(heat.argmax()), heat.shape[1])
    return [round((x + 0.5) / heat.shape[1], 4), round((y + 0.5) / heat.shape[0], 4)]
