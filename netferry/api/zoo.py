"""The zoo: networks by name, built offline with seeded weights, or with those that their authors publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath
from netferry.api.saving import save
from netferry.api.zoo_models import checker, seeded_model, variant_of, with_weights
from netferry.api.zoo_sounds import find_sounds, ontology
from netferry.errors import DownloadFailed, UsageError

if TYPE_CHECKING:
    from netferry.schemas.model import Model
    from netferry.zoo.catalogue import Entry

__all__ = ["PUBLISHED", "build", "find_sounds", "load", "names", "ontology", "pull", "show"]

PUBLISHED = "published"
"""stands for the weights of a network's official home"""


def names() -> list[str]:
    """Return the names of all networks."""
    from netferry.zoo.catalogue import entries

    return list(entries())


def show(name: str | None = None, *, cache: StrPath | None = None) -> Any:
    """Return what the catalogue says of one network, or of all.

    Args:
        cache: folder for published weights, instead of the platform's.

    Returns:
        Of one network also ``cached``: the records of its weights that were pulled, each with its ``variant``.

    Raises:
        UsageError: there is no such network.
    """
    from netferry.zoo.cache import Cache
    from netferry.zoo.catalogue import entries, entry

    if name is None:
        return [e.as_dict() for e in entries().values()]
    found, here = entry(name), Cache(cache)
    files = (*found.variants, *((found.postprocess,) if found.postprocess else ()))
    return found.as_dict() | {"cached": [known for each in files if (known := here.find(each))]}


def load(
    name: str,
    num_classes: int | Sequence[str] | None = None,
    weights: StrPath | None = None,
    *,
    seed: int = 0,
    variant: str | None = None,
    cache: StrPath | None = None,
    mirrors: Sequence[str] = (),
    front_end: bool = False,
    postprocess: StrPath | None = None,
) -> Model:
    """Return a network of the zoo.

    Args:
        name: see :func:`names`.
        num_classes: put a new head of so many classes (or of classes of these names) on it; everything else stays
            bit-identical.
        weights: None for seeded values, ``"published"`` for those of the network's official home (pulled into the cache
            where they are not there yet), or a file of the network's format.
        seed: of the seeded values, and of the new head's.
        variant: which of the network's publications (``show(name)["variants"]``). By default for seeded values the
            first, for a file the one of its format, for published weights the first that can be had.
        cache: folder for published weights, instead of the platform's.
        mirrors: other places for them, see :func:`pull`.
        front_end: let a sound network read a waveform: what makes its log-mel patches becomes part of the graph.
            (Without it the file still says how they are made, and netferry makes them of sound files.)
        postprocess: see :func:`netferry.api.load`; ``"published"`` for the file of the network's official home, which
            comes into the cache as the weights do.

    Raises:
        UsageError: there is no such network.
        NetferryError: the weights cannot be had or do not fit.
    """
    from netferry.zoo.catalogue import entry

    found = entry(name, variant)
    if weights is None:
        model = seeded_model(found, seed)
    elif str(weights) == PUBLISHED:
        had = pull(name, variant=variant, cache=cache, mirrors=mirrors, check=False)
        found = entry(name, had["variant"])
        model = with_weights(found, Path(had["file"]))
    else:
        found = found if variant is not None else variant_of(found, Path(weights))
        model = with_weights(found, Path(weights))
    if num_classes is not None:
        model = model.with_head(num_classes, seed=seed)
    _finish(model, found, front_end, postprocess, {"cache": cache, "mirrors": mirrors})
    return model


def _finish(
    model: Model, entry: Entry, front_end: bool, postprocess: StrPath | None, pulling: Mapping[str, Any]
) -> None:
    """The parts in front of and behind a sound network."""
    from netferry.api.remote import Transfers
    from netferry.api.sounds import add_front_end
    from netferry.converters.pca import add_postprocess, read_pca
    from netferry.converters.waveform import record
    from netferry.schemas.sound import recipe_named

    if entry.front_end is not None:
        record(model, model.inputs[0].name, recipe_named(entry.front_end))
    if front_end:
        if entry.front_end is None:
            raise UsageError(f"{entry.name} reads no sounds, there is no front end for it")
        add_front_end(model, entry.front_end)
    if postprocess is not None:
        with Transfers() as files:
            published = str(postprocess) == PUBLISHED
            given = _second_file(entry, **pulling) if published else files.input(postprocess)
            add_postprocess(model, read_pca(Path(given)))


def _second_file(entry: Entry, cache: StrPath | None, mirrors: Sequence[str], **more: Any) -> str:
    """The published file of what comes behind a network, in the cache; mirrors that are folders have it too."""
    from netferry.converters.pca import read_pca
    from netferry.zoo.cache import Cache

    def readable(path: Path) -> None:
        read_pca(path)

    if entry.postprocess is None:
        raise UsageError(f"nothing is published that comes behind {entry.name}")
    folders = [mirror for mirror in mirrors if mirror.endswith("/")]
    return Cache(cache).bring(entry.postprocess, mirrors=folders, check=readable, **more)["file"]


def build(
    name: str,
    target: StrPath,
    *,
    seed: int = 0,
    weights: StrPath | None = None,
    variant: str | None = None,
    num_classes: int | Sequence[str] | None = None,
    front_end: bool = False,
    postprocess: StrPath | None = None,
    check: str = "auto",
    opset: int | None = None,
) -> dict[str, Any]:
    """Write a network with seeded weights, or those of a file, as ONNX; needs neither cache nor network.

    Args:
        target: the file to write.
        seed: the same seed gives the same file.
        weights: a file of the network's own format (what ``pull`` would fetch), instead of seeded values.
        variant, num_classes, front_end, postprocess: see :func:`load`.
        check, opset: see :func:`netferry.api.save`.

    Returns:
        What :func:`netferry.api.save` returns, with the catalogue's row as ``network``.
    """
    if PUBLISHED in (str(weights), str(postprocess)):
        raise UsageError("build works offline", hint=f"netferry zoo pull {name} -o {target} fetches published weights")
    model = load(name, num_classes, weights, seed=seed, variant=variant, front_end=front_end, postprocess=postprocess)
    made = {"seed": seed} if weights is None else {"weights": str(weights)}
    return {"network": show(name), **made, **save(model, target, check=check, opset=opset)}


def pull(
    name: str,
    *,
    variant: str | None = None,
    cache: StrPath | None = None,
    mirrors: Sequence[str] = (),
    file: StrPath | None = None,
    output: StrPath | None = None,
    front_end: bool = False,
    postprocess: StrPath | None = None,
    check: bool = True,
    refresh: bool = False,
    progress: Any = None,
) -> dict[str, Any]:
    """Bring the published weights of a network into the cache, and check that they are its weights.

    Args:
        variant: which of the network's publications; by default one that is in the cache, else the first that can be
            had (for a ``file`` the one of its format).
        cache: folder, instead of the platform's (``NETFERRY_CACHE`` names another one too).
        mirrors: addresses that serve the same file, tried before the official one; one that ends in ``/`` is a folder.
        file: weights fetched by hand, taken instead of a download.
        output: write the network with them as ONNX here.
        front_end, postprocess: see :func:`load`; ``"published"`` is fetched without ``output``, too.
        check: read the network with its weights before they count as pulled.
        refresh: fetch again what is in the cache. Without it, weights of which nobody publishes a checksum are refused
            where they are others than those that came first.
        progress: called with (bytes so far, bytes in all or None).

    Returns:
        ``file`` in the cache, ``variant`` (of ``variants``), ``bytes``, ``sha256``, ``source`` (where it came from),
        ``checked_by`` and ``checksum`` (what vouched for it), ``passed_over`` (why earlier variants could not be had),
        and what was ``written``.

    Raises:
        DownloadFailed: no address gave a whole and right file.
        NetferryError: the file is not the network's weights.
    """
    from netferry.zoo.catalogue import entry

    result = _brought(
        name, variant, cache, {"mirrors": mirrors, "file": file, "progress": progress, "refresh": refresh}, check
    )
    pulling = {"cache": cache, "mirrors": mirrors, "progress": progress, "refresh": refresh}
    if str(postprocess) == PUBLISHED:
        result["postprocess"] = postprocess = _second_file(entry(name), **pulling)
    if output is not None:
        found = entry(name, result["variant"])
        model = with_weights(found, Path(result["file"]))
        _finish(model, found, front_end, postprocess, pulling)
        result["written"] = save(model, output)
    return result


def _brought(
    name: str, variant: str | None, folder: StrPath | None, options: dict[str, Any], check: bool
) -> dict[str, Any]:
    """The record of a network's weights in the cache: of the first of its publications that can be had."""
    from netferry.zoo.cache import Cache
    from netferry.zoo.catalogue import entry

    found, here = entry(name, variant), Cache(folder)
    wanted = (found,) if variant is not None else found.variants
    if options["file"] is not None:
        wanted = wanted if variant is not None else (variant_of(found, Path(options["file"])),)
    elif not options["refresh"]:
        wanted = sorted(wanted, key=lambda each: here.find(each) is None)  # what is here already comes first
    failed: list[str] = []
    for number, each in enumerate(wanted, 1):
        try:
            result = here.bring(each, check=checker(each) if check else None, **options)
        except DownloadFailed as error:
            if len(wanted) == 1:
                raise
            failed.append(f"{each.variant}: {error.reason}")
            if number == len(wanted):
                raise DownloadFailed("\n".join(failed), hint=error.hint) from None
        else:
            known = {"variants": [v.variant for v in found.variants]} | ({"passed_over": failed} if failed else {})
            return result | known
    raise AssertionError("a network has a publication")
