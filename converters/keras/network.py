"""From the architecture to the graph: models of any nesting, shared layers, several inputs and outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from netferry.converters.keras.arguments import as_told, draws, first_named, flattened, mask_behind, masked, matched
from netferry.converters.keras.layer import Facts, Layer
from netferry.converters.keras.layout import KT
from netferry.converters.keras.ordering import filled, first_nodes, in_order, shapes_of, uses_of
from netferry.converters.keras.quantized import refuse_unread
from netferry.converters.keras.registry import Unreadable, mask_policy, registry
from netferry.converters.keras.spec import Ref, Spec, parse_layer
from netferry.errors import LimitExceeded, MalformedFile, NetferryError, UnsupportedLayer, quoted
from netferry.schemas.graph import Builder, Dim
from netferry.schemas.ir import ir
from netferry.schemas.layers import LIES, Role
from netferry.schemas.model import PLACEHOLDER_DOMAIN, Note
from netferry.schemas.tensors import array_tensor

CODE = ("Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper")


def _why_unread(kind: str) -> str:
    return "runs Python code; not read by design" if kind in CODE else "no reader for this type"


def _unread(model: Spec, around: str = "") -> Iterator[tuple[str, str, str]]:
    """(name, type, why) of the layers of a model that have no reader."""
    for child in model.layers or ():
        if child.layers is not None:
            yield from _unread(child, f"{around}{child.name}/")
        elif child.type != "InputLayer" and registry.get(child.type) is None:
            yield around + child.name, child.type, _why_unread(child.type)


class Network:
    """Calls layers and models; holds what one conversion needs to remember."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.placeholders = 0
        self.carried: list[tuple[ir.Value, str]] = []
        """states that a stateful layer leaves for the next call: outputs of the graph"""
        self._inner: dict[tuple[str, str], Spec] = {}
        self._done: set[str] = set()
        self._channels = "channels_last"
        self._depth = 0
        self._training = False
        self.frozen = False

    def inner_spec(self, prefix: str, raw: Any, where: str, generation: int) -> Spec:
        """Parse a wrapped layer once, so that its weights stay tied over calls."""
        key = (prefix, where)
        if key not in self._inner:
            self._inner[key] = parse_layer(raw, generation, where=where)
        return self._inner[key]

    def call(
        self,
        b: Builder,
        spec: Spec,
        args: list[Any],
        kwargs: dict[str, Any],
        *,
        path: str,
        prefix: str,
        stamped: bool = False,
        wanted: int = 1,
        shapes: Sequence[Any] = (),
    ) -> Any:
        """Call a layer or model and return its output: one tensor, or a tuple.

        Args:
            path, prefix: see :class:`Layer`; for a model those of the model.
            stamped: whether the nodes are to belong to the layer that is being built already.
            wanted: how many outputs are used, for layers nobody can read.
            shapes: shapes of the outputs where the file tells them, for the same.
        """
        if self._depth > self.facts.options.limits.nesting:
            raise LimitExceeded(f"models nested deeper than {self.facts.options.limits.nesting} (limit nesting)")
        self._depth += 1
        args, kwargs = first_named(spec, args, kwargs)
        before, told = (self._training, self.frozen), kwargs.get("training")
        self.frozen = self.frozen or not spec.trainable
        if told is not None and self.facts.generation <= 2:  # Keras 3 lets the outermost call have its way
            self._training = told is True or told == 1
        try:
            if spec.layers is not None:
                return self._model(b, spec, masked(args, kwargs), path, prefix)
            kwargs = {**kwargs, "training": True} if self._training else kwargs
            layer = Layer(spec, path, prefix, self.facts, self, args, kwargs)
            if stamped:
                return self._read(b, layer, wanted, shapes)
            with b.layer(path, spec.type):
                return self._read(b, layer, wanted, shapes)
        except NetferryError as error:
            if path or not self.facts.unknown or isinstance(error, (UnsupportedLayer, LimitExceeded)):
                raise error.at(layer=path) from None
            # shapes after a placeholder are only assumed: the unknown layers are the reason
            raise UnsupportedLayer(list(dict.fromkeys([*self.facts.unknown, *_unread(spec)]))) from None
        finally:
            self._depth -= 1
            self._training, self.frozen = before

    # models ----------------------------------------------------------------------------------------------------

    def _model(self, b: Builder, spec: Spec, args: list[Any], path: str, prefix: str) -> Any:
        if spec.sequential:
            return self._chain(b, spec, args, f"{path}/" if path else "", prefix)
        return self._functional(b, spec, args, path, prefix)

    def _chain(self, b: Builder, spec: Spec, args: list[Any], around: str, prefix: str) -> Any:
        value: Any = args[0] if len(args) == 1 else args
        for key, child in spec.keyed_layers():
            if child.type != "InputLayer":
                value = self.call(b, child, [value], {}, path=around + child.name, prefix=f"{prefix}layers/{key}/")
        return value

    def _functional(self, b: Builder, spec: Spec, args: list[Any], path: str, prefix: str) -> Any:
        around = f"{path}/" if path else ""
        layers = {child.name: (key, child) for key, child in spec.keyed_layers()}
        if len(layers) != len(spec.layers or ()):
            raise MalformedFile("two layers of one name", layer=spec.name)
        tensors: dict[Ref, Any] = {}
        for ref, given in matched(spec, args, outermost=not path):
            if ref.layer not in layers:
                raise MalformedFile(f"input layer {quoted(ref.layer)} is not in the model", layer=spec.name)
            tensors[ref] = given
        first = first_nodes(spec)
        tensors = {Ref(r.layer, 0, r.tensor): v for r, v in tensors.items()}
        for name, index, call in in_order(spec, first, set(tensors)):
            key, child = layers[name]
            used = uses_of(spec, name, index + first[name])
            made = self.call(
                b,
                child,
                [filled(a, tensors, first, child.name) for a in call.args],
                {k: filled(v, tensors, first, child.name) for k, v in call.kwargs.items()},
                path=around + child.name,
                prefix=f"{prefix}layers/{key}/",
                wanted=1 + max((r.tensor for r in used), default=0),
                shapes=shapes_of(used),
            )
            outputs = flattened(made)
            for i, value in enumerate(outputs):
                tensors[Ref(name, index, i)] = value
        outputs = filled(spec.outputs if path else as_told(spec.outputs), tensors, first, spec.name)
        if isinstance(outputs, KT):
            return outputs
        found = tuple(flattened(outputs))
        return found[0] if len(found) == 1 else found

    # layers ----------------------------------------------------------------------------------------------------

    def _read(self, b: Builder, l: Layer, wanted: int, shapes: Sequence[Any]) -> Any:
        reader = registry.get(l.type)
        if reader is None:
            return self._placeholder(b, l, _why_unread(l.type), wanted, shapes)
        refuse_unread(l.spec)
        inputs = [x for x in flattened(l.args[:1]) if isinstance(x, KT)]
        given = masked(inputs, l.kwargs, mask_behind(l))
        try:
            made = reader(b, l, *given)
        except Unreadable as why:
            return self._placeholder(b, l, str(why), wanted, shapes)
        except TypeError as error:
            trace = error.__traceback__
            if trace is not None and trace.tb_next is None:  # the call itself failed: the reader takes other inputs
                raise MalformedFile(f"{l.type} does not take {len(inputs)} tensors", layer=l.path) from None
            raise _impossible(l, error) from error
        except (ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise _impossible(l, error) from error
        if len(b.graph) > self.facts.options.limits.nodes:
            raise LimitExceeded(f"more than {self.facts.options.limits.nodes} nodes (limit nodes)")
        self._masks(l, inputs if l.generation == 3 else given, made)
        self._say_order(l, inputs, made)
        if l.path not in self._done:
            self._done.add(l.path)
            if self._training and draws(l):
                l.note(
                    "warning", "called with training=True: Keras draws at random in every run, nothing is drawn here"
                )
            unread = l.config.leftovers()
            if unread:
                shown = ", ".join(f"{k}={quoted(l.config.raw[k], 40)}" for k in unread)
                l.note("ignored", f"settings that netferry does not know: {shown}")
        return made

    def _say_order(self, l: Layer, inputs: list[KT], made: Any) -> None:
        """Say on the node how the layer's values lie, so that whoever takes them out gives them as Keras would."""
        self._channels = l.config.raw.get("data_format", l.config.raw.get("dim_ordering")) or self._channels
        value = next((x for x in flattened(made) if isinstance(x, KT)), None)
        if value is None or value in inputs:
            return
        node = value.value.producer()
        if node is None or node.outputs[0] is not value.value or (value.rank < 3 and value.flat is None):
            return
        first = self._channels in ("channels_first", "th")
        lies: dict[str, Any] = {"order": list(value.order), "channels": "first" if first else "last"}
        if value.flat is not None:
            lies["flat"] = {"sizes": list(value.flat.sizes), "order": list(value.flat.order)}
        node.metadata_props[LIES] = json.dumps(lies)

    def _masks(self, l: Layer, inputs: list[KT], made: Any) -> None:
        policy = mask_policy(l.type)
        if policy == "own":
            return
        mask = next((x.mask for x in inputs if x.mask is not None), None) if policy == "keep" else None
        for value in flattened(made):
            if isinstance(value, KT) and value not in inputs:
                value.mask = mask

    def _placeholder(self, b: Builder, l: Layer, why: str, wanted: int, shapes: Sequence[Any]) -> Any:
        """A node that keeps class, settings, weights and connections of a layer that nobody can read.

        Its outputs take the shape that the file tells, else that of the first input; what replaces it may say
        otherwise.
        """
        self.placeholders += 1
        self.facts.unknown.append((l.path, l.type, why))
        inputs = [x for x in flattened([l.args, list(l.kwargs.values())]) if isinstance(x, KT)]
        found = {k: v for k, v in self.facts.arrays.items() if k.startswith(l.prefix)}
        weights = [
            b.param(k.removeprefix(l.prefix).replace("/", "."), array.tensor(array.shape), role=Role.LEARNABLE, key=k)
            if array.dtype.kind == "f"
            else b.param(
                k.removeprefix(l.prefix).replace("/", "."), array_tensor(array.values()), role=Role.STATE, key=k
            )
            for k, array in found.items()
        ]
        like: tuple[Dim, ...] = inputs[0].shape if inputs else ()
        types = [(ir.DataType.FLOAT, _dims(shapes[i] if i < len(shapes) else None, like)) for i in range(wanted)]
        made = b.op(
            re.sub(r"\W", "_", l.type, flags=re.ASCII) or "Unknown",
            *[x.logical(b) for x in inputs],
            *weights,
            domain=PLACEHOLDER_DOMAIN,
            outputs=wanted,
            types=types,
            metadata={"netferry.reason": why},
            settings=json.dumps(l.spec.config, sort_keys=True),
            call=json.dumps({k: v for k, v in l.kwargs.items() if _is_plain(v)}, sort_keys=True),
        )
        self.facts.notes.append(Note("warning", f"placeholder for a layer of type {quoted(l.type)}: {why}", l.path))
        values = (made,) if isinstance(made, ir.Value) else made
        return tuple(KT.of(v) for v in values) if wanted > 1 else KT.of(values[0])


def _impossible(l: Layer, error: Exception) -> MalformedFile:
    """The error for settings of a kind that no Keras writes, found out by what goes wrong with them."""
    return MalformedFile(
        f"the settings do not fit together ({type(error).__name__}: {quoted(error)[1:-1]})", layer=l.path
    )


def _is_plain(value: Any) -> bool:
    return all(v is None or isinstance(v, (str, int, float, bool)) for v in flattened(value))


def _dims(shape: Any, like: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if shape is None:
        return like
    return tuple(like[0] if i == 0 and d is None and like else d for i, d in enumerate(shape))
