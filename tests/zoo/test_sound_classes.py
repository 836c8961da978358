"""The AudioSet ontology: complete, without cycles, the same classes as YAMNet's, found by words."""

from __future__ import annotations

import json
from typing import Any

import networkx
import pytest
from typer.testing import CliRunner

from netferry import zoo
from netferry.cli import register
from netferry.cli.app import app
from netferry.errors import UsageError
from netferry.zoo.catalogue import class_names
from netferry.zoo.sound_classes import paths, sound_classes

TOP = [
    "Human sounds",
    "Animal",
    "Music",
    "Natural sounds",
    "Sounds of things",
    "Source-ambiguous sounds",
    "Channel, environment and background",
]


def drawn(everything: bool = False) -> Any:
    """The exported graph, as networkx reads it after a way through JSON."""
    return networkx.node_link_graph(json.loads(json.dumps(zoo.ontology(everything=everything))), edges="edges")


@pytest.mark.parametrize("everything", [False, True], ids=["yamnet", "all"])
def test_every_class_of_yamnet_is_there_with_its_name_and_output(everything: bool) -> None:
    classes = sound_classes(everything)
    expected = dict(zip(class_names("audioset_ids"), enumerate(class_names("audioset")), strict=True))
    assert len(expected) == 521
    assert {k: (c.index, c.name) for k, c in classes.items() if c.index is not None} == expected


@pytest.mark.parametrize(("everything", "size", "edges"), [(False, 551, 587), (True, 632, 670)], ids=["yamnet", "all"])
def test_the_graph_has_no_cycles_and_seven_roots(everything: bool, size: int, edges: int) -> None:
    graph = drawn(everything)
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (size, edges)
    assert networkx.is_directed_acyclic_graph(graph)
    assert [graph.nodes[key]["name"] for key, degree in graph.in_degree() if not degree] == TOP
    assert graph.graph["classes"] == 521
    assert "CC BY-SA 4.0" in graph.graph["licence"]


def test_the_smaller_graph_is_yamnets_classes_and_what_is_above_them() -> None:
    whole, kept = drawn(True), drawn()
    classes = [key for key, output in whole.nodes(data="class") if output is not None]
    above = set[str]().union(*(networkx.ancestors(whole, key) for key in classes))
    assert set(kept) == above | set(classes)
    assert set(kept.edges) == set(whole.subgraph(kept).edges)


@pytest.mark.parametrize(
    ("word", "names"),
    [
        pytest.param(
            "bird",
            ["Bird", "Bird vocalization, bird call, bird song", "Bird flight, flapping wings"],
            id="name first, then by the ontology's order",
        ),
        pytest.param(
            "wind",
            [
                "Wind",
                "Wind instrument, woodwind instrument",
                "Wind chime",
                "Wind noise (microphone)",
                "Power windows, electric windows",
            ],
            id="name before whole words, which the ontology has first",
        ),
        pytest.param("cat", ["Cat", "Caterwaul", "Cattle, bovinae", "Roaring cats (lions, tigers)"], id="beginnings"),
        pytest.param("HOUSEFLY", ["Fly, housefly"], id="synonym in any case"),
        pytest.param("dog", ["Dog", "Whimper (dog)", "Canidae, dogs, wolves"], id="whole words before beginnings"),
        pytest.param("siren fire", ["Fire engine, fire truck (siren)"], id="all words, in any order"),
        pytest.param("hip-hop", ["Hip hop music"], id="hyphen"),
        pytest.param("/m/015p6", ["Bird"], id="id"),
        pytest.param(
            "animals",
            ["Domestic animals, pets", "Livestock, farm animals, working animals", "Wild animals"],
            id="not Animal, which is shorter",
        ),
    ],
)
def test_search(word: str, names: list[str]) -> None:
    assert [found["name"] for found in zoo.find_sounds(word)] == names


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("Music", [()]),
        ("Owl", [("Animal", "Wild animals", "Bird")]),
        (
            "Hiss",
            [
                ("Animal", "Domestic animals, pets", "Cat"),
                ("Animal", "Wild animals", "Snake"),
                ("Natural sounds", "Water", "Steam"),
                ("Source-ambiguous sounds", "Onomatopoeia"),
            ],
        ),
    ],
)
def test_ways_from_the_top(name: str, ways: list[tuple[str, ...]]) -> None:
    (key,) = (c.id for c in sound_classes().values() if c.name == name)
    assert [tuple(step.name for step in way) for way in paths(key)] == ways


def test_children_and_outputs_of_a_match() -> None:
    bird = zoo.find_sounds("bird")[0]
    assert bird["class"] == class_names("audioset").index("Bird")
    assert [(c["name"], c["class"] is None) for c in bird["children"]] == [
        ("Bird vocalization, bird call, bird song", False),
        ("Pigeon, dove", False),
        ("Crow", False),
        ("Owl", False),
        ("Bird flight, flapping wings", False),
    ]
    assert bird["paths"] == [
        [
            {"id": "/m/0jbk", "name": "Animal", "class": class_names("audioset").index("Animal")},
            {"id": "/m/01280g", "name": "Wild animals", "class": class_names("audioset").index("Wild animals")},
        ]
    ]


@pytest.mark.parametrize(
    ("word", "everything", "hint"),
    [
        pytest.param("tinnitus", False, "--all there are 'Tinnitus, ringing in the ears'", id="YAMNet lacks it"),
        pytest.param("guitr", False, "guitar", id="typing error"),
        pytest.param("zzzz", True, "without a word", id="nothing near"),
        pytest.param("", True, "without a word", id="empty"),
    ],
)
def test_a_word_that_no_class_has_is_refused_with_a_way_on(word: str, everything: bool, hint: str) -> None:
    with pytest.raises(UsageError, match="no class of sounds") as caught:
        zoo.find_sounds(word, everything=everything)
    assert hint in (caught.value.hint or "")


def test_everything_also_finds_what_yamnet_does_not_tell_apart() -> None:
    (found,) = zoo.find_sounds("male speech", everything=True)[:1]
    assert (found["name"], found["class"]) == ("Male speech, man speaking", None)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(["bird"], ["Animal › Wild animals ›", "Bird  106  /m/015p6", "├── Owl  114"], id="word"),
        pytest.param([], ["Music  132", "├── Musical instrument  133  + 18", "521 classes of YAMNet"], id="top"),
        pytest.param(["tinnitus", "--all"], ["Human sounds › Otoacoustic emission ›"], id="all"),
    ],
)
def test_what_the_command_prints(arguments: list[str], lines: list[str]) -> None:
    printed = _printed(arguments)
    assert [line for line in lines if line not in printed] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], zoo.ontology, id="graph"),
        pytest.param(["--all"], lambda: zoo.ontology(everything=True), id="whole graph"),
        pytest.param(["bird"], lambda: zoo.find_sounds("bird"), id="word"),
    ],
)
def test_json(arguments: list[str], expected: Any) -> None:
    assert json.loads(_printed([*arguments, "--json"])) == expected()


def _printed(arguments: list[str]) -> str:
    """What the command line says."""
    register()
    result = CliRunner().invoke(app, ["--no-sandbox", "zoo", "ontology", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output
