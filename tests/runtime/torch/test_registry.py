"""Signatures are the schemas: inputs, attributes and defaults compared with onnx.defs, for every version handled."""

from __future__ import annotations

import inspect
from typing import Any

import onnx
import pytest

from netferry.runtime.torch.build import LOWEST_OPSET
from netferry.runtime.torch.control import CONTROL
from netferry.runtime.torch.registry import operators

NO_FUNCTION = {"Constant", "ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"} | CONTROL
"""Operators of ai.onnx without a function: the builder's own, control flow, pictures and strings (refused by name)."""


def _schemas() -> list[Any]:
    """All versions of each operator that a graph at opset 21 or above may use."""
    found = []
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain or not operators().get(schema.name):
            continue
        first = onnx.defs.get_schema(schema.name, LOWEST_OPSET) if onnx.defs.has(schema.name, LOWEST_OPSET) else None
        if first is None or schema.since_version >= first.since_version:
            found.append(pytest.param(schema, id=f"{schema.name}-{schema.since_version}"))
    return found


@pytest.mark.parametrize("schema", _schemas())
def test_signature_is_the_schema(schema: Any) -> None:
    op = operators()[schema.name]
    for name, attribute in schema.attributes.items():
        assert name in op.attributes, f"{schema.name} does not take {name}"
        default = op.attributes[name]
        if attribute.default_value.type:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            plain = value.decode() if isinstance(value, bytes) else value
            plain = [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else plain
            assert default == plain, name
        elif attribute.required:
            newest = onnx.defs.get_schema(schema.name)
            still = name in newest.attributes and newest.attributes[name].required
            assert (default is inspect.Parameter.empty) or not still, name
        else:
            assert default is None, name
    assert len(schema.inputs) <= len(op.inputs), f"{schema.name}: {len(schema.inputs)} inputs"
    formal = [i for i in schema.inputs if i.option != onnx.defs.OpSchema.FormalParameterOption.Variadic]
    assert [i.name for i in formal] == list(op.inputs[: len(formal)]) or schema.name in RENAMED
    required = [i for i in formal if i.option == onnx.defs.OpSchema.FormalParameterOption.Single]
    assert op.required <= len(required)


RENAMED: set[str] = set()


def test_every_operator_has_a_function_or_is_listed() -> None:
    names = {s.name for s in onnx.defs.get_all_schemas() if not s.domain}
    assert names - set(operators()) == NO_FUNCTION
