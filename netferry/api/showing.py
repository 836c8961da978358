"""What there is: ``inspect`` a network, list ``formats`` and ``layers``, ``doctor`` the installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, load

if TYPE_CHECKING:
    from netferry.schemas.model import Model


def inspect(
    source: StrPath | Model,
    weights: StrPath | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    html: StrPath | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Return what a network consists of: inputs, outputs, totals, layer table, warnings.

    Args:
        source: a file (see :func:`load` for ``weights`` and the further options) or a model.
        sizes: sizes of dynamic dimensions at which multiply-adds and memory are counted (``{"height": 224}``); the
            batch is 1 by default.
        html: write one HTML page here that draws the network: zoom, search, settings and weight histograms of each
            layer, without anything from elsewhere.

    Raises:
        UsageError: ``sizes`` names a dimension that the model does not have.
        LimitExceeded: the network is too large to draw.
        OutputError: the page cannot be written, or would replace a file of the network.
    """
    from netferry.api.description import describe

    model = load(source, weights, **reading) if isinstance(source, (str, Path)) else source
    described = describe(model, sizes=sizes)
    if html is not None:
        _write_page(model, described, Path(html))
    return described


def _write_page(model: Model, described: Mapping[str, Any], target: Path) -> None:
    from netferry import __version__
    from netferry.converters.html.page import page
    from netferry.schemas.publish import keep_sources, write_whole

    keep_sources(target, *model.source.files)
    write_whole(target, page(model, described, version=__version__))


def formats() -> list[dict[str, Any]]:
    """Return the formats that netferry reads."""
    from netferry.converters.formats import FORMATS

    rows: list[dict[str, Any]] = []
    for entry in FORMATS:
        registry = entry.layers()
        count = None if registry is None else len(registry)
        rows.append({"format": entry.name, "about": entry.about, "files": list(entry.files), "layers": count})
    return rows


def layers(format: str | None = None, *, plugins: Sequence[StrPath] = ()) -> list[dict[str, str]]:
    """Return the layer types that netferry reads, from the registries; of one format, or of all."""
    from netferry.converters.formats import FORMATS, by_name
    from netferry.converters.plugins import load_installed, load_plugin

    chosen = [by_name(format)] if format else list(FORMATS)
    registries = [(f.name, f.layers()) for f in chosen]
    load_installed()
    for plugin in plugins:
        load_plugin(Path(plugin))
    return [
        {"format": name} | row for name, registry in registries if registry is not None for row in registry.describe()
    ]


def doctor() -> dict[str, Any]:
    """Return what is installed, which devices can be used, and the fix for what is missing."""
    from netferry.api.diagnosis import diagnose

    return diagnose()
