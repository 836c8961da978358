"""Which layers are in the net: include and exclude rules against phase, level and stages (Net::StateMeetsRule)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.prototxt import Message
from netferry.errors import MalformedFile

PHASES = ("TRAIN", "TEST")


@dataclass(frozen=True)
class State:
    """The state that layers are chosen for; netferry always reads the TEST phase."""

    level: int
    stages: frozenset[str]
    phase: str = "TEST"


def state_of(net: Message, level: int, stages: Sequence[str]) -> State:
    """The caller's level and stages together with the net's own ``state``."""
    own = net.messages("state")
    params = Params(own[-1] if own else None, "net", "state")
    return State(level or params.int("level", 0), frozenset(stages) | frozenset(params.strs("stage")))


def included(layer: Message, state: State) -> bool:
    """Whether the layer belongs to the net in this state: any include rule met, or none given and no exclude met.

    Raises:
        MalformedFile: both include and exclude rules.
    """
    include, exclude = layer.messages("include"), layer.messages("exclude")
    name = layer.text("name")
    if include and exclude:
        raise MalformedFile("include and exclude rules are both given", layer=name)
    if include:
        return any(_meets(rule, state, name) for rule in include)
    return not any(_meets(rule, state, name) for rule in exclude)


def _meets(rule: Message, state: State, name: str) -> bool:
    params = Params(rule, name, "rule")
    if params.has("phase") and params.enum("phase", PHASES, "TEST") != state.phase:
        return False
    if params.has("min_level") and state.level < params.int("min_level"):
        return False
    if params.has("max_level") and state.level > params.int("max_level"):
        return False
    return set(params.strs("stage")) <= state.stages and not set(params.strs("not_stage")) & state.stages
