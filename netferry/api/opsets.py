"""The opset at which a model is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netferry.schemas.model import Model


def at_opset(model: Model, opset: int | None) -> bool:
    """Take the model to an opset; by default (None) it stays at its own.

    Unless that is one that nobody runs any more, or (for a model that was no ONNX file, whose opset is ours to
    choose) one at which onnxruntime computes its average pools several times slower. Functions whose operators mean
    something else in the graph's opset, which onnx's check refuses, are said in that.

    Returns:
        Whether the model was one that no runtime reads.
    """
    from netferry.converters.passes.opset import to_opset
    from netferry.converters.passes.opset_levels import unreadable
    from netferry.schemas.graph import CANONICAL_OPSET
    from netferry.schemas.model import Note

    why = unreadable(model)
    if why is None and opset in (None, model.opset):
        _with_functions_of_one_opset(model)
    if opset is None:
        if why is None:
            _with_fast_pools(model)
            return False
        opset = max(model.opset, CANONICAL_OPSET)
        model.notes.append(Note("assumed", f"no runtime reads {why}: written at opset {opset}"))
    if opset != model.opset or why is not None:
        model.notes.extend(to_opset(model, opset))
    _tell_of_slow_pools(model)
    return why is not None


def _with_functions_of_one_opset(model: Model) -> None:
    from netferry.converters.passes.opset import align_functions, functions_apart
    from netferry.errors import UnsupportedOpset
    from netferry.schemas.model import Note

    apart = functions_apart(model)
    if not apart:
        return
    try:
        align_functions(model)
    except UnsupportedOpset:
        return  # the check tells what is wrong
    model.notes.append(Note("assumed", f"{len(apart)} functions of another opset are written at the graph's own"))


def _with_fast_pools(model: Model) -> None:
    """Take a model with average pools that onnxruntime computes slowly below the opset where they became so."""
    from netferry.converters.passes.opset import to_opset
    from netferry.converters.passes.pooling import SLOW_FROM, slow_average_pools
    from netferry.errors import UnsupportedOpset
    from netferry.schemas.model import Note

    opset = model.opset
    slow = slow_average_pools(model.graph, opset)
    if not slow:
        return
    if model.source.format != "onnx":
        try:
            model.notes.extend(to_opset(model, SLOW_FROM - 1))
        except UnsupportedOpset:
            pass  # something in it needs a later one; told of below
        else:
            text = f"written at opset {SLOW_FROM - 1}: onnxruntime computes {len(slow)} AveragePool slowly at {opset}"
            model.notes.append(Note("assumed", f"{text}; --opset {opset} insists"))
            return
    _tell_of_slow_pools(model)


def _tell_of_slow_pools(model: Model) -> None:
    """Note average pools that onnxruntime computes several times slower than at opset 18."""
    from netferry.converters.passes.pooling import SLOW_FROM, slow_average_pools
    from netferry.schemas.model import Note

    slow = slow_average_pools(model.graph, model.opset)
    if slow and all(note.kind != "slow" for note in model.notes):
        text = f"onnxruntime computes {len(slow)} AveragePool of opset {SLOW_FROM} and later slowly"
        model.notes.append(Note("slow", f"{text}; --opset {SLOW_FROM - 1} avoids that"))
