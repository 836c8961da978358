"""Plots of what a network sees: a mosaic of channels, a map over a picture, features as points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.runtime.plots import INK, MARKERS, PALE, PALETTE, SEQUENTIAL, new_figure, short, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def mosaic_chart(picture: np.ndarray, channels: np.ndarray, numbers: Sequence[int], *, title: str) -> Figure:
    """Draw a picture and beside it channels of a layer as tiles, each from its least (dark) to its largest value.

    Args:
        picture: H x W x 3 uint8, as the network sees it.
        channels: (n, h, w), the channels to show; of one value each they are drawn as bars.
        numbers: their numbers in the layer.
    """
    count = len(channels)
    if channels.shape[1:] == (1, 1):
        return _bars(picture, channels.reshape(-1), numbers, title)
    across = int(np.ceil(np.sqrt(count * channels.shape[1] / channels.shape[2])))
    across = min(max(across, 1), count)
    down = -(-count // across)
    tall = 0.9 + down * 0.85 * channels.shape[1] / channels.shape[2]
    figure = new_figure(min(3.0 + across * 0.85, 16), max(3.4, min(tall, 16)))
    halves: Any = figure.subfigures(1, 2, width_ratios=(2.2, max(across * 0.85, 1.5)))
    left, right = halves
    _shown(left.add_subplot(), picture, "what the network sees")
    axes = right.subplots(down, across, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    for place, tile in enumerate(axes.flat):
        tile.set_axis_off()
        if place < count:
            tile.imshow(channels[place], cmap=SEQUENTIAL, interpolation="nearest")
            if count <= 64:
                ground = {"facecolor": "black", "alpha": 0.55, "pad": 1, "edgecolor": "none"}
                tile.text(0.03, 0.96, str(numbers[place]), transform=tile.transAxes, fontsize=7, color="white",
                          va="top", bbox=ground)  # fmt: skip
    figure.suptitle(short(title, 110), x=0.01, ha="left", fontsize=11)
    return figure


def _shown(axes: Any, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else "antialiased")
    axes.set_axis_off()
    axes.set_title(title, fontsize=9, color=PALE)


def _bars(picture: np.ndarray, values: np.ndarray, numbers: Sequence[int], title: str) -> Figure:
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.6))
    _shown(left, picture, "what the network sees")
    right.bar(range(len(values)), values, color=PALETTE[0], width=0.8 if len(values) <= 60 else 1.0)
    if len(values) <= 30:
        right.set_xticks(range(len(values)), [str(n) for n in numbers], fontsize=8)
    right.axhline(0, color=INK, linewidth=0.8)
    right.set_xlabel("channel")
    right.set_ylabel("value")
    figure.suptitle(short(title, 110), x=0.01, ha="left", fontsize=11)
    return figure


@styled
def overlay_chart(picture: np.ndarray, heat: np.ndarray, *, title: str, note: str) -> Figure:
    """Draw a picture, and beside it the picture with a map over it.

    Args:
        picture: H x W x 3 uint8.
        heat: (H, W), 0 to 1: how much each place counts.
        title: the class and its score.
        note: how the map was made.
    """
    from matplotlib import colormaps

    height, width = heat.shape
    tall = 3.6 * height / width
    figure = new_figure(8.4, min(max(tall, 2.2), 8) + 0.9)
    left, right = figure.subplots(1, 2)
    _shown(left, picture, "what the network sees")
    colors = colormaps["viridis"](heat)[:, :, :3]
    strength = (0.15 + 0.6 * heat)[:, :, None]
    grey = np.repeat(picture.astype(float).mean(2, keepdims=True), 3, 2) / 255
    _shown(right, np.clip(grey * (1 - strength) + colors * strength, 0, 1), note)
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(cmap="viridis"), ax=[left, right], shrink=0.8, pad=0.02, ticks=[0, 0.5, 1])
    bar.set_label("importance, relative", fontsize=9)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    figure.suptitle(short(title, 90), x=0.01, ha="left")
    return figure


@styled
def feature_map(points: np.ndarray, classes: Sequence[str | None], how: dict[str, Any], *, title: str) -> Figure:
    """Draw items as points in two dimensions, coloured and shaped by class.

    Args:
        points: (n, 2).
        classes: the class of each; None where it has none.
        how: what :func:`netferry.runtime.visualize.in_two_dimensions` told.
    """
    names = sorted({c for c in classes if c is not None})
    kinds: list[str | None] = [*names, *([None] if None in classes else [])]
    columns = -(-len(kinds) // 24)
    figure = new_figure(7.0 + 1.9 * columns * (len(kinds) > 1), 5.6)
    axes = figure.add_subplot()
    size = 42 if len(points) <= 200 else 22 if len(points) <= 1000 else 9
    for number, name in enumerate(kinds):
        chosen = np.array([c == name for c in classes])
        color = PALE if name is None else PALETTE[number % len(PALETTE)]
        marker = "." if name is None else MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]
        axes.scatter(points[chosen, 0], points[chosen, 1], size, color=color, marker=marker, alpha=0.8,
                     edgecolors=INK, linewidths=0.25, label="no label" if name is None else short(name))  # fmt: skip
    if how["method"] == "pca":
        first, second = how["explained"]
        axes.set_xlabel(f"first principal component ({first:.0%} of the variance)")
        axes.set_ylabel(f"second principal component ({second:.0%})")
    else:
        axes.set_xlabel(f"t-SNE, perplexity {how['perplexity']:.0f}: only neighbourhoods mean something")
        axes.set(xticks=[], yticks=[])
    if len(kinds) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, ncols=columns)
    axes.set_title(short(title, 90), loc="left")
    return figure
