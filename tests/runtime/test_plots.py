"""Plots: what is on them, that texts keep clear of each other, and that the colour-blind can read them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import UsageError
from netferry.runtime.plots import (
    PALETTE,
    Line,
    Panel,
    confusion_chart,
    curves,
    figure_bytes,
    short,
    write_figure,
)

pytest.importorskip("matplotlib", reason="needs the extra 'evaluate'")


def confusion(n: int, items: int = 60) -> np.ndarray:
    rng = np.random.default_rng(n)
    matrix = np.zeros((n, n), int)
    for row in range(n):
        for _ in range(items):
            matrix[row, row if rng.random() < 0.8 else rng.integers(n)] += 1
    return matrix


def overlaps(figure: object) -> list[tuple[str, str]]:
    """Pairs of visible texts of a figure whose boxes share area."""
    figure_bytes(figure, "png", 100)  # pyright: ignore[reportArgumentType] # lays the figure out
    from matplotlib.text import Text

    found = figure.findobj(lambda a: isinstance(a, Text) and a.get_visible() and a.get_text().strip())  # pyright: ignore[reportAttributeAccessIssue]
    canvas = figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    boxes = [(t.get_text(), t.get_window_extent(canvas)) for t in found]
    pairs = itertools.combinations(boxes, 2)
    return [
        (a, b)
        for (a, x), (b, y) in pairs
        if min(x.x1, y.x1) - max(x.x0, y.x0) > 1 and min(x.y1, y.y1) - max(x.y0, y.y0) > 1
    ]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 13, 30, 31, 100])
def test_no_text_of_a_confusion_chart_lies_on_another(n: int) -> None:
    figure = confusion_chart(confusion(n), [f"a class called {i}" for i in range(n)], title="a title")
    assert overlaps(figure) == []


def test_a_confusion_chart_tells_counts_recall_precision_and_accuracy() -> None:
    figure = confusion_chart(np.array([[8, 2], [1, 3]]), ["$cat$", "dog"])
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert [t for t in texts if t.isdigit()] == ["8", "2", "1", "3"]
    assert {"80%", "89%", "75%", "60%"} <= set(texts)  # recall 8/10, precision 8/9, recall 3/4, precision 3/5
    assert figure.axes[0].get_title(loc="left") == "accuracy 78.6%, 11 of 14"
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["$cat$", "dog"]


@pytest.mark.parametrize("n", [0, 3])
def test_a_matrix_that_does_not_fit_is_refused(n: int) -> None:
    with pytest.raises(UsageError, match="does not fit"):
        confusion_chart(np.zeros((2, 2)), ["x"] * n)


def test_an_empty_class_divides_nothing_by_nothing() -> None:
    figure_bytes(confusion_chart(np.array([[0, 0], [0, 0]]), ["a", "b"]))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_equal_figures_give_equal_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_figure(confusion_chart(confusion(3), ["a", "b", "c"]), tmp_path / "made" / f"{name}{suffix}")
    assert (tmp_path / "made" / f"a{suffix}").read_bytes() == (tmp_path / "made" / f"b{suffix}").read_bytes()


def test_another_suffix_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a plot is"):
        write_figure(confusion_chart(confusion(2), ["a", "b"]), tmp_path / "plot.bmp")
    assert list(tmp_path.iterdir()) == []


def test_curves_have_a_line_per_series_that_differs_in_more_than_colour() -> None:
    x = np.arange(20)
    lines = [Line(f"run {i}", x, x * i, points=i % 2 == 0) for i in range(6)]
    figure = curves(
        [Panel("accuracy", lines[:2], (0, 1)), Panel("loss", lines)],
        title="t",
        marks=[(float(e), f"epoch {e}") for e in x],
    )
    drawn = [line for line in figure.axes[1].lines if not line.get_label().startswith("_")]
    assert len({(line.get_linestyle(), line.get_marker(), line.get_color()) for line in drawn}) == 6
    assert len({line.get_linestyle() for line in drawn[:4]}) == 4
    assert overlaps(figure) == []


def test_a_smoothed_line_is_the_running_mean() -> None:
    figure = curves([Panel("loss", [Line("training", range(6), [0, 0, 3, 3, 3, 0], smooth=3)])])
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), [0, 0, 1, 2, 3, 2], atol=1e-12)


# linear RGB -> what people without one kind of cone see (Machado, Oliveira and Fernandes 2009, severity 1)
_SIMULATIONS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("kind", _SIMULATIONS)
def test_the_first_colours_stay_apart_for_the_colour_blind(kind: str) -> None:
    srgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in PALETTE[:4]])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(_SIMULATIONS[kind]).T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    least = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
    assert least > 10  # CIE76; 2.3 is just noticeable


def test_a_long_name_keeps_its_end() -> None:
    assert short("a class with a very long name 12").endswith("name 12")
    assert len(short("x" * 99)) == 26
    assert short("line\nbreak") == "line\\nbreak"
