"""``export``: a network as PyTorch source, or as a program of torch.export."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, load
from netferry.api.training import require_torch, to_torch
from netferry.errors import CheckFailed, OutputError, UsageError, quoted

if TYPE_CHECKING:
    import numpy as np

    from netferry.schemas.model import Model

TARGETS = ("torch-source", "torch-export")
TOLERANCE = 1e-5
"""largest difference allowed, over the largest value of an output"""


def export(
    source: StrPath | Model,
    target: StrPath,
    weights: StrPath | None = None,
    *,
    to: str,
    check: str = "auto",
    sizes: dict[str, int] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Write a network for use without netferry.

    Args:
        source: a model, or a file that :func:`netferry.load` reads.
        target: ``torch-source``: a folder, which gets ``model.py`` and ``weights.safetensors``; ``torch-export``: a
            ``.pt2`` file.
        weights: the second file, for formats that have one.
        to: ``torch-source``: one readable class in plain torch, with its weights beside; ``torch-export``: a program
            of ``torch.export``, batch and other named dimensions dynamic.
        check: ``auto`` runs what was written beside the graph (on onnxruntime where it is installed, else as a torch
            module) on seeded inputs at batch 1 and 3; ``none`` leaves that out.
        sizes: sizes of named dimensions for the check.

    Returns:
        ``target``, ``files`` with their sizes, and ``check``: per output the largest difference.

    Raises:
        CheckFailed: what was written gives other outputs; nothing is left behind then.
        NetferryError: as :func:`netferry.load` and :func:`netferry.to_torch`.
    """
    from netferry.schemas.model import Model as Loaded

    if to not in TARGETS:
        raise UsageError(f"to is one of {', '.join(TARGETS)}, not {to!r}")
    if check not in ("auto", "none"):
        raise UsageError(f"check is auto or none, not {check!r}")
    require_torch()
    model = source if isinstance(source, Loaded) else load(source, weights, **reading)
    path = Path(target)
    if to == "torch-source" and os.path.exists(path) and not os.path.isdir(path):
        raise OutputError("is a file; --to torch-source writes a folder", file=path)
    if to == "torch-export" and path.suffix != ".pt2":
        raise UsageError(f"a program of torch.export is a .pt2 file, not {quoted(path.name)}")
    home = path if to == "torch-source" else path.parent
    try:
        made_folders = _make(home)
        with tempfile.TemporaryDirectory(prefix=".netferry-", dir=home) as folder:
            write = _source if to == "torch-source" else _program
            files, run = write(model, Path(folder) / path.name if to == "torch-export" else Path(folder), sizes)
            found = {} if check == "none" else _compare(model, run, sizes)
            kept = [file.replace(home / file.name) for file in files]
    except BaseException as error:
        for made in reversed(locals().get("made_folders") or ()):
            if not any(made.iterdir()):
                made.rmdir()
        if isinstance(error, OSError):
            raise OutputError(f"cannot be written: {error.strerror}", file=path) from None
        raise
    rows = [{"file": str(file), "bytes": file.stat().st_size} for file in kept]
    return {"target": to, "files": rows, "check": found}


def _make(folder: Path) -> list[Path]:
    """Make the folders that are missing; returns them."""
    made = []
    for parent in reversed([folder, *folder.parents]):
        if not os.path.isdir(parent):
            parent.mkdir()
            made.append(parent)
    return made


Run = Callable[["dict[str, np.ndarray]"], "list[Any]"]


def _source(model: Model, folder: Path, sizes: dict[str, int] | None) -> tuple[list[Path], Run]:
    from netferry.runtime.torch.source.write import read_source, write_source

    del sizes
    module = to_torch(model).eval()
    unsigned = any(
        v.dtype is not None and v.dtype.name in ("UINT16", "UINT32", "UINT64")
        for node in model.nodes()
        for v in [*node.inputs, *node.outputs]
        if v is not None
    )
    files = write_source(module, folder, model.graph.name or "Network", _about(model), unsigned=unsigned)

    def run(feeds: dict[str, np.ndarray]) -> list[Any]:
        return _call(read_source(folder), feeds)

    return files, run


def _program(model: Model, file: Path, sizes: dict[str, int] | None) -> tuple[list[Path], Run]:
    import torch

    from netferry.runtime.torch.facts import torch_values
    from netferry.runtime.torch.program import program_of, write_program

    example = [torch_values(x) for x in _feeds(model, 3, sizes).values()]
    program = program_of(to_torch(model), example, [i.shape for i in model.inputs])
    write_program(program, file)

    def run(feeds: dict[str, np.ndarray]) -> list[Any]:
        return _call(torch.export.load(file).module(), feeds)

    return [file], run


def _call(module: Any, feeds: dict[str, np.ndarray]) -> list[Any]:
    import torch

    from netferry.runtime.torch.facts import torch_values

    with torch.no_grad():
        made = module(*(torch_values(x) for x in feeds.values()))
    return list(made) if isinstance(made, (tuple, list)) else [made]


def _feeds(model: Model, batch: int, sizes: dict[str, int] | None) -> dict[str, np.ndarray]:
    from netferry.runtime.session import Port
    from netferry.runtime.verify import seeded_inputs
    from netferry.runtime.vocabulary import declared

    ports = [Port(i.name, i.dtype, i.shape or ()) for i in model.inputs]
    return seeded_inputs(declared(ports, model), batch, 0, sizes)


def _compare(model: Model, run: Run, sizes: dict[str, int] | None) -> dict[str, Any]:
    """Run both sides at batch 1 and 3; returns the largest relative difference of each output."""
    import numpy as np

    from netferry.runtime.verify import compare

    worst: dict[str, float] = {}
    names = [o.name for o in model.outputs]
    reference, judge = _reference(model)
    for batch in (1, 3) if any(not isinstance(d, int) for i in model.inputs for d in i.shape or ()) else (1,):
        feeds = _feeds(model, batch, sizes)
        wanted = reference(feeds)
        try:
            results = run(feeds)
        except Exception as error:  # whatever torch raises, from wherever
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise CheckFailed(f"what was written does not run at batch {batch}: {quoted(words, 300)[1:-1]}") from error
        made = dict(zip(names, map(_array, results), strict=True))
        arrays = {k: v for k, v in wanted.items() if isinstance(v, np.ndarray)}
        for name, row in compare({k: v for k, v in made.items() if k in arrays}, arrays).items():
            worst[name] = max(worst.get(name, 0.0), row["max_rel"])
    bad = {name: apart for name, apart in worst.items() if not apart <= TOLERANCE}
    if bad:
        name = max(bad, key=lambda n: bad[n])
        raise CheckFailed(f"output {quoted(name)} is off by {bad[name]:.2g} of its largest value, beside {judge}")
    return {"beside": judge, "max_rel": worst}


def _array(x: Any) -> Any:
    if not hasattr(x, "detach"):
        return x
    import torch

    return x.detach().float().numpy() if x.dtype is torch.bfloat16 else x.detach().numpy()


def _reference(model: Model) -> tuple[Callable[[dict[str, np.ndarray]], dict[str, Any]], str]:
    """What the outputs have to be: onnxruntime's, where it is there and runs the graph; else the torch module's."""
    from importlib.util import find_spec

    names: Sequence[str] = [o.name for o in model.outputs]
    if find_spec("onnxruntime") is not None:
        from netferry.api.saving import save
        from netferry.runtime.session import Session

        with tempfile.TemporaryDirectory(prefix="netferry-") as folder:
            save(model, Path(folder) / "net.onnx", check="structure")
            session = Session(Path(folder) / "net.onnx", "cpu", once=True, as_written=True)
        return lambda feeds: dict(session.run(feeds)), "onnxruntime"
    module = to_torch(model).eval()
    return lambda feeds: dict(zip(names, map(_array, _call(module, feeds)), strict=True)), "the torch module"


def _about(model: Model) -> list[str]:
    """The docstring of the written file."""
    from netferry.errors import quoted

    def line(info: Any) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in info.shape or ())
        return f"    {quoted(info.name)[1:-1]}: {info.dtype}[{quoted(dims)[1:-1]}]"

    name = quoted(model.graph.name or "network", 80)[1:-1]
    lines = [
        f"{name}, written by netferry from {model.source.format}.", "", "    from model import load", "",
        "    network = load()  # reads weights.safetensors beside this file", "", "Inputs:", *map(line, model.inputs),
        "Outputs:", *map(line, model.outputs),
    ]  # fmt: skip
    if model.preprocessing:
        lines += ["Preprocessing:"]
        lines += [f"    {quoted(k)[1:-1]}: {quoted(v.as_dict(), 1000)[1:-1]}" for k, v in model.preprocessing.items()]
    return lines
