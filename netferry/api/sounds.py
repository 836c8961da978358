"""Sound networks: their front end put into the graph, and their scores over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.predict import Classifier, Prediction
    from netferry.schemas.model import Model


def add_front_end(model: Model, name: str) -> None:
    """Let a network read a waveform instead of log-mel patches, in place.

    Args:
        model: a network with one input of patches (N x 96 x 64, with a channel of 1 or without).
        name: ``vggish`` or ``yamnet``.

    Raises:
        UsageError: no such front end, or the network reads something else.
    """
    from netferry.converters.waveform import add_front_end as add
    from netferry.schemas.sound import recipe_named

    add(model, recipe_named(name))


def timelines(
    classifier: Classifier,
    found: Sequence[Prediction],
    patches: Sequence[np.ndarray | None],
    top: int,
    annotate: StrPath | None,
) -> dict[str, list[dict[str, Any]]]:
    """Return the best answers of every patch per item, and draw spectrogram and scores where ``annotate`` says.

    Several sounds are drawn into a file each, ``NAME-SOUND.png``, or ``NAME-FOLDER-SOUND.png`` where names are equal.

    Args:
        patches: for each of ``found`` the scores of its patches; None for what is no sound, or could not be read.

    Raises:
        MissingExtra: drawing needs matplotlib.
        OutputError: a drawing cannot be written.
    """
    from netferry.runtime.sounds import draw_timeline, read_sound

    assert classifier.feed.sound is not None
    recipe = classifier.feed.sound[1]
    out: dict[str, list[dict[str, Any]]] = {}
    items = [(p, scores) for p, scores in zip(found, patches, strict=True) if scores is not None]
    places = _places([prediction.item for prediction, _ in items], annotate)
    for prediction, raw in items:
        scores, _ = classifier.probabilities(raw, prediction.softmax)  # as the sound's own answer was made
        names = classifier.names(scores.shape[1])
        out[prediction.item] = [
            {"start": recipe.start(n), "top": [_answer(names, row, i) for i in (-row).argsort(kind="stable")[:top]]}
            for n, row in enumerate(scores)
        ]
        if annotate is not None:
            from netferry.runtime.plots import write_figure

            waveform = read_sound(prediction.source, recipe.sample_rate)
            figure = draw_timeline(waveform, scores, names, recipe, title=Path(prediction.item).name)
            write_figure(figure, places[prediction.item])
    return out


def _places(items: Sequence[str], annotate: StrPath | None) -> dict[str, Path]:
    """The drawing of each sound: as named for one alone, else ``NAME-SOUND``, its folder or number added if needed."""
    if annotate is None:
        return {}
    whole = Path(annotate)
    if len(items) == 1:
        return {items[0]: whole}
    ends = [Path(item).stem for item in items]
    if len(set(ends)) < len(ends):
        ends = [f"{Path(item).parent.name}-{end}" for item, end in zip(items, ends, strict=True)]
    if len(set(ends)) < len(ends):
        ends = [f"{n}-{end}" for n, end in enumerate(ends)]
    return {item: whole.with_name(f"{whole.stem}-{end}{whole.suffix}") for item, end in zip(items, ends, strict=True)}


def _answer(names: Sequence[str], row: Any, index: int) -> dict[str, Any]:
    return {"label": names[index], "class": int(index), "score": float(row[index])}
