"""``netferry zoo ontology``: classes of sounds as a tree."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netferry.cli.app import show
from netferry.cli.options import Json
from netferry.cli.zoo import zoo


@zoo.command()
def ontology(
    word: Annotated[str | None, typer.Argument(help="Beginning of a class's name, or its id; none: the top.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also classes that YAMNet does not tell apart.")] = False,
    as_json: Json = False,
) -> None:
    """Search the kinds of sounds that YAMNet tells apart; --json without a word gives the whole graph.

    Example: netferry zoo ontology bird
    """
    from netferry import api

    if word is None:
        show(api.zoo.ontology(everything=everything), as_json, "zoo_sounds.top")
    else:
        show(api.zoo.find_sounds(word, everything=everything), as_json, "zoo_sounds.found")


def top(graph: dict[str, Any]) -> None:
    """Print the two upper levels as trees."""
    from netferry.cli.tables import OUT

    nodes = {node["id"]: node for node in graph["nodes"]}
    below: dict[str, list[str]] = {}
    for edge in graph["edges"]:
        below.setdefault(edge["source"], []).append(edge["target"])
    for root in graph["graph"]["roots"]:
        _tree(_title(nodes[root]), [_with_count(nodes[key], below) for key in below.get(root, ())])
    counts = f"{graph['graph']['classes']} classes of YAMNet, {len(nodes) - graph['graph']['classes']} others"
    OUT.print(f"[dim]{counts}; {graph['graph']['source']} ({graph['graph']['licence']})[/dim]")


def found(matches: list[dict[str, Any]]) -> None:
    """Print each class under the ways that lead to it, over its children."""
    from netferry.cli.tables import OUT, plain

    for match in matches:
        for way in match["paths"]:
            if way:
                OUT.print(f"[dim]{' › '.join(plain(step['name']) for step in way)} ›[/dim]")
        _tree(f"{_title(match)}  [dim]{match['id']}[/dim]", [_title(child, bold=False) for child in match["children"]])


def _title(node: dict[str, Any], bold: bool = True) -> str:
    """A name with YAMNet's output behind it."""
    from netferry.cli.tables import plain

    name = f"[bold]{plain(node['name'])}[/bold]" if bold else plain(node["name"])
    return name if node["class"] is None else f"{name}  {node['class']}"


def _with_count(node: dict[str, Any], below: dict[str, list[str]]) -> str:
    """A class of the second level, and how many kinds of it follow."""
    more = len(below.get(node["id"], ()))
    return _title(node, bold=False) + (f"  [dim]+ {more}[/dim]" if more else "")


def _tree(title: str, branches: list[str]) -> None:
    from rich.tree import Tree

    from netferry.cli.tables import OUT

    tree = Tree(title)
    for branch in branches:
        tree.add(branch)
    OUT.print(tree)
