"""Parameters that an exporter shared through Identity: tied on purpose, or equal by chance?

torch's TorchScript exporter keeps one of several equal tensors and hands it to the others through Identity. It knows
parameters that the network ties as one from the start, so a parameter that still has a name of its own behind an
Identity was one of its own: an equal copy (batch norms that are all 1 or 0, layers copied before training).
Tensors that the exporter made itself (``onnx::MatMul_16``, a transposed weight) have lost that trace. Two parameters
that were trained apart do not become equal in every bit: such a tensor is a tie, unless its values are all alike or
the bias of the same product is an equal copy.
"""

from __future__ import annotations

from typing import NamedTuple

from netferry.errors import quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role, layer_of, role_by_use
from netferry.schemas.merged import merged_parameters
from netferry.schemas.tensors import sample_of

_SAMPLE = 4096


class Shared(NamedTuple):
    """An Identity of a parameter.

    Attributes:
        node: the Identity.
        source: the initializer.
        role: what its output is used for.
        tied: whether the two are one parameter; else an equal copy.
    """

    node: ir.Node
    source: ir.Value
    role: Role
    tied: bool

    @property
    def name(self) -> str:
        """The name of the parameter that the exporter replaced."""
        return self.node.outputs[0].name or ""


def shared_parameters(graph: ir.Graph) -> list[Shared]:
    """The parameters of a graph that are read through an Identity of another one."""
    found: list[Shared] = []
    tied: dict[ir.Value, bool] = {}
    for node in graph:
        if node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
            continue
        source, made = node.inputs[0], node.outputs[0]
        if source is None or not source.is_initializer() or source.const_value is None:
            continue
        if made.is_graph_output() or not made.name:
            continue
        role = role_by_use(made, source)
        if role == Role.CONSTANT and source.metadata_props.get(ROLE) == Role.LEARNABLE.value and "::" not in made.name:
            role = Role.LEARNABLE  # a parameter of the network itself, by what its file tells
        if role == Role.CONSTANT:
            continue
        generated = "::" in made.name  # a name that TorchScript gives to what it computed itself
        if generated and source not in tied:
            values = sample_of(source, _SAMPLE)
            tied[source] = values is not None and values.size > 1 and bool((values != values[0]).any())
        found.append(Shared(node, source, role, generated and tied[source]))
    if not any(s.tied for s in found):
        return found
    named = {s.node.outputs[0] for s in found if "::" not in s.name}
    return [s._replace(tied=False) if s.tied and _beside_copy(s, named) else s for s in found]


def _beside_copy(shared: Shared, named: set[ir.Value]) -> bool:
    """Whether a product with the parameter gets a bias that is an equal copy."""
    for use in shared.node.outputs[0].uses():
        near = [use.node, *(u.node for u in use.node.outputs[0].uses() if u.node.op_type == "Add")]
        if any(v in named for node in near for v in node.inputs):
            return True
    return False


def read_by_several(graph: ir.Graph) -> list[str]:
    """What there is to say of parameters that several layers read directly: they stay one parameter."""
    alike: list[str] = []
    others: list[str] = []
    apart = {place for merged in merged_parameters(graph) for place in merged.places}
    for name, value in graph.initializers.items():
        uses = [u for u in value.uses() if u.node.op_type != "Identity" and (u.node, u.idx) not in apart]
        if len(uses) < 2 or len({layer_of(use.node)[0] for use in uses}) < 2 or role_by_use(value) == Role.CONSTANT:
            continue
        values = sample_of(value, _SAMPLE)
        same = values is not None and bool((values == values[:1]).all())
        (alike if same else others).append(name)
    out: list[str] = []
    for names, more in (
        (others, ""),
        (alike, " (their values are all alike: the exporter may have merged equal copies)"),
    ):
        if names:
            rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
            out.append(f"read by several layers and taken for tied{more}: {', '.join(map(quoted, names[:5]))}{rest}")
    return out


def told(shared: list[Shared]) -> list[str]:
    """What was recognised, in words; one line for ties and one for copies."""
    out: list[str] = []
    for tied, words in ((True, "tied to the parameter that they share"), (False, "equal copies, which train apart")):
        names = [s.name for s in shared if s.tied == tied]
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            out.append(f"shared through Identity and taken for {words}: {', '.join(map(quoted, names[:5]))}{more}")
    return out
