"""The graph as a trainable torch module, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torch.nn import Module

    from netferry.schemas.model import Model


def to_torch(model: Model, *, frozen_statistics: bool = False) -> GraphModule:
    """Return the network as a trainable torch module; the model itself stays as it is.

    What is frozen in the model (``freeze()``, or ``trainable=False`` in a Keras file) takes no gradients, and frozen
    batch norms keep their running statistics.

    Args:
        model: the model.
        frozen_statistics: batch norms keep their running statistics in training.

    Returns:
        A ``torch.fx.GraphModule`` of ordinary ``torch.nn`` modules, named by the source's layers.

    Raises:
        MissingExtra: torch is not installed.
        UnsupportedLayer: operators that have no counterpart, all of them.
        Uninitialised: parameters have no values.
    """
    require_torch()
    from netferry.converters.onnx.sparse import make_dense
    from netferry.converters.passes.opset import align_functions, to_opset
    from netferry.converters.passes.opset_types import annotate
    from netferry.runtime.torch.build import LOWEST_OPSET, build
    from netferry.runtime.torch.frozen import hold
    from netferry.runtime.torch.ranks import complete_ranks, ranks_suffice
    from netferry.runtime.torch.ties import copied_apart, record_roles
    from netferry.schemas.collection import collection_paused
    from netferry.schemas.merged import separate_merged
    from netferry.schemas.model import Model as Copy

    with collection_paused():
        raised = Copy(copied_apart(model.ir), source=model.source)
        make_dense(raised.ir)
        separate_merged(raised.graph)
        if raised.opset < LOWEST_OPSET:
            record_roles(raised.graph)
            if ranks_suffice(raised.graph, raised.opset):
                complete_ranks(raised.graph)  # else ONNX's inference is asked, which takes longer
            to_opset(raised, LOWEST_OPSET, restore=False)
        if raised.ir.functions:
            align_functions(raised)
        if not complete_ranks(raised.graph):
            annotate(raised.ir)
        module = build(raised, frozen_statistics=frozen_statistics)
    hold(module, model.frozen)
    return module


def update_from(model: Model, module: Module) -> list[str]:
    """Write a trained module's parameters and statistics back into the model; see runtime/torch/writeback.py."""
    require_torch()
    from netferry.runtime.torch.writeback import update_from as write_back

    return write_back(model, module)


def require_torch() -> None:
    """Raise :class:`MissingExtra` where torch is not installed."""
    from importlib.util import find_spec

    from netferry.errors import MissingExtra

    if find_spec("torch") is None:
        raise MissingExtra("torch", "train", "training")
