"""A PyTorch module as a model: through torch.export and torch's own ONNX exporter, then netferry's reader."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.errors import UsageError
from netferry.schemas.model import Note, Source

if TYPE_CHECKING:
    from netferry.converters.options import ReadOptions
    from netferry.schemas.model import Model


def is_module(source: Any) -> bool:
    """Whether something is a torch module; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def read_module(source: Any, example_inputs: Any, options: ReadOptions, dynamic_shapes: Any = None) -> Model:
    """Return a module as a model, in eval mode: parameters keep their names, layers those of their modules.

    Args:
        source: the module; it is traced in eval mode and left in the mode that it had.
        example_inputs: a tensor, or one per parameter of ``forward``, in order or as a dict by their names; a parameter
            may take a tuple or dict of tensors.
        options: limits of the reader.
        dynamic_shapes: which axes are dynamic and what they are called, nested as the inputs are; by default the first
            axis of each is ``batch``, or the second where tracing fixes the first. Examples of size 1 there become 2
            for the tracing.

    Raises:
        UsageError: no example inputs, or ``dynamic_shapes`` that do not fit them.
        UnsupportedError: torch.export cannot follow the module.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    from netferry.converters.formats import by_name
    from netferry.converters.through_onnx import keep_weights
    from netferry.runtime.torch.onnx_program import write_onnx
    from netferry.runtime.torch.program import frozen_in, names_of_sizes, program_by_example
    from netferry.schemas.learning import freeze_as_source
    from netferry.schemas.publish import temporary_folder

    if example_inputs is None:
        raise UsageError("a torch module needs example_inputs: a tensor for each input")
    kwargs: dict[str, Any] = dict(example_inputs) if isinstance(example_inputs, Mapping) else {}
    args: tuple[Any, ...] = ()
    if not kwargs:
        args = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    if isinstance(example_inputs, torch.Tensor) and isinstance(dynamic_shapes, Mapping):
        dynamic_shapes = (dynamic_shapes,)
    given = tree_leaves((args, kwargs))
    if not given or not all(isinstance(x, torch.Tensor) for x in given):
        raise UsageError("example_inputs are tensors, one for each input of the module (or tuples and dicts of them)")
    trains = source.training
    try:
        program = program_by_example(source, args, kwargs, dynamic_shapes)
    finally:
        source.train(trains)
    with temporary_folder() as folder:
        names = names_of_sizes(program, kwargs or args, dynamic_shapes)
        write_onnx(program, Path(folder) / "model.onnx", names)
        model = by_name("onnx").read(Path(folder) / "model.onnx", options)
        keep_weights(model)
    model.graph.name = type(source).__name__
    model.source = Source("pytorch", (), str(torch.__version__), {"kind": "module"})
    model.notes = [replace(note) for note in model.notes]
    freeze_as_source(model, frozen_in(program), "requires_grad=False")
    fixed = [i.name for i in model.inputs if i.shape and all(isinstance(d, int) for d in i.shape)]
    if fixed and dynamic_shapes is None:
        names = ", ".join(fixed)
        model.notes.append(Note("warning", f"torch.export fixed the batch of {names}: the module depends on it"))
    return model
