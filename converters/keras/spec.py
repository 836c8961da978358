"""The architecture as the file says it: layers, their settings and how they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from netferry.converters.keras.raw import is_known_lambda, type_of
from netferry.converters.keras.registry import registry
from netferry.errors import LimitExceeded, MalformedFile, quoted

_RENAMED = {"GroupQueryAttention": "GroupedQueryAttention"}
"""Exported names of classes that are called otherwise in the source, which is what weight files and .h5 spell."""
_AROUND_OTHERS = frozenset({"Bidirectional", "RNN", "SpectralNormalization", "TimeDistributed"})
"""layers whose variables are those of layers within, which have settings of their own"""
_MOST_OUTPUTS = 65_536


@dataclass(frozen=True)
class Ref:
    """Output ``tensor`` of call ``node`` of layer ``layer``."""

    layer: str
    node: int
    tensor: int
    shape: tuple[int | None, ...] | None = field(default=None, compare=False)
    """shape of the tensor, where the file tells it (Keras 3)"""

    def __post_init__(self) -> None:
        if not 0 <= self.tensor < _MOST_OUTPUTS:  # what is counted up to it would have no end
            raise MalformedFile(f"takes output {quoted(self.tensor)} of {quoted(self.layer)}, which is not there")


@dataclass
class Call:
    """One call of a layer: arguments in which :class:`Ref` stands for tensors."""

    args: list[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Spec:
    """One layer, or a model that is used as one.

    Attributes:
        type: class name.
        name: the layer's name.
        config: its settings.
        module, registered_name: where the class comes from (Keras 3, late Keras 2).
        generation: 1, 2 or 3: the Keras that wrote the file.
        calls: how it is called in the model around (functional models).
        layers: for a model its layers, else None.
        inputs, outputs: for a functional model references into it, nested as they were given.
        built_on: input shape that a Sequential or layer was built with, where the file tells it.
    """

    type: str
    name: str
    config: dict[str, Any]
    generation: int
    module: str = ""
    registered_name: str | None = None
    calls: list[Call] = field(default_factory=list)
    layers: list[Spec] | None = None
    inputs: Any = None
    outputs: Any = None
    built_on: list[Any] | None = None

    @property
    def sequential(self) -> bool:
        """Whether it is a chain of layers."""
        return self.layers is not None and self.outputs is None

    @property
    def trainable(self) -> bool:
        """Whether the layer's weights were trained; decides their place in old files.

        Layers of Keras 3 that are made around others do not hand their own setting down: those within have theirs.
        """
        around = self.generation == 3 and self.type in _AROUND_OTHERS
        return around or self.config.get("trainable", True) is not False

    @property
    def variable_type(self) -> str:
        """Class name as Keras's weight files spell it (functional models are ``Functional`` there)."""
        if self.layers is None:
            if self.type.startswith(("tf.", "raw.")):
                return "TFOpLambda"
            return self.type.removeprefix("ops:")
        return self.type if self.type not in ("Model", "Container", "Network") else "Functional"

    def keyed_layers(self) -> Iterator[tuple[str, Spec]]:
        """Layers with their key in Keras 3 weight files: snake-cased class name, ``_1``, ``_2`` … when repeated."""
        used: dict[str, int] = {}
        for child in self.layers or ():
            base = snake_case(child.variable_type)
            n = used.get(base, -1) + 1
            used[base] = n
            yield (base if n == 0 else f"{base}_{n}"), child

    def inner(self, raw: Any, what: str = "layer") -> Spec:
        """Return the layer held in a setting (a wrapper's ``layer``, a network's ``cell``)."""
        return parse_layer(raw, self.generation, where=f"{self.name}/{what}")


def snake_case(name: str) -> str:
    """Spell a class name as Keras 3's weight files do."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def parse_layer(raw: Any, generation: int, *, where: str = "", depth: int = 0, nesting: int = 100) -> Spec:
    """Read one layer object (``class_name``, ``config`` …); models are read with all that is inside.

    Raises:
        MalformedFile: it is not a layer.
        LimitExceeded: models nested too deep.
    """
    if depth > nesting:
        raise LimitExceeded(f"models nested deeper than {nesting} (limit nesting)", layer=where)
    if not isinstance(raw, dict) or not isinstance(raw.get("class_name"), str):
        raise MalformedFile(f"a layer without class_name: {quoted(raw, 80)}", layer=where or None)
    kind = _class_of(raw)
    config = raw.get("config")
    if isinstance(config, list):  # Keras 1 and early 2: a Sequential's config is the list of layers
        config = {"layers": config, "name": raw.get("name")}
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise MalformedFile(f"the config of a {quoted(kind)} is not an object", layer=where or None)
    name = config.get("name") or raw.get("name") or where.rsplit("/", 1)[-1] or snake_case(kind)
    if not isinstance(name, str):
        raise MalformedFile(f"a layer's name is not a text: {quoted(name, 80)}", layer=where or None)
    module, registered = raw.get("module"), raw.get("registered_name")
    spec = Spec(
        type_of(kind, config),
        name,
        config,
        generation,
        module if isinstance(module, str) else "",
        registered if isinstance(registered, str) else None,
    )
    build = raw.get("build_config")
    shape = config.get("build_input_shape") or (build.get("input_shape") if isinstance(build, dict) else None)
    spec.built_on = shape if isinstance(shape, list) else None
    layers = config.get("layers")
    if isinstance(layers, list) and (kind == "Sequential" or "output_layers" in config):
        spec.layers = []
        for i, item in enumerate(layers):
            child = parse_layer(item, generation, where=f"{name}/{i}", depth=depth + 1, nesting=nesting)
            if "output_layers" in config:
                if isinstance(item.get("name"), str):
                    child.name = item["name"]
                child.calls = parse_calls(item.get("inbound_nodes"), child.name)
                if child.type == "Lambda" and is_known_lambda(name, child.name, child.config):
                    child.type = "Lambda.scale"
                if _is_operation(child):
                    child.type = f"ops:{child.type}"
            spec.layers.append(child)
        if "output_layers" in config:
            spec.inputs = parse_refs(config.get("input_layers"), name)
            spec.outputs = parse_refs(config["output_layers"], name)
    return spec


def _class_of(raw: dict[str, Any]) -> str:
    """Class name; with the package or module in front (``My>Dense``) for a user's class that is called like Keras's.

    Keras's reader would read such a class wrongly without a word.
    """
    package, _, kind = str(raw["class_name"]).rpartition(">")
    registered, module = raw.get("registered_name"), raw.get("module")
    if not package and isinstance(registered, str) and ">" in registered:
        package = registered.partition(">")[0]
    if not package and isinstance(module, str) and module.partition(".")[0] not in _MODULES:
        package = module
    kind = _RENAMED.get(kind, kind)
    if not package or package in _PACKAGES or kind in _OF_PACKAGES:
        return kind
    reader = registry.get(kind)
    ours = reader is not None and reader.__module__.startswith("netferry.")  # a plug-in reads the class that it names
    return f"{package}>{kind}" if ours else kind


_MODULES = frozenset({"", "keras", "tf_keras", "tensorflow", "tensorflow_addons", "keras_contrib", "builtins"})
"""where classes that are known by their names come from"""
_PACKAGES = frozenset({"keras", "Addons"})
_OF_PACKAGES = frozenset({
    "CustomScaleLayer", "FixedDropout", "InstanceNormalization", "LayerScale", "StochasticDepth",
})  # fmt: skip
"""classes that several packages have, all alike"""
_TYPED_OPERATIONS = frozenset({
    "Arange", "Array", "Cast", "ConvertToTensor", "Cumprod", "Cumsum", "EmptyLike", "Full", "FullLike", "Geomspace",
    "Linspace", "Logspace", "MultiHot", "Nancumprod", "Nancumsum", "OneHot", "OnesLike", "Prod", "SaturateCast", "View",
    "ZerosLike",
})  # fmt: skip
"""Operations of Keras 3.15 that write ``dtype`` as layers do; no layer has one of these names."""


def _is_operation(spec: Spec) -> bool:
    """Whether it is an operation of a Keras 3 functional model (``x + 1``) rather than the layer of that name.

    Layers write ``trainable`` or at least ``dtype``, all but Pipeline; files of the old form have no module.
    """
    if spec.generation != 3 or spec.layers is not None or spec.type == "InputLayer":
        return False
    if spec.module:
        return spec.module.startswith(("keras.src.ops", "keras.ops"))
    if "trainable" in spec.config or spec.type == "Pipeline":
        return False
    return "dtype" not in spec.config or spec.type in _TYPED_OPERATIONS


def _is_ref(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 3 <= len(value) <= 4
        and isinstance(value[0], str)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value[1:3])
        and (len(value) == 3 or isinstance(value[3], dict))
    )


def parse_refs(value: Any, layer: str) -> Any:
    """Read references nested in lists and objects; a lone reference stays alone."""
    if _is_ref(value):
        return Ref(value[0], value[1], value[2])
    if isinstance(value, list):
        return [parse_refs(v, layer) for v in value]
    if isinstance(value, dict):
        return {k: parse_refs(v, layer) for k, v in value.items()}
    raise MalformedFile(f"not a reference to a tensor: {quoted(value, 80)}", layer=layer)


def parse_calls(nodes: Any, layer: str) -> list[Call]:
    """Read ``inbound_nodes`` of any generation.

    Raises:
        MalformedFile: they are of no known form.
    """
    if nodes is None or nodes == []:
        return []
    if not isinstance(nodes, list):
        raise MalformedFile("inbound_nodes is not a list", layer=layer)
    return [_call(node, layer) for node in nodes]


def _call(node: Any, layer: str) -> Call:
    if isinstance(node, dict) and set(node) <= {"args", "kwargs"}:  # Keras 3
        args, kwargs = node.get("args", []), node.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise MalformedFile("a node's args are not a list, or its kwargs not an object", layer=layer)
        return Call([_keras3(a, layer) for a in args], {k: _keras3(v, layer) for k, v in kwargs.items()})
    if not isinstance(node, (list, dict)):
        raise MalformedFile(f"a node of unknown form: {quoted(node, 80)}", layer=layer)
    kwargs: dict[str, Any] = {}
    first = _keras2(node, kwargs, layer)
    if isinstance(first, list) and len(first) == 1 and not _is_ref(node):
        first = first[0]
    return Call([first], kwargs)


def _keras2(value: Any, kwargs: dict[str, Any], layer: str) -> Any:
    """The first argument: nested lists of [layer, node, tensor, {kwargs}]; the settings of the call ride along."""
    if isinstance(value, list) and len(value) in (3, 4) and value[0] == "_CONSTANT_VALUE":
        if len(value) == 4 and isinstance(value[3], dict):
            kwargs.update(_kwargs2(value[3]))
        return value[2]
    if _is_ref(value):
        if len(value) == 4:
            kwargs.update(_kwargs2(value[3]))
        return Ref(value[0], value[1], value[2])
    if isinstance(value, list):
        return [_keras2(v, kwargs, layer) for v in value]
    if isinstance(value, dict):
        return {k: _keras2(v, kwargs, layer) for k, v in value.items()}
    raise MalformedFile(f"not a reference to a tensor: {quoted(value, 80)}", layer=layer)


def _kwargs2(value: Any) -> Any:
    if _is_ref(value) and len(value) == 3:
        return Ref(value[0], value[1], value[2])
    if isinstance(value, list):
        return [_kwargs2(v) for v in value]
    if isinstance(value, dict):
        return {k: _kwargs2(v) for k, v in value.items()}
    return value


def _keras3(value: Any, layer: str) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            config = value.get("config")
            history = config.get("keras_history") if isinstance(config, dict) else None
            if not _is_ref(history):
                raise MalformedFile("a tensor without keras_history", layer=layer)
            assert isinstance(history, list)
            shape = config.get("shape") if isinstance(config, dict) else None
            known = isinstance(shape, list) and all(d is None or isinstance(d, int) for d in shape)
            return Ref(history[0], history[1], history[2], tuple(shape) if known and shape is not None else None)
        return {k: _keras3(v, layer) for k, v in value.items()}
    if isinstance(value, list):
        return [_keras3(v, layer) for v in value]
    return value


def refs_in(value: Any) -> Iterator[Ref]:
    """All references in nested arguments, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from refs_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from refs_in(item)
