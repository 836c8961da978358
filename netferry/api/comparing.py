"""``compare``: networks beside one another, by accuracy, time, size and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from netferry.api.evaluating import table
from netferry.api.predicting import as_onnx
from netferry.api.reading import StrPath, label_names
from netferry.api.remote import Transfers
from netferry.errors import UsageError
from netferry.schemas.publish import write_whole
from netferry.schemas.remote import plain_name


def compare(
    sources: Sequence[StrPath],
    *,
    data: StrPath | Sequence[StrPath] | None = None,
    labels: StrPath | Sequence[str] | None = None,
    crop: str = "model",
    crop_share: float = 0.875,
    device: str = "auto",
    batch_size: int = 16,
    repeats: int = 20,
    threads: int | None = None,
    out: StrPath | None = None,
    on_error: str = "fail",
    workers: int | None = None,
    data_options: Mapping[str, Any] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Compare networks: top-1 and top-5 accuracy, time relative to the fastest, size and memory.

    Times are medians over runs in turns, so that the machine's other work meets all networks alike; they are the
    network's alone, without decoding. Memory is what loading and one run add to a process of its own.

    Args:
        sources: two networks or more, each in one file of any format.
        data: labelled data for the accuracy (see :func:`evaluate` for it, ``labels``, ``crop``, ``crop_share``,
            ``on_error``, ``workers`` and ``data_options``); without it only time, size and memory are compared.
        device, batch_size, repeats, threads: how the times are taken.
        out: a folder for ``comparison.json``, ``.csv``, ``.png`` and ``.svg``; or a file with one of these suffixes.

    Returns:
        ``models``: per network ``name``, ``file``, ``top1``, ``top5``, ``relative_time``, ``milliseconds`` per item,
        ``spread``, ``bytes``, ``memory``; and ``batch_size``, ``device``, ``repeats``, ``data``, ``items``.

    Raises:
        UsageError: fewer than two networks, or networks that fix different batch sizes.
    """
    from netferry.api.features import opened
    from netferry.runtime.evaluate import crop_changes, evaluate
    from netferry.runtime.feed import Feed
    from netferry.runtime.plots import require_matplotlib
    from netferry.runtime.predict import Classifier
    from netferry.runtime.session import Session
    from netferry.runtime.timing import memory_of, time_side_by_side

    if len(sources) < 2:
        raise UsageError("compare takes two networks or more")
    place = place_of(out if out is None else plain_name(out))
    if place is not None and place.suffix not in (".json", ".csv"):
        require_matplotlib()
        if data is None and place.suffix:
            raise UsageError("the chart shows accuracy: it needs --data", file=place)
    many = [] if data is None else [data] if isinstance(data, (str, Path)) else list(data)
    names = _names(sources)
    rows: list[dict[str, Any]] = []
    items = 0
    with Transfers() as files, ExitStack() as stack:
        local, place = files.inputs(many), place_of(files.output(out))
        known = label_names(files.input(labels))
        paths = [stack.enter_context(as_onnx(files.input(source), None, files.options(reading))) for source in sources]
        sessions = [Session(path, device, threads) for path in paths]
        for name, source, path, session in zip(names, sources, paths, sessions, strict=True):
            row: dict[str, Any] = {"name": name, "file": str(source)}
            if many:
                changes = crop_changes(crop, Feed(session), crop_share)
                classifier = Classifier(session, labels=known, changes=changes)
                found = evaluate(session, opened(local, session.inputs, data_options), classifier=classifier,
                                 batch=batch_size, worst=0, on_error=on_error, workers=workers)  # fmt: skip
                items = found.count
                row |= {f"top{k}": v for k, v in found.top.items()} | {"ece": found.calibration["ece"]}
            row["bytes"] = _size(path)
            row["memory"] = memory_of(path, session.device, batch_size)
            rows.append(row)
        timed = time_side_by_side(sessions, batch_size, repeats)
        device = sessions[0].device
        if len({t["batch"] for t in timed}) > 1:
            fixed = ", ".join(f"{n}: {t['batch']}" for n, t in zip(names, timed, strict=True))
            raise UsageError(f"the networks fix different batch sizes ({fixed})", hint="convert with --batch dynamic")
        fastest = min(t["seconds"] for t in timed)
        for row, timing in zip(rows, timed, strict=True):
            row["relative_time"] = timing["seconds"] / fastest
            row["milliseconds"] = timing["seconds"] * 1000
            row["spread"] = timing["spread"]
        result: dict[str, Any] = files.named({
            "models": rows, "batch_size": timed[0]["batch"], "device": device, "repeats": repeats, "threads": threads,
            "data": [str(d) for d in many], "items": items, "crop": crop,
        })  # fmt: skip
        if place is not None:
            drawn = {"title": "Accuracy, time and size", "note": note(result)} if result["data"] else {}
            result["files"] = files.named(written(result, place, **drawn))
    return result


_KINDS = (".json", ".csv", ".png", ".svg", ".pdf")


def place_of(out: StrPath | None) -> Path | None:
    """Where a comparison is to be written.

    Raises:
        UsageError: a file of no kind that it has.
    """
    place = None if out is None else Path(out)
    if place is not None and place.suffix not in ("", *_KINDS):
        raise UsageError(f"a comparison is a folder or a {', '.join(_KINDS)} file", file=place)
    return place


def _names(sources: Sequence[StrPath]) -> list[str]:
    """What to call each: its file's name, with its folder's where two have the same."""
    stems = [plain_name(source).stem for source in sources]
    names = [f"{Path(s).parent.name}/{n}" if stems.count(n) > 1 else n for s, n in zip(sources, stems, strict=True)]
    return [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]


def _size(path: Path) -> int:
    """Bytes of a model's file and of the weights in files beside it."""
    import onnx

    names = set()
    if path.stat().st_size < 1 << 31:
        proto = onnx.load(path, load_external_data=False)
        names = {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}
    beside = [path.parent / name for name in names]
    return path.stat().st_size + sum(file.stat().st_size for file in beside if file.is_file())


def written(result: dict[str, Any], place: Path, *, title: str = "", note: str = "") -> list[str]:
    """Write a comparison as table and chart (with a ``title``; there is none without accuracies); returns the files."""
    wanted = [place] if place.suffix else [place / f"comparison{k}" for k in (".json", ".csv", ".png", ".svg")]
    done: list[str] = []
    for file in wanted:
        if file.suffix == ".json":
            write_whole(file, json.dumps(result, indent=2) + "\n")
        elif file.suffix == ".csv":
            rows = result["models"]
            write_whole(file, table([list(rows[0]), *(list(row.values()) for row in rows)]))
        elif title:
            from netferry.runtime.charts import comparison_chart
            from netferry.runtime.plots import write_figure

            write_figure(comparison_chart(chart_rows(result), title=title, note=note), file)
        else:
            continue
        done.append(str(file))
    return done


def chart_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows as the chart takes them."""
    return [{**row, "accuracy": row["top1"]} for row in result["models"]]


def note(result: dict[str, Any]) -> str:
    """How it was measured, in one line."""
    threads = f", {result['threads']} threads" if result["threads"] else ""
    data = Path(result["data"][0]).name if result["data"] else ""
    return (
        f"batch size {result['batch_size']}, {result['device']}{threads}, median of {result['repeats']} repeats; "
        f"{result['items']} items of {data}, crop {result['crop']}; area: file size"
    )
