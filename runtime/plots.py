"""Plots that several verbs share: the confusion chart and curves, and what every plot is made with.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/) and matplotlib's cividis, which people with any kind of
colour blindness tell apart; lines differ in marker or dash too. Figures are made without pyplot, so threads do not
meet, and the same data gives the same bytes. matplotlib is imported when the first figure is drawn.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from netferry.errors import MissingExtra, UsageError, quoted
from netferry.schemas.publish import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#000000",
)  # fmt: skip
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK, YELLOW)
"""Okabe and Ito's colours, the ones that read well on white first."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
DASHES = ("-", "--", "-.", ":")
SEQUENTIAL = "cividis"
INK, PALE, GRID = "#222222", "#666666", "#DDDDDD"
SUFFIXES = (".png", ".svg", ".pdf")
_STYLE: Any = {
    "font.size": 10, "axes.titlesize": 12, "axes.labelsize": 10, "axes.edgecolor": PALE, "axes.labelcolor": INK,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "grid.color": GRID, "legend.frameon": False, "figure.facecolor": "white", "savefig.facecolor": "white",
    "svg.hashsalt": "netferry", "svg.fonttype": "path", "text.parse_math": False,  # a class may be called $5
}  # fmt: skip
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Arial Unicode MS")
_NUMBERED, _NAMED = 30, 100  # classes up to which a confusion chart has numbers in its cells, and names at its sides


def require_matplotlib() -> None:
    """Raise :class:`MissingExtra` where matplotlib is not installed."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "evaluate", "drawing a plot")


@functools.cache
def _fonts() -> list[str]:
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FONTS if name in there] or ["sans-serif"]


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the function draws in netferry's style, and says so where matplotlib is missing."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        require_matplotlib()
        import matplotlib

        with matplotlib.rc_context({**_STYLE, "font.family": _fonts()}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches; its parts keep clear of each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def figure_bytes(figure: Figure, kind: str = "png", dpi: int = 150) -> bytes:
    """Return a figure as ``png``, ``svg`` or ``pdf``; equal figures give equal bytes."""
    if f".{kind}" not in SUFFIXES:
        raise UsageError(f"a plot is png, svg or pdf, not {quoted(kind)}")
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    out = BytesIO()
    figure.savefig(out, format=kind, dpi=dpi, metadata=metadata)
    return out.getvalue()


def write_figure(figure: Figure, out: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write a figure as its name's suffix says (.png, .svg, .pdf), whole or not at all.

    Raises:
        UsageError: another suffix. OutputError: it cannot be written there.
    """
    check_plot_name(out)
    write_whole(out, figure_bytes(figure, Path(out).suffix.lower()[1:], dpi))


def check_plot_name(out: str | os.PathLike[str]) -> None:
    """Raise :class:`UsageError` where a file's suffix is no plot's; call it before the work that the plot shows."""
    if Path(out).suffix.lower() not in SUFFIXES:
        raise UsageError(f"a plot is a {', '.join(SUFFIXES)} file, not {quoted(Path(out).suffix)}", file=out)


def short(text: str, limit: int = 26) -> str:
    """Return a name of at most ``limit`` characters, printable; the middle goes, as names often differ at the end."""
    shown = quoted(text, 400)[1:-1]
    if len(shown) <= limit:
        return shown
    tail = (limit - 1) // 3
    return f"{shown[: limit - 1 - tail]}…{shown[-tail:]}"


@styled
def confusion_chart(matrix: np.ndarray, classes: Sequence[str], *, title: str | None = None) -> Figure:
    """Draw a confusion matrix: rows are true classes, columns predicted ones, counts in the cells.

    A cell's shade is its share of its row: blue on the diagonal (right), orange off it (wrong). Up to 30 classes the
    recall of each row stands at the right and the precision of each column below; with more there are no numbers, and
    beyond 100 no names.

    Args:
        matrix: (n, n) counts.
        classes: n names.

    Raises:
        UsageError: the matrix does not fit the names. MissingExtra: matplotlib is not installed.
    """
    counts = np.asarray(matrix)
    n = len(classes)
    if counts.shape != (n, n) or n == 0:
        raise UsageError(f"a confusion matrix of shape {list(counts.shape)} does not fit {n} classes")
    names = [short(c) for c in classes]
    longest = max(map(len, names))
    numbered = n <= _NUMBERED
    cell = 0.62 if n <= 12 else 0.46 if numbered else max(0.08, min(0.2, 12 / n))
    side = max(n + (1.3 if numbered else 0), 3) * cell
    names_wide = 0.09 * longest if n <= _NAMED else 0.3
    figure = new_figure(min(max(side + names_wide + 0.9, 4.2), 24), min(side + min(names_wide, 2.4) + 1.3, 24))
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(_shades(share), interpolation="nearest", aspect="equal")
    if numbered:
        _cell_texts(axes, counts, share, 9 if n <= 12 else 7)
        _margins(axes, counts, 9 if n <= 12 else 7)
    else:
        axes.spines[:].set_visible(False)
    if n <= _NAMED:
        size = 10 if n <= 12 else 8 if numbered else 6
        axes.set_xticks(range(n), names, rotation=90 if longest > 4 else 0, fontsize=size)
        axes.set_yticks(range(n), names, fontsize=size)
    axes.tick_params(length=0)
    right, total = int(np.trace(counts)), int(counts.sum())
    accuracy = f"accuracy {right / total:.1%}, {right:,} of {total:,}" if total else "no items"
    axes.set_title(f"{short(title, 60)}\n{accuracy}" if title else accuracy, loc="left", pad=20 if numbered else 6)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return figure


def _shades(share: np.ndarray) -> np.ndarray:
    """Row shares as colours on white: blue on the diagonal, orange elsewhere."""
    from matplotlib.colors import to_rgb

    strength = np.sqrt(share)[:, :, None]  # a single mistake in a hundred is still to be seen
    blue, orange = np.array(to_rgb(BLUE)), np.array(to_rgb(VERMILLION))
    ink = np.where(np.eye(len(share), dtype=bool)[:, :, None], blue, orange)
    return 1 - strength * (1 - ink)


def _cell_texts(axes: Axes, counts: np.ndarray, share: np.ndarray, size: int) -> None:
    n = len(counts)
    for row in range(n):
        for column in range(n):
            if counts[row, column]:
                color = "white" if share[row, column] > 0.35 else INK
                text = f"{counts[row, column]:,}"
                axes.text(column, row, text, ha="center", va="center", fontsize=_fitting(text, size), color=color)
    edges = np.arange(n + 1) - 0.5
    axes.hlines(edges, -0.5, n - 0.5, color=GRID, linewidth=0.8)
    axes.vlines(edges, -0.5, n - 0.5, color=GRID, linewidth=0.8)
    axes.spines[:].set_visible(False)


def _fitting(text: str, size: int) -> float:
    return size if len(text) <= 4 else size * 4 / len(text)


def _margins(axes: Axes, counts: np.ndarray, size: int) -> None:
    """Recall at the right of the rows, precision below the columns."""
    n = len(counts)
    right, of_row, of_column = np.diag(counts), counts.sum(1), counts.sum(0)
    place = n + 0.05
    for i in range(n):
        for total, x, y in ((of_row[i], place, i), (of_column[i], i, place)):
            text = f"{right[i] / total:.0%}" if total else "–"
            axes.text(x, y, text, ha="center", va="center", fontsize=size, color=PALE)
    for text, at, shift, across in (("recall", (place, -0.5), (0, 4), "center"),
                                    ("precision", (-0.5, place), (-4, 0), "right")):  # fmt: skip
        axes.annotate(text, at, xytext=shift, textcoords="offset points", ha=across, fontsize=size, color=PALE,
                      va="bottom" if across == "center" else "center", annotation_clip=False)  # fmt: skip
    axes.set_xlim(-0.5, n + 0.5)
    axes.set_ylim(n + 0.5, -0.5)


@dataclass(frozen=True)
class Line:
    """One line of a panel: ``y`` over ``x``; ``points`` draws markers (validation) instead of a plain line."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    points: bool = False
    smooth: int = 0
    """also draw the mean over so many points, the values themselves then pale"""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: what ``y`` is, its lines, and its range where that is known (accuracy: 0 to 1)."""

    ylabel: str
    lines: Sequence[Line]
    ylim: tuple[float, float] | None = None
    log: bool = False


@styled
def curves(
    panels: Sequence[Panel],
    *,
    xlabel: str = "iteration",
    title: str | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Draw panels one above the other over a common x: training progress (accuracy above, loss below).

    Args:
        panels: from top to bottom.
        marks: (x, text) of vertical lines: epochs, the best checkpoint.

    Raises:
        UsageError: no panels. MissingExtra: matplotlib is not installed.
    """
    if not panels:
        raise UsageError("curves without panels")
    figure = new_figure(8, 0.6 + 2.6 * len(panels))
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        axes.grid(axis="y")
        for x, _ in marks:
            axes.axvline(x, color=GRID, linewidth=1, zorder=0)
        for number, line in enumerate(panel.lines):
            _draw_line(axes, line, number)
        axes.set_ylabel(panel.ylabel)
        if panel.ylim is not None:
            axes.set_ylim(*panel.ylim)
        if panel.log:
            axes.set_yscale("log")
        if len(panel.lines) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    shown = -1e9
    low, high = rows[0].get_xlim()
    for x, text in marks:
        if text and x - shown > (high - low) / 14:  # texts side by side only where there is room
            rows[0].annotate(text, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
                             textcoords="offset points", ha="center", fontsize=8, color=PALE)  # fmt: skip
            shown = x
    rows[-1].set_xlabel(xlabel)
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left")
    return figure


def _draw_line(axes: Axes, line: Line, number: int) -> None:
    color, dash = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    if line.points:
        axes.plot(x, y, dash, color=color, marker=MARKERS[number % len(MARKERS)], markersize=4, linewidth=1.4,
                  label=line.label)  # fmt: skip
    elif 1 < line.smooth < len(y):
        axes.plot(x, y, color=color, alpha=0.3, linewidth=0.8)
        padded = np.concatenate([np.full(line.smooth - 1, y[0]), y])
        mean = np.convolve(padded, np.ones(line.smooth) / line.smooth, "valid")
        axes.plot(x, mean, dash, color=color, linewidth=1.6, label=line.label)
    else:
        axes.plot(x, y, dash, color=color, linewidth=1.4, label=line.label, marker="o" if len(x) == 1 else None)
