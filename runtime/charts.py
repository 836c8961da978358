"""Plots of single verbs: the reliability diagram, networks compared, a map of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netferry.runtime.plots import BLUE, PALE, SKY, VERMILLION, new_figure, short, styled

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
    figure = new_figure(5.2, 5.6)
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
    above.legend(loc="upper left", fontsize=9)
    below.set(xlabel="confidence of the first answer", ylabel="items")
    head = f"expected calibration error {ece:.3f}"
    above.set_title(f"{short(title, 50)}\n{head}" if title else head, loc="left")
    return figure
