"""Plots of single verbs: the reliability diagram, networks compared, a map of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.errors import UsageError
from netferry.runtime.plots import BLUE, INK, PALE, PALETTE, SKY, VERMILLION, new_figure, short, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def reliability_diagram(bins: Sequence[dict[str, Any]], ece: float, *, title: str | None = None) -> Figure:
    """Draw accuracy over confidence, bin by bin, with the number of items in each bin below.

    Args:
        bins: ``low``, ``high``, ``count``, ``confidence``, ``accuracy`` (None where empty), as
            :func:`netferry.runtime.evaluate.calibration` gives them.
        ece: expected calibration error, printed in the title.
    """
    figure = new_figure(7.2, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], "--", color=PALE, linewidth=1, label="perfectly calibrated")
    for row in bins:
        width, middle = row["high"] - row["low"], (row["low"] + row["high"]) / 2
        below.bar(middle, row["count"], width * 0.92, color=SKY)
        if row["count"]:
            above.bar(middle, row["accuracy"], width * 0.92, color=BLUE, alpha=0.85)
            above.plot(
                [row["confidence"]], [row["accuracy"]], "D", color=VERMILLION, markersize=4.5, zorder=3, clip_on=False
            )
    above.plot([], [], "s", color=BLUE, label="accuracy in the bin")
    above.plot([], [], "D", color=VERMILLION, markersize=4.5, label="at its mean confidence")
    above.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(0, 1))
    above.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, fontsize=9)
    below.set(xlabel="confidence of the first answer", ylabel="items")
    head = f"expected calibration error {ece:.3f}"
    above.set_title(f"{short(title, 50)}\n{head}" if title else head, loc="left")
    return figure


@styled
def comparison_chart(rows: Sequence[Mapping[str, Any]], *, title: str, note: str) -> Figure:
    """Draw networks by accuracy (y) over time relative to the fastest (x); the area of a circle is the file's size.

    Args:
        rows: ``name``, ``relative_time``, ``accuracy`` (0 to 1), ``bytes``.
        title: what is compared on what.
        note: how it was measured: batch size, device, repeats.

    Raises:
        UsageError: no rows.
    """
    if not rows:
        raise UsageError("there are no networks to compare")
    x = np.array([row["relative_time"] for row in rows], float)
    y = 100 * np.array([row["accuracy"] for row in rows], float)
    sizes = np.array([row["bytes"] for row in rows], float)
    areas = np.maximum(sizes / sizes.max() * 1800, 12)  # in points squared; the largest is 0.6 inches wide
    figure = new_figure(8.4, 5.8)
    axes = figure.add_subplot()
    wide = x.max() / x.min() > 8
    if wide:
        axes.set_xscale("log")
        low, high = 0.8, x.max() * 1.45
        ticks = [t * 10**d for d in range(6) for t in (1, 2, 5) if low <= t * 10**d <= high]
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axes.minorticks_off()
    else:
        room = max((x.max() - 1) * 0.25, 0.3)
        low, high = 1 - room * 0.5, x.max() + room
    span = max(float(y.max() - y.min()), 4.0)
    axes.set_xlim(low, high)
    axes.set_ylim(y.min() - 0.25 * span, y.max() + 0.25 * span)
    axes.set_yticks([t for t in axes.get_yticks() if y.min() - 0.25 * span <= t <= min(100, y.max() + 0.25 * span)])
    if not wide:
        axes.set_xticks([t for t in axes.get_xticks() if 1 - 1e-9 <= t <= high])
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    for number in range(len(rows)):
        axes.scatter(x[number], y[number], areas[number], color=PALETTE[number % len(PALETTE)], alpha=0.7,
                     edgecolors=INK, linewidths=0.6, zorder=3)  # fmt: skip
    axes.set_xlabel("time per item, relative to the fastest" + (" (logarithmic)" if wide else ""))
    axes.set_ylabel("top-1 accuracy (%)")
    axes.set_title(f"{short(title, 80)}\n", loc="left")
    axes.text(0, 1.02, f"{short(note, 130)}", transform=axes.transAxes, fontsize=8.5, color=PALE)
    labels = [f"{short(row['name'])}\n{_megabytes(row['bytes'])}" for row in rows]
    _label_points(figure, x, y, np.sqrt(areas / np.pi), labels)
    return figure


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.{0 if size >= 2e7 else 1 if size >= 1e6 else 2}f} MB"


def _label_points(figure: Figure, x: np.ndarray, y: np.ndarray, radii: np.ndarray, labels: Sequence[str]) -> None:
    """Put texts beside points where they lie neither on one another nor on a point; far ones get a line."""
    axes = figure.axes[0]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # positions are fixed from here
    renderer: Any = figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    scale = figure.dpi / 72
    points = axes.transData.transform(np.column_stack([x, y]))
    circles = [(px - r * scale, py - r * scale, px + r * scale, py + r * scale)
               for (px, py), r in zip(points, radii, strict=True)]  # fmt: skip
    frame = axes.get_window_extent(renderer).extents
    taken: list[Sequence[float]] = []
    ground = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
    for number in map(int, np.argsort(-points[:, 1], kind="stable")):
        text = axes.annotate(labels[number], (x[number], y[number]), xytext=(0, 0), textcoords="offset points",
                             fontsize=9, linespacing=1.05, zorder=6, bbox=ground)  # fmt: skip
        best: tuple[float, Any] | None = None
        for far in (4, 14, 26, 40, 56, 76, 100):
            for dx, dy, across, along in _AROUND:
                reach = radii[number] * (0.75 if dx and dy else 1.0) + far
                text.set(position=(dx * reach, dy * reach), ha=across, va=along)
                box = text.get_window_extent(renderer).extents
                others = [*taken, *circles]
                cost = sum(_shared(box, other) for other in others) + 5 * _outside(box, frame)
                if best is None or cost < best[0]:
                    best = (cost, (dx * reach, dy * reach, across, along, far))
                if cost == 0:
                    break
            if best is not None and best[0] == 0:
                break
        assert best is not None
        px, py, across, along, far = best[1]
        text.set(position=(px, py), ha=across, va=along)
        taken.append(text.get_window_extent(renderer).extents)
        if far > 14:
            line = {"arrowstyle": "-", "color": PALE, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (x[number], y[number]), xytext=(px, py), textcoords="offset points", arrowprops=line,
                          zorder=4)  # fmt: skip


_AROUND = (
    (1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom"), (0, -1, "center", "top"),
    (1, 1, "left", "bottom"), (1, -1, "left", "top"), (-1, 1, "right", "bottom"), (-1, -1, "right", "top"),
)  # fmt: skip


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes share, with two pixels of air."""
    wide = min(a[2], b[2]) - max(a[0], b[0]) + 2
    high = min(a[3], b[3]) - max(a[1], b[1]) + 2
    return wide * high if wide > 0 and high > 0 else 0.0


def _outside(box: Sequence[float], frame: Sequence[float]) -> float:
    """How far a box leaves the frame, as an area."""
    over = max(frame[0] - box[0], 0) + max(box[2] - frame[2], 0)
    above = max(frame[1] - box[1], 0) + max(box[3] - frame[3], 0)
    return over * (box[3] - box[1]) + above * (box[2] - box[0])
