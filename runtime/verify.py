"""Does a written model run, and do two results agree?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.errors import CheckFailed, LimitExceeded, quoted
from netferry.runtime.budget import Budget
from netferry.runtime.session import Port, Session
from netferry.runtime.values import Keys, element_of, made, shown

_TIME_NAMES = ("time", "sequence", "steps", "seq", "length", "frames")
_STEPS, _PIXELS, _OTHER = 5, 32, 2
_BATCH_NAMES = ("batch", "batch_size", "batchsize", "n")


def run_check(
    path: str | os.PathLike[str] | bytes,
    batches: Sequence[int] = (1, 3),
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    *,
    weights_folder: str | os.PathLike[str] | None = None,
    budget: Budget | None = None,
    insist: bool = False,
    declare: Callable[[Sequence[Port]], Sequence[Port]] = tuple,
) -> dict[str, Any]:
    """Load a model in onnxruntime on the processor and run it on seeded inputs.

    A model given as bytes may keep its weights in files of ``weights_folder``.

    Every size in ``batches`` is run where an input has a dynamic batch, else the model is run once. Dynamic
    dimensions get: the one called batch (or N; else the first, unless it is a time) the batch size; names of time
    (time, sequence, ...) 5; height and width 32 (in an
    input of rank 4 also unnamed ones); any other 2. ``sizes`` overrides by name. Floats are drawn from
    [0, 1), integers are 0 or 1, bools mixed, strings empty.

    A model with an input that is no tensor of a type of numpy's (a sequence, a map) is loaded and not run; a warning
    says so.

    Values that are NaN or infinite are no failure, as a valid net may give them (Log of 0, weights that hold NaN):
    they are counted and named in ``warnings``.

    A run that takes more than ``budget`` is given up: a warning says so, or ``insist`` makes it an error. ``declare``
    may know more of the inputs' sizes than the file says.

    Returns:
        JSON-ready facts: ``provider``, ``warnings``, and ``runs``: per run the batch, the inputs' shapes and per
        output shape, type, least and largest finite value, and how many values are not finite.

    Raises:
        CheckFailed: the model does not load or run, or its outputs do not have the declared element type, rank or
            dimensions, or do not follow the batch.
        LimitExceeded: with ``insist``: a run takes more than the budget.
        InputError, MalformedFile, MissingExtra: as :class:`netferry.runtime.session.Session`.
    """
    session = Session(path, "cpu", weights_folder=weights_folder, once=True, budget=budget or Budget())
    unfed = [port for port in session.inputs if port.numpy is None]
    if unfed:
        told = f"only loaded, not run: no values are made for the input {unfed[0]}"
        return {"provider": session.provider, "runs": [], "warnings": [told]}
    inputs = declare(session.inputs)
    dynamic = any(_takes_batch(p, axis) for p in inputs for axis in range(len(p.shape)))
    wanted = batches if dynamic else (None,)
    runs: list[dict[str, Any]] = []
    given_up: list[str] = []
    for batch in wanted:
        try:
            runs.append(_run(session, inputs, batch, seed, sizes or {}))
        except LimitExceeded as error:
            if insist:
                raise
            given_up = [f"not run{f' at batch {batch}' if batch is not None else ''}: {error.reason}"]
            break
    warnings = [w for run in runs for w in run.pop("warnings")] + given_up
    return {"provider": session.provider, "runs": runs, "warnings": list(dict.fromkeys(warnings))}


def seeded_inputs(
    inputs: Sequence[Port],
    batch: int | None,
    seed: int,
    sizes: Mapping[str, int] | None = None,
    *,
    signed: bool = False,
    highs: Mapping[str, int] | None = None,
    keys: Keys | None = None,
) -> dict[str, Any]:
    """Return values for the inputs, as :func:`run_check` feeds them; equal arguments give equal values.

    Args:
        signed: draw floats from [-1, 1) instead of [0, 1), and leave optional inputs out (None).
        highs: inputs whose values are whole numbers from 0 to below a bound (indices into a table), by name.
        keys: what the keys of inputs that are maps may be, by name.

    Raises:
        UsageError: an input is of a type that no values are known for.
        LimitExceeded: one would need too many.
    """
    known = _named_sizes(inputs, batch, sizes or {})
    feeds: dict[str, Any] = {}
    for number, port in enumerate(inputs):
        shape: list[int] = []
        for axis, dim in enumerate(port.shape):
            unnamed = batch if batch is not None and _takes_batch(port, axis) else _free_size(port, axis)
            shape.append(dim if isinstance(dim, int) else known[dim] if dim is not None else unnamed)
        rng = np.random.default_rng([seed, number])
        values = made(port, shape, rng, absent=signed, keys=keys or {})
        if highs and port.name in highs and isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
            values = rng.integers(0, highs[port.name], shape).astype(values.dtype)
        elif signed:
            values = _signed(values, port.dtype)
        feeds[port.name] = values
    return feeds


def _signed(values: Any, kind: str) -> Any:
    """Floats of [0, 1) as such of [-1, 1)."""
    if isinstance(values, list):
        return [_signed(value, kind) for value in values]
    if not isinstance(values, np.ndarray) or ("float" not in element_of(kind) and element_of(kind) != "double"):
        return values
    if element_of(kind) == "float8e8m0":  # has no sign
        return values
    return (values.astype(np.float32) * 2 - 1).astype(values.dtype)


def compare(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return how far two sets of outputs are apart, by name.

    For each: ``max_abs``, the largest difference; ``max_rel``, that over the largest magnitude in ``b`` (the
    reference; 0 where both are all zero); ``shape``; ``differing``, how many elements are not equal. NaN equals NaN
    and infinities equal themselves; where only one of the two is such a value, both differences are infinite.

    Raises:
        CheckFailed: names, shapes or kinds of values differ.
    """
    if set(a) != set(b):
        only = sorted(set(a) ^ set(b))
        raise CheckFailed(f"outputs on one side only: {', '.join(quoted(n) for n in only[:8])}")
    return {name: _difference(name, plain(a[name]), plain(b[name])) for name in a}


def plain(value: Any) -> np.ndarray:
    """An output as one array: of a sequence of maps (what ZipMap gives) the numbers by key, of arrays all in a row."""
    if not isinstance(value, (list, dict)):
        return np.asarray(value)
    items: list[Any] = [value] if isinstance(value, dict) else value
    if items and all(isinstance(item, dict) and item.keys() == items[0].keys() for item in items):
        return np.array([[item[key] for key in sorted(item)] for item in items])
    if items and all(isinstance(item, np.ndarray) for item in items):
        same = len({item.shape for item in items}) == 1
        return np.stack(items) if same else np.concatenate([item.ravel() for item in items])
    return np.array([str(item) for item in items])


def _difference(name: str, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    if a.shape != b.shape:
        raise CheckFailed(f"output {quoted(name)}: shapes {list(a.shape)} and {list(b.shape)}")
    if (a.dtype.kind in "OUS") != (b.dtype.kind in "OUS"):
        raise CheckFailed(f"output {quoted(name)}: {a.dtype} and {b.dtype}")
    if a.dtype.kind in "OUS":
        differing = int((a != b).sum())
        worst = float("inf") if differing else 0.0
        return {"shape": list(a.shape), "max_abs": worst, "max_rel": worst, "differing": differing}
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    x, y = a.astype(wide), b.astype(wide)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(x - y))
    distance[np.isnan(distance)] = np.inf
    largest = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    worst = float(distance.max(initial=0.0))
    relative = 0.0 if worst == 0 else worst / largest if largest else float("inf")
    return {"shape": list(a.shape), "max_abs": worst, "max_rel": relative, "differing": int((~same).sum())}


def _takes_batch(port: Port, axis: int) -> bool:
    """Whether a dimension is the batch: called so, or the first one where that is not called a time."""
    dim = port.shape[axis]
    if isinstance(dim, int):
        return False
    names = [d.lower() if isinstance(d, str) else "" for d in port.shape]
    if names[axis] in _BATCH_NAMES:
        return True
    return axis == 0 and not _is_time(names[0]) and not any(n in _BATCH_NAMES for n in names)


def _is_time(name: str) -> bool:
    return any(t in name for t in _TIME_NAMES)


def _named_sizes(inputs: Sequence[Port], batch: int | None, sizes: Mapping[str, int]) -> dict[str, int]:
    """Size of every named dimension of the inputs."""
    known: dict[str, int] = {}
    for port in inputs:
        for axis, dim in enumerate(port.shape):
            if not isinstance(dim, str) or dim in known:
                continue
            plain = dim.lower()
            if batch is not None and _takes_batch(port, axis):
                known[dim] = batch
            else:
                known[dim] = _STEPS if _is_time(plain) else _free_size(port, axis)
    return {**known, **sizes}


def free_sizes(inputs: Sequence[Port]) -> dict[str, int]:
    """Return the named dimensions that are no batch, with the sizes that :func:`run_check` gives them."""
    batches = {p.shape[axis] for p in inputs for axis in range(len(p.shape)) if _takes_batch(p, axis)}
    return {name: size for name, size in _named_sizes(inputs, None, {}).items() if name not in batches}


def _is_pixels(dim: int | str | None) -> bool:
    return isinstance(dim, str) and (dim.lower() in ("h", "w") or "height" in dim.lower() or "width" in dim.lower())


def _free_size(port: Port, axis: int) -> int:
    """Size of a dynamic dimension that is neither batch nor time: pixels by name, or by place in a picture of which
    no dimension has such a name; else 2."""
    if any(_is_pixels(d) for d in port.shape):
        return _PIXELS if _is_pixels(port.shape[axis]) else _OTHER
    if len(port.shape) != 4 or any(isinstance(d, str) and _is_time(d.lower()) for d in port.shape):
        return _OTHER
    places = (1, 2) if isinstance(port.shape[3], int) and not isinstance(port.shape[1], int) else (2, 3)
    return _PIXELS if axis in places else _OTHER


def _run(
    session: Session, inputs: Sequence[Port], batch: int | None, seed: int, sizes: Mapping[str, int]
) -> dict[str, Any]:
    feeds = seeded_inputs(inputs, batch, seed, sizes)
    known = _named_sizes(inputs, batch, sizes)
    try:
        results = session.run(feeds)
    except CheckFailed as error:
        fed = ", ".join(f"{quoted(n)} {shown(v)}" for n, v in feeds.items())
        raise CheckFailed(f"{error.reason}; fed with {fed}", file=session.file) from error
    outputs = [_checked(session, port, results[port.name], known) for port in session.outputs]
    warnings = [
        f"output {quoted(o['name'])} has values that are NaN or infinite" for o in outputs if o.get("not_finite")
    ]
    shapes = {n: list(v.shape) for n, v in feeds.items()}
    return {"batch": batch, "inputs": shapes, "outputs": outputs, "warnings": warnings}


def _checked(session: Session, port: Port, value: Any, known: Mapping[str, int]) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        return {"name": port.name, "type": port.dtype}  # a sequence, a map, or an optional that is absent
    wrong = None
    if port.numpy is not None and value.dtype != port.numpy and value.dtype.kind not in "OUS":
        wrong = f"is of {value.dtype}, declared {port.dtype}"
    elif port.shape and not _as_declared(value.shape, port.shape, known):
        wrong = f"has shape {list(value.shape)}, declared {port}"
    if wrong is not None:
        raise CheckFailed(f"output {quoted(port.name)} {wrong}", file=session.file, layer=port.name)
    facts: dict[str, Any] = {"name": port.name, "type": str(value.dtype), "shape": list(value.shape)}
    if value.dtype.kind == "f":
        finite = np.isfinite(value)
        facts["not_finite"] = int(value.size - finite.sum())
        if finite.any():
            facts["min"], facts["max"] = float(value[finite].min()), float(value[finite].max())
    return facts


def _as_declared(shape: Sequence[int], wanted: Sequence[int | str | None], known: Mapping[str, int]) -> bool:
    """Whether fixed dimensions are as declared and named ones have the size that the inputs gave the name."""
    if len(shape) != len(wanted):
        return False
    sizes = [known.get(w) if isinstance(w, str) else w for w in wanted]
    return all(w is None or w == got for got, w in zip(shape, sizes, strict=True))
