"""The page: one file with the drawing, its style and its script; nothing is fetched and nothing from the model is run.

All that comes from the model is JSON in a script element of another type, every ``<`` of it escaped, and the page's own
script puts it in place as text alone. A content security policy lets only this style and this script work, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from netferry.converters.html.sheets import sheets_of
from netferry.schemas.model import Model

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="netferry {version}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page draws a network with JavaScript, which is switched off.</noscript>
<script type="application/json" id="model">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def page(model: Model, described: Mapping[str, Any], *, version: str) -> str:
    """Return the page of a model.

    Args:
        model: the model, with types and shapes.
        described: what ``inspect`` tells of it.
        version: netferry's own.

    Raises:
        LimitExceeded: there are more layers than a page can draw.
    """
    facts = {key: value for key, value in described.items() if key != "layers"}
    document = {"facts": facts, "sheets": sheets_of(model, described), "version": version}
    style, script = _part("page.css"), _part("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    name = "".join(c if c.isprintable() else " " for c in str(described["name"] or "network"))[:200]
    return _PAGE.format(
        policy=html.escape(policy, quote=True).replace("&#x27;", "'"),
        version=html.escape(version),
        title=html.escape(f"{name} · netferry"),
        style=style,
        data=_embedded(document),
        script=script,
    )


def _part(name: str) -> str:
    return (files("netferry.converters.html") / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(document: Any) -> str:
    """JSON that no HTML parser takes for markup; texts that are not Unicode are escaped too."""
    text = json.dumps(_plain(document), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """Values that JSON has no word for (NaN and infinities of a recipe) as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
