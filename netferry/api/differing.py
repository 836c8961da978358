"""``diff``: what tells two networks apart, without running them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, load
from netferry.errors import UsageError

if TYPE_CHECKING:
    from netferry.schemas.model import Model

IGNORABLE = ("metadata", "names", "weights")


def diff(
    a: StrPath | Model,
    b: StrPath | Model,
    *,
    weights: StrPath | None = None,
    weights_b: StrPath | None = None,
    tolerance: float = 0.0,
    ignore: Sequence[str] = (),
    **reading: Any,
) -> dict[str, Any]:
    """Compare two networks: structure, settings, weights, facts.

    Nodes are matched by name, by the value that they give, else by their place; what has a counterpart of another name
    is renamed, not added and removed. Whether both compute the same is asked with :func:`verify`.

    Args:
        a, b: files of any format, or models.
        weights, weights_b: their second files, where they have one.
        tolerance: weights that are no farther apart than this, over their largest magnitude, count as equal.
        ignore: what does not count: ``metadata``, ``names``, ``weights``.
        reading: options of :func:`load` for both.

    Returns:
        ``same``; ``a`` and ``b``: what they are; ``ports``, ``layers``, ``nodes``, ``weights``, ``renamed`` and
        ``metadata``: lists of changes; ``weights_equal`` and ``weights_close``: numbers of tensors. Distances that are
        infinite are null.

    Raises:
        UsageError: nothing of that name can be ignored.
        NetferryError: a file cannot be read; see :func:`load`.
    """
    from netferry.converters.passes.opset_types import annotate
    from netferry.schemas.difference import difference

    if unknown := [name for name in ignore if name not in IGNORABLE]:
        raise UsageError(f"{', '.join(IGNORABLE)} can be ignored, not {unknown[0]!r}")
    models = [
        load(source, second, **reading) if isinstance(source, (str, Path)) else source
        for source, second in ((a, weights), (b, weights_b))
    ]
    for model in models:
        annotate(model.ir)
    found = difference(*models, tolerance=tolerance)
    return {
        "same": found.same(frozenset(ignore)),
        "a": _told(models[0]),
        "b": _told(models[1]),
        "ports": found.ports,
        "layers": found.layers,
        "nodes": found.nodes,
        "weights": found.weights,
        "weights_equal": found.weights_equal,
        "weights_close": found.weights_close,
        "renamed": found.renamed,
        "metadata": found.metadata,
        "ignored": list(ignore),
    }


def _told(model: Model) -> Mapping[str, Any]:
    return {
        "files": list(model.source.files),
        "format": model.source.format,
        "opset": model.opset,
        "layers": len(model.layers),
        "nodes": len(model.graph),
        "learnables": sum(row.learnable_count for row in model.layers),
    }
