"""A module as a program of torch.export (.pt2): a graph of torch's own operators, with the weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

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
    axes = torch.export.Dim
    dynamic = [
        None if shape is None else {i: axes.AUTO for i, d in enumerate(shape) if not isinstance(d, int)}
        for shape in shapes
    ]
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(module, tuple(inputs), dynamic_shapes=tuple(dynamic), strict=False)
    except Exception as error:  # torch raises many kinds, from many places
        words = " ".join(str(error).split())
        raise UnsupportedError(f"torch.export cannot take this network: {quoted(words, 300)[1:-1]}") from error


def write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as a .pt2 file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
