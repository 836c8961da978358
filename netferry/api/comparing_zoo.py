"""``compare --zoo``: the zoo's networks by their published accuracy, the time they take here, and size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netferry.api import zoo
from netferry.api.comparing import place_of, written
from netferry.api.reading import StrPath
from netferry.api.remote import Transfers
from netferry.errors import UsageError
from netferry.schemas.publish import temporary_folder
from netferry.schemas.remote import plain_name


def compare_zoo(
    names: Sequence[str] = (),
    *,
    device: str = "auto",
    batch_size: int = 16,
    repeats: int = 20,
    threads: int | None = None,
    out: StrPath | None = None,
) -> dict[str, Any]:
    """Compare networks of the zoo without any data: accuracy is what was published, time is measured here.

    The networks are built with seeded weights, which take as long as trained ones, and timed one after the other, so
    that only one of them is in memory.

    Args:
        names: which; all that have a published accuracy where none is named.
        device, batch_size, repeats, threads, out: see :func:`netferry.api.compare`.

    Returns:
        As :func:`netferry.api.compare`, with ``top1`` published and ``accuracy_from`` saying so.

    Raises:
        UsageError: fewer than two networks, one that the zoo does not have, or one without a published accuracy.
    """
    from netferry.runtime.plots import require_matplotlib
    from netferry.runtime.session import Session
    from netferry.runtime.timing import memory_of, time_side_by_side
    from netferry.zoo.catalogue import entries, entry

    chosen = [entry(n) for n in names] if names else [e for e in entries().values() if e.top1 is not None]
    if len(chosen) < 2:
        raise UsageError("compare takes two networks or more")
    if without := [e.name for e in chosen if e.top1 is None]:
        raise UsageError(f"no accuracy is published of {', '.join(without)}")
    place = place_of(out if out is None else plain_name(out))
    if place is not None and place.suffix not in (".json", ".csv"):
        require_matplotlib()
    rows: list[dict[str, Any]] = []
    used = device
    for row in chosen:
        with temporary_folder() as folder:
            path = Path(folder) / f"{row.name}.onnx"
            zoo.build(row.name, path, check="structure")
            memory = memory_of(path, device, batch_size)
            session = Session(path, device, threads)
            timing = time_side_by_side([session], batch_size, repeats)[0]
            used = session.device
            rows.append(
                {"name": row.name, "file": row.url or row.home, "top1": (row.top1 or 0.0) / 100,
                 "bytes": path.stat().st_size, "memory": memory, "seconds": timing["seconds"],
                 "spread": timing["spread"]}
            )  # fmt: skip
            del session
    fastest = min(row["seconds"] for row in rows)
    for row in rows:
        seconds = row.pop("seconds")
        row |= {"relative_time": seconds / fastest, "milliseconds": seconds * 1000}
    result: dict[str, Any] = {
        "models": rows, "batch_size": batch_size, "device": used, "repeats": repeats, "threads": threads,
        "data": [], "items": 0, "accuracy_from": "published, single crop",
    }  # fmt: skip
    if place is not None:
        with_threads = f", {threads} threads" if threads else ""
        note = (
            f"published single-crop accuracy on ImageNet; batch size {batch_size}, {used}{with_threads}, median of "
            f"{repeats} repeats; area: file size"
        )
        with Transfers() as files:
            place = place_of(files.output(out)) or place
            made = written(result, place, title="The zoo: published accuracy, time here and size", note=note)
            result["files"] = files.named(made)
    return result
