"""A module as a program of torch.export (.pt2): a graph of torch's own operators, with the weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from netferry.errors import UnsupportedError, UsageError, quoted


def program_of(
    module: nn.Module, inputs: Sequence[Tensor], shapes: Sequence[Sequence[int | str | None] | None]
) -> torch.export.ExportedProgram:
    """Trace a module in eval mode; named dimensions of ``shapes`` stay dynamic.

    Args:
        module: the module.
        inputs: an example of each input.
        shapes: per input its dimensions: a number is fixed, a name (or None, unknown) any size.

    Raises:
        UnsupportedError: torch.export cannot follow what the network computes; the reason ends with its own words.
    """
    auto = torch.export.Dim.AUTO
    dynamic = [
        None if shape is None else {i: auto for i, d in enumerate(shape) if not isinstance(d, int)} for shape in shapes
    ]
    return _program(module, tuple(inputs), {}, tuple(dynamic))


def program_by_example(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any = None
) -> torch.export.ExportedProgram:
    """Trace a module in eval mode; by default the first axis of every tensor stays dynamic, the batch.

    Or the second where tracing fixes the first. Where parts of the module take time first (``batch_first=False``), as
    recurrent modules and attention do unless told otherwise, both stay dynamic where both can.

    Args:
        module: the module.
        args: what it is called with: tensors, or tuples, lists and dicts of them.
        kwargs: the same by names of parameters; there is nothing in ``args`` then.
        dynamic_shapes: for each tensor, nested as they are, names of its dynamic axes (``{0: "batch", 1: "time"}``;
            dimensions of one name have one size; a ``torch.export.Dim`` gives bounds too) or None, in the place of the
            default.

    Raises:
        UsageError: ``dynamic_shapes`` has another structure than the inputs, or names axes that are not there.
        UnsupportedError: as :func:`program_of`; a dimension of ``dynamic_shapes`` cannot be dynamic.
    """
    given = kwargs or args
    if dynamic_shapes is not None:
        dims = _dims(given, dynamic_shapes)
        axes = _matched(given, dynamic_shapes, lambda _, said: {i: dims[_name(n)] for i, n in (said or {}).items()})
        return _traced(module, args, kwargs, axes)
    choices: list[tuple[int, ...]] = [(0,), (1,)]
    if any(getattr(part, "batch_first", True) is False for part in module.modules()):
        choices.insert(0, (0, 1))
    by_first: torch.export.ExportedProgram | UnsupportedError | None = None
    for axes in choices:
        try:
            program = _traced(module, args, kwargs, _axes(given, axes))
        except UnsupportedError as error:
            by_first = error if axes == (0,) else by_first
            continue
        free = [any(not _fixed(x.shape[i]) for i in axes if i < x.dim()) for x in _inputs(program) if x.dim()]
        if all(free) or (any(free) and axes == (0,)):
            return program
        by_first = program if axes == (0,) else by_first
    if isinstance(by_first, UnsupportedError):
        by_first.hint = "dynamic_shapes says which axes of the inputs are dynamic"
        raise by_first
    assert by_first is not None
    return by_first


def names_of_sizes(program: torch.export.ExportedProgram, args: Any, dynamic_shapes: Any = None) -> dict[str, str]:
    """Return what symbols of the program's inputs (``s77``) are called.

    As ``dynamic_shapes`` says; else ``batch``, or ``dim_0`` and ``dim_1`` where an input has two and nothing tells
    which is the batch.

    Args:
        program: of :func:`program_by_example`.
        args: the inputs that it was made by: a tuple, or a dict by names.
        dynamic_shapes: as there.
    """
    wanted: list[dict[int, str]] = []
    if dynamic_shapes is not None:
        _matched(args, dynamic_shapes, lambda _, said: wanted.append(said or {}))
    names: dict[str, str] = {}
    inputs = _inputs(program)
    several = any(sum(not _fixed(size) for size in x.shape) > 1 for x in inputs)
    for i, x in enumerate(inputs):
        for axis, size in enumerate(x.shape):
            symbol = str(size)
            if _fixed(size) or not symbol.isidentifier() or symbol in names:
                continue
            name = _name(wanted[i].get(axis)) if i < len(wanted) else f"dim_{axis}" if several else "batch"
            if name is not None:
                names[symbol] = name if name not in names.values() else f"{name}_{len(names)}"
    return names


def _inputs(program: torch.export.ExportedProgram) -> list[Tensor]:
    """Stand-ins of what the program is called with; sizes that were fixed are numbers."""
    user = set(program.graph_signature.user_inputs)
    found = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in user]
    return [x for x in found if isinstance(x, Tensor)]


def _fixed(size: int | torch.SymInt) -> bool:
    """Whether a size is a number, or a symbol of one value: what was to be dynamic, and tracing fixed."""
    return isinstance(size, int) or str(size).isdecimal()


def _axes(given: Any, axes: Iterable[int]) -> Any:
    auto = torch.export.Dim.AUTO
    return tree_map(lambda x: {i: auto for i in axes if i < x.dim()}, given)


def _name(said: Any) -> Any:
    return said.__name__ if isinstance(said, torch.export.Dim) else said


def _dims(given: Any, dynamic_shapes: Any) -> dict[str, torch.export.Dim]:
    """The dimensions that ``dynamic_shapes`` names."""
    dims: dict[str, torch.export.Dim] = {}

    def noted(x: Tensor, said: Any) -> None:
        if said is not None and not isinstance(said, Mapping):
            raise UsageError("dynamic_shapes gives for each tensor a dict of names by axis, or None")
        for axis, dim in (said or {}).items():
            name = _name(dim)
            if not isinstance(axis, int) or not 0 <= axis < x.dim():
                raise UsageError(f"dynamic_shapes names axis {axis!r} of a tensor of {x.dim()} dimensions")
            if not isinstance(name, str) or not name.isidentifier():
                raise UsageError(f"dynamic_shapes names dimensions by identifiers, not by {name!r}")
            dims.setdefault(name, dim if isinstance(dim, torch.export.Dim) else torch.export.Dim(name))

    _matched(given, dynamic_shapes, noted)
    return dims


def _matched(given: Any, said: Any, apply: Callable[[Tensor, Any], Any]) -> Any:
    """Apply a function to each tensor and what is said of it, where both are nested alike."""
    if isinstance(given, dict) and isinstance(said, Mapping) and set(said) <= set(given):
        said = {name: said.get(name) for name in given}
    try:
        return tree_map(apply, given, tuple(said) if isinstance(given, tuple) else said)
    except (TypeError, ValueError):
        raise UsageError("dynamic_shapes has not an entry for each input, nested as they are") from None


def _traced(module: nn.Module, args: tuple[Any, ...], kwargs: Any, axes: Any) -> torch.export.ExportedProgram:
    """Trace with dynamic axes, of each tensor its own; examples of a size of 1 there, a constant to torch, become 2."""
    given = iter(tree_leaves(axes, is_leaf=lambda x: isinstance(x, dict) and all(isinstance(k, int) for k in x)))
    many_args, many_kwargs = tree_map(lambda x: _several(x, next(given)), (args, kwargs))
    return _program(module, many_args, many_kwargs, axes)


def _several(x: Tensor, axes: Iterable[int]) -> Tensor:
    for axis in axes:
        if x.shape[axis] == 1:
            x = torch.cat([x, x], axis)
    return x


def _program(module: nn.Module, args: tuple[Any, ...], kwargs: Any, dynamic: Any) -> torch.export.ExportedProgram:
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(module, args, kwargs or None, dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # torch raises many kinds, from many places
        words = " ".join(str(error).split())
        raise UnsupportedError(f"torch.export cannot take this network: {quoted(words, 300)[1:-1]}") from error


def frozen_in(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Parameters that take no gradients (``requires_grad=False``), each with the name of its module."""
    held = {name: value for name, value in program.state_dict.items() if isinstance(value, nn.Parameter)}
    return {name: name.rpartition(".")[0] or name for name, value in held.items() if not value.requires_grad}


def write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as a .pt2 file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
