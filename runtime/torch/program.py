"""A module as a program of torch.export (.pt2): a graph of torch's own operators, with the weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from netferry.errors import UnsupportedError, quoted


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
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> torch.export.ExportedProgram:
    """Trace a module in eval mode, the first axis of every tensor dynamic.

    Args:
        module: the module.
        args: what it is called with: tensors, or tuples, lists and dicts of them.
        kwargs: the same by names of parameters; there is nothing in ``args`` then.

    Raises:
        UnsupportedError: as :func:`program_of`.
    """
    auto = torch.export.Dim.AUTO
    given, named = tree_map(_several, args), tree_map(_several, kwargs)  # torch.export takes a size of 1 for a constant
    dynamic = tree_map(lambda x: {0: auto} if x.dim() else {}, kwargs or args)
    return _program(module, given, named, dynamic)


def _several(x: Tensor) -> Tensor:
    return torch.cat([x, x]) if x.dim() and x.shape[0] == 1 else x


def _program(module: nn.Module, args: tuple[Any, ...], kwargs: Any, dynamic: Any) -> torch.export.ExportedProgram:
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(module, args, kwargs or None, dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # torch raises many kinds, from many places
        words = " ".join(str(error).split())
        raise UnsupportedError(f"torch.export cannot take this network: {quoted(words, 300)[1:-1]}") from error


def write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as a .pt2 file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
