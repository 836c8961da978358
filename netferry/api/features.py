"""``features`` and ``merge_features``: activations of any layer, for any data, in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.predicting import as_onnx
from netferry.api.reading import StrPath
from netferry.api.remote import Transfers
from netferry.errors import UsageError
from netferry.schemas.remote import is_url, plain_name, shown

if TYPE_CHECKING:
    from netferry.converters.onnx.cut import Cut
    from netferry.runtime.data import Data
    from netferry.runtime.data.sources import Spec
    from netferry.runtime.features.extract import Extractor
    from netferry.schemas.model import Model


BESIDE = (".json", ".rows.csv")
"""how the names of files that belong to a file of features go on"""


def features(
    source: StrPath | Model,
    data: Spec | Iterable[Spec] | Data,
    output: StrPath,
    *,
    layers: Sequence[str],
    pool: str = "avg",
    weights: StrPath | None = None,
    shard: str | None = None,
    restart: bool = False,
    ray: str | None = None,
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
    """Write the values of layers for all items of the data.

    Only the part of the network up to these layers is computed, in one pass; the file of the network is not changed. A
    run that was killed goes on where it stopped when it is started again.

    Args:
        source: an ONNX file, a file of another format (converted in memory), or a model.
        data: what :func:`netferry.open_data` takes, or gives.
        output: ``.npz``, ``.npy`` (one layer), ``.parquet`` or ``.h5``; ``OUTPUT.json`` tells what was computed. Like
            the other files here it may be a URL (s3, gs, http, file).
        layers: names of the source's layers; a beginning (``fire9``) means its last layer (``fire9/concat``).
        pool: ``avg``, ``max`` (one number per channel), ``flatten``, or ``none``.
        shard: ``i/n``: only this part of the items; :func:`merge_features` puts the parts together.
        restart: throw an unfinished run away.
        ray: address of a Ray cluster (``auto``, ``local``): one session per worker there.
        device: auto, cpu, cuda …
        batch_size: items in one run of the network.
        threads: of one run of the network on the processor; onnxruntime's choice where None.
        workers: threads that decode; with ``ray`` the number of workers.
        on_error: ``fail`` at an item that cannot be read, or ``skip`` it.
        recipe: fields of the preprocessing to change (``{"crop": (224, 224)}``).
        data_options: further arguments of :func:`netferry.open_data`.
        progress: called with the number of items done since the last call.

    Returns:
        The manifest: layers with shapes, rows, items skipped; ``device``, ``provider`` and ``notes`` of the run.

    Raises:
        UsageError: no such layer, pool or format; an unfinished run with other settings lies there.
        InputError, FormatError: an item cannot be read.
        OutputError: the file cannot be written.
    """
    from netferry.runtime.data.item import Shard
    from netferry.runtime.features.extract import extract
    from netferry.runtime.features.parts import Parts, folder_of
    from netferry.runtime.features.write import check_output, write

    if not layers:
        raise UsageError("name at least one layer", hint="netferry inspect MODEL lists them")
    part = Shard.parse(shard)
    check_output(plain_name(output), list(dict.fromkeys(layers)))
    with Transfers() as files, as_onnx(files.input(source), files.input(weights), files.options(reading)) as path:
        out = Path(files.output(output, resumable=True))
        _refuse_other_shard(out, part)
        piece, extractor = extractor_of(path, layers, pool, device, recipe, threads=threads)
        items = opened(files.inputs(data), extractor.feed.session.inputs, data_options).part(part)
        plan = {
            "model": {
                "file": plain_name(source).name if isinstance(source, str | Path) else "model.onnx",
                "sha256": model_hash(path),
            },
            "asked": [tap.asked for tap in piece.taps],
            "from": {tap.layer: {"type": tap.type, "value": tap.value} for tap in piece.taps},
            "pool": pool,
            "preprocessing": extractor.feed.recipe.as_dict() if extractor.feed.picture is not None else None,
            "data": files.named(items.names),
            "data_options": {k: shown(v) if is_url(v) else v for k, v in (data_options or {}).items() if v is not None},
            "batch": batch_size,
            "shard": str(part),
        }
        names = [layer.name for layer in extractor.layers]
        parts = Parts(folder_of(out, str(part).replace("/", "-of-")), plan, names, restart=restart)
        try:
            if ray is None:
                extract(extractor, items, parts, batch_size, workers=workers, on_error=on_error, progress=progress)
            else:
                from netferry.runtime.features.cluster import extract_on_ray

                extract_on_ray(
                    ray, piece.whole(), extractor, items, parts, batch_size,
                    device=device, workers=workers, on_error=on_error, progress=progress,
                )  # fmt: skip
            write(parts, out, plan)
        except BaseException:
            parts.leave()
            raise
        parts.remove()
        written = _read(out)
    session, feed = extractor.feed.session, extractor.feed
    run = {"device": session.device, "provider": session.provider, "preprocessing_from": feed.recipe_from}
    found = {"output": str(output), **written, **run, "nodes": [piece.nodes, piece.of_nodes], "notes": feed.notes}
    return files.named(found)


def merge_features(files: Sequence[StrPath], output: StrPath) -> dict[str, Any]:
    """Put the shards of a run together: the file is the one that a run without shards would have written.

    Raises:
        UsageError: shards of different runs, one twice, or one missing.
        InputError, MalformedFile, OutputError: a file cannot be read, or the output not be written.
    """
    from netferry.runtime.features.read import merge

    with Transfers() as transfers:
        local = [Path(f) for f in transfers.inputs(list(files), BESIDE)]
        return transfers.named({"output": str(output), **merge(local, Path(transfers.output(output)))})


def open_data(spec: Spec | Iterable[Spec], **options: Any) -> Data:
    """Return the items of folders, patterns, indexes, tars and arrays; see :func:`netferry.runtime.data.open_data`."""
    from netferry.runtime.data import open_data as opens

    return opens(spec, **options)


def opened(data: Spec | Iterable[Spec] | Data, inputs: Iterable[Any], options: Mapping[str, Any] | None) -> Data:
    """The data as it is, or opened for a network with these inputs."""
    from netferry.runtime.data import Data
    from netferry.runtime.data import open_data as opens

    if isinstance(data, Data):
        return data
    return opens(
        data, inputs=[port.name for port in inputs], **{k: v for k, v in (options or {}).items() if v is not None}
    )


def extractor_of(
    path: Path,
    layers: Sequence[str],
    pool: str,
    device: str,
    recipe: Mapping[str, Any] | None = None,
    *,
    threads: int | None = None,
) -> tuple[Cut, Extractor]:
    """A session on the part of an ONNX file that computes the layers."""
    from netferry.converters.onnx.cut import cut
    from netferry.runtime.features.extract import Extractor, Layer
    from netferry.runtime.feed import Feed
    from netferry.runtime.session import Session

    piece = cut(path, layers)
    session = Session(piece.model, device, threads, weights_folder=piece.folder, spin=False)
    found: dict[str, Layer] = {}
    for tap in piece.taps:
        found.setdefault(tap.layer, Layer(tap.layer, tap.output, tap.channels_last, tap.any_rank))
    return piece, Extractor(Feed(session, changes=dict(recipe or {})), list(found.values()), pool)


def model_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_other_shard(out: Path, part: Any) -> None:
    """A finished shard is not overwritten by another one."""
    known = _read(out).get("shard")
    if (
        os.path.exists(out)
        and isinstance(known, str)
        and known.partition("/")[2] not in ("", "1")
        and known != str(part)
    ):
        raise UsageError(
            f"shard {known} of a run is in this file, this would be shard {part}",
            file=out,
            hint="give each shard an output of its own: -o features-1.npz, -o features-2.npz",
        )


def _read(out: Path) -> dict[str, Any]:
    import json

    try:
        found = json.loads(Path(f"{out}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
