"""Types of raw operations: the registry knows them by the function they call, not by the class that holds them."""

from __future__ import annotations

import json
import re
from typing import Any


def type_of(kind: str, config: dict[str, Any]) -> str:
    """Return ``tf.math.add`` for a TFOpLambda that calls it, ``raw.AddV2`` for a TensorFlowOpLayer, else ``kind``."""
    if kind in ("TFOpLambda", "SlicingOpLambda") and isinstance(config.get("function"), str):
        return "tf." + config["function"].removeprefix("compat.v1.")
    if kind == "TensorFlowOpLayer":
        name = node_def(config).get("op")
        return f"raw.{name}" if isinstance(name, str) else kind
    if kind == "ClassMethod" and isinstance(config.get("cls_symbol"), str):
        return f"tf.{config['cls_symbol']}.{config.get('method_name')}"
    return kind


def is_known_lambda(model: str, layer: str, config: dict[str, Any]) -> bool:
    """Whether a Lambda is the scaled sum of Keras 2's InceptionResNetV2: by names and arguments, never by its code."""
    arguments = config.get("arguments")
    if not isinstance(arguments, dict) or set(arguments) != {"scale"}:
        return False
    number = isinstance(arguments["scale"], (int, float)) and not isinstance(arguments["scale"], bool)
    return number and model == "inception_resnet_v2" and re.fullmatch(r"block(35|17|8)_\d{1,2}", layer) is not None


def node_def(config: dict[str, Any]) -> dict[str, Any]:
    """Return the node of a TensorFlowOpLayer, which some versions keep as a text of JSON."""
    node = config.get("node_def")
    if isinstance(node, str) and len(node) <= 1_000_000:
        try:
            node = json.loads(node)
        except (ValueError, RecursionError):
            return {}
    return node if isinstance(node, dict) else {}
