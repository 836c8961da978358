"""The training-progress plot: the figure above, the loss below, over iterations; epochs shaded, validation marked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netferry.runtime.plots import Line, Panel, curves, write_figure
from netferry.runtime.training.state import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"accuracy": "accuracy", "map": "mean average precision", "rmse": "root mean square error"}
_SHADE = "#f3f3f3"


def training_progress(
    rows: Sequence[Row], metric: str, per_epoch: int, *, best: int = 0, title: str | None = None
) -> Figure:
    """Draw a history: training raw and smoothed, validation as points, every second epoch shaded.

    Args:
        rows: the history.
        metric: accuracy, map or rmse.
        per_epoch: iterations in an epoch.
        best: iteration of the kept weights, marked; 0 for none.
        title: above the plot.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    x = [float(r["iteration"] or 0) for r in rows]
    smooth = max(2, min(25, len(rows) // 8))
    panels = []
    for column, label in (("figure", TITLES[metric]), ("loss", "loss")):
        seen = [(float(r["iteration"] or 0), r[f"validation_{column}"]) for r in rows]
        seen = [(i, float(v)) for i, v in seen if v is not None]
        # of several labels, training shows the share of right ones: their average precision needs a whole set
        training = "training (labels right)" if metric == "map" and column == "figure" else "training"
        lines = [Line(training, x, [float(r[f"training_{column}"] or 0) for r in rows], smooth=smooth)]
        if seen:
            lines.append(Line("validation", [i for i, _ in seen], [v for _, v in seen], points=True))
        share = column == "figure" and metric != "rmse"
        panels.append(Panel(label, lines, ylim=(0.0, 1.02) if share else None))
    last = int(x[-1]) if x else 0
    figure = curves(panels, title=title, marks=[(best, "kept")] if best else ())
    for axes in figure.axes:
        for epoch in range(0, -(-last // per_epoch), 2):
            axes.axvspan(epoch * per_epoch + 0.5, (epoch + 1) * per_epoch + 0.5, color=_SHADE, zorder=-1, linewidth=0)
        axes.set_xlim(0, max(last, 1) + 0.5)
    if last:
        epochs = -(-last // per_epoch)
        figure.axes[-1].set_xlabel(f"iteration ({per_epoch} make an epoch, {epochs} epochs)")
    return figure


def draw_progress(
    rows: Sequence[Row], out: str | os.PathLike[str], metric: str, per_epoch: int, *, best: int = 0, title: str = ""
) -> None:
    """Write the plot (.png, .svg or .pdf), whole or not at all."""
    write_figure(training_progress(rows, metric, per_epoch, best=best, title=title or None), out)
