"""``train_head``: a classifier on a network's features, and both as one ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.api.features import BESIDE, extractor_of, model_hash, opened
from netferry.api.predicting import as_onnx
from netferry.api.reading import StrPath, load
from netferry.api.remote import Transfers
from netferry.api.saving import save
from netferry.errors import CheckFailed, UsageError, quoted
from netferry.schemas.publish import temporary_folder

if TYPE_CHECKING:
    from netferry.runtime.data import Data
    from netferry.runtime.data.sources import Spec
    from netferry.runtime.features.extract import Extractor
    from netferry.runtime.features.parts import Row
    from netferry.schemas.model import Model


def train_head(
    source: StrPath | Model,
    data: Spec | Iterable[Spec] | Data | None,
    output: StrPath,
    *,
    on: StrPath = "features",
    layer: str | None = None,
    pool: str = "avg",
    classifier: str = "svm",
    c: float | None = None,
    neighbors: int = 5,
    test_size: float = 0.3,
    seeds: int = 5,
    folds: int = 5,
    weights: StrPath | None = None,
    device: str = "auto",
    batch_size: int = 16,
    threads: int | None = None,
    workers: int | None = None,
    on_error: str = "fail",
    recipe: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Train a classifier on the features of labelled items; write trunk and classifier as one ONNX file.

    The features are standardised. How well it learns is measured on held-back items and by cross-validation; the file
    holds the classifier that was fitted to all items. It returns ``label`` and ``scores``, and must give
    scikit-learn's labels on every item before it appears.

    Args:
        source: an ONNX file, a file of another format (converted in memory), or a model.
        data: labelled items: what :func:`netferry.open_data` takes, or gives. None where ``on`` is a file.
        output: the ONNX file to write.
        on: ``features``, which are computed, or a file that :func:`netferry.features` wrote with this network.
        layer: the layer; by default the one in front of the last softmax, else the last.
        pool: ``avg``, ``max`` or ``flatten``.
        classifier: ``svm`` (linear), ``logistic`` or ``knn``.
        c: inverse of the regularisation's strength (svm, logistic); see :func:`netferry.runtime.heads.pipeline`.
        neighbors: number of neighbours (knn).
        test_size, seeds: share of the items that is held back, and how many such splits are measured.
        folds: of the cross-validation.
        device, batch_size, threads, workers, on_error, recipe, data_options, progress: as for
            :func:`netferry.features`.

    Returns:
        ``output``, ``layer``, ``classes`` with counts, ``held_back`` and ``cross_validation`` accuracies, ``checks`` of
        the file, ``skipped``.

    Raises:
        UsageError: no labels, one class only, a file of features of another network.
        CheckFailed: the file gives another label than scikit-learn; nothing is written.
        MissingExtra: scikit-learn or skl2onnx is not installed.
    """
    from netferry.converters.onnx.cut import last_feature_layer
    from netferry.converters.onnx.head import SCORES
    from netferry.runtime.heads import check_rows, fitted, judge, pipeline

    make = partial(pipeline, classifier, c=c, neighbors=neighbors)
    make()  # complains before anything is computed
    if pool == "none":
        raise UsageError("a classifier learns from vectors: pool is avg, max or flatten")
    with Transfers() as files, as_onnx(files.input(source), files.input(weights), files.options(reading)) as path:
        from_file = None if str(on) == "features" else _features_of(files.input(on, BESIDE), path, layer)
        if from_file is not None:
            layer, pool = from_file[2], from_file[3]
        wanted = layer or last_feature_layer(path)
        piece, extractor = extractor_of(path, [wanted], pool, device, recipe, threads=threads)
        if from_file is None:
            if data is None:
                raise UsageError("there is nothing to learn from", hint="give labelled data, or --on FEATURES.npz")
            rows, x = _computed(extractor, files.inputs(data), data_options, batch_size, workers, on_error, progress)
        else:
            rows, x = from_file[:2]
        kept = [row for row in rows if row.error is None]
        y = check_rows(x, [row.label for row in kept])
        make = partial(make, x.shape[1])
        report = judge(x, y, make, test_size=test_size, seeds=seeds, folds=folds)
        learned = fitted(make(), x, y)
        merged = _checked_head(piece.whole(), learned, x, pool, extractor.layers[0].last)
        classes = [str(name) for name in learned.classes_]
        with temporary_folder() as folder:
            (folder / "merged.onnx").write_bytes(merged)
            model = load(folder / "merged.onnx")
            model.labels = {SCORES: classes}
            if extractor.feed.picture is not None:
                model.preprocessing[extractor.feed.picture.name] = extractor.feed.recipe
            written = save(model, files.output(output))
    count = Counter(y.tolist())
    result = {
        "output": str(output),
        "layer": piece.taps[0].layer,
        "pool": pool,
        "features": int(x.shape[1]),
        "classifier": classifier,
        "items": len(kept),
        "classes": {name: count[name] for name in classes},
        **report,
        "device": extractor.feed.session.device,
        "checks": written["checks"],
        "notes": extractor.feed.notes,
        "skipped": [{"item": r.item, "error": r.error} for r in rows if r.error is not None],
    }
    return files.named(result)


def _computed(
    extractor: Extractor,
    data: Spec | Iterable[Spec] | Data,
    options: Mapping[str, Any] | None,
    batch_size: int,
    workers: int | None,
    on_error: str,
    progress: Callable[[int], None] | None,
) -> tuple[list[Row], np.ndarray]:
    from netferry.runtime.features.extract import collect

    items = opened(data, extractor.feed.session.inputs, options)
    rows, columns = collect(extractor, items, batch_size, workers=workers, on_error=on_error, progress=progress)
    if not columns:
        raise UsageError("none of the items can be read")
    return rows, columns[0]


def _features_of(file: StrPath, model: Path, layer: str | None) -> tuple[list[Row], np.ndarray, str, str]:
    """Rows, features, layer and pool of a file that this very network gave."""
    from netferry.runtime.features.read import FeatureFile

    found = FeatureFile(Path(file))
    if layer is None and len(found.layers) > 1:
        raise UsageError(
            f"it holds {len(found.layers)} layers: {', '.join(found.layers)}", file=file, hint="--layer NAME"
        )
    asked = dict(zip(found.manifest.get("asked", []), found.manifest.get("from", {}), strict=False))
    name = asked.get(layer, layer) if layer is not None else found.layers[0]
    if name not in found.layers:
        raise UsageError(f"it holds no layer {quoted(name)} (there are {', '.join(found.layers)})", file=file)
    known = found.manifest.get("model", {}).get("sha256")
    if known != model_hash(model):
        raise UsageError(
            "the features were not computed by this network", file=file, hint="netferry features makes them"
        )
    rows, arrays = found.whole()
    return rows, arrays[name], name, str(found.manifest.get("pool", "avg"))


def _checked_head(trunk: bytes, learned: Any, x: np.ndarray, pool: str, channels_last: Callable[[int], bool]) -> bytes:
    """The merged model; its classifier gives scikit-learn's labels on every row, in float32 or else in float64."""
    from netferry.converters.onnx.head import FEATURES, LABEL, with_classifier
    from netferry.runtime.session import Session

    wanted = learned.predict(x)
    differing = 0
    for double in (False, True):
        merged, head = with_classifier(trunk, learned, x.shape[1], pool, channels_last=channels_last, double=double)
        session = Session(head, "cpu", once=True)
        rows = x.astype(np.float64 if double else np.float32)
        differing = int((session.run({FEATURES: rows}, [LABEL])[LABEL] != wanted).sum())
        if not differing:
            return merged
    raise CheckFailed(f"the ONNX classifier gives another label than scikit-learn on {differing} of {len(x)} items")
