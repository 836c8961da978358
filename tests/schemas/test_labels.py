"""Label files of every kind met in the wild, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netferry.errors import InputError, LimitExceeded, MalformedFile
from netferry.schemas.labels import read_labels
from tests.shared import shared


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        pytest.param("cat\ndog\n", ["cat", "dog"], id="lines"),
        pytest.param("\ufeffcat\r\ndog\r\n\r\n", ["cat", "dog"], id="bom-crlf-empty-end"),
        pytest.param(
            "n01440764 tench, Tinca tinca\nn01443537 goldfish", ["tench, Tinca tinca", "goldfish"], id="synsets"
        ),
        pytest.param("n01440764\nn01443537\n", ["n01440764", "n01443537"], id="ids-alone"),
        pytest.param("n01440764 tench\nplain\n", ["n01440764 tench", "plain"], id="not-all-synsets"),
        pytest.param('["cat", "dog"]', ["cat", "dog"], id="json-list"),
        pytest.param('{"1": "dog", "0": "cat"}', ["cat", "dog"], id="json-map"),
        pytest.param('{"0": ["n02123045", "tabby"]}', ["tabby"], id="json-keras"),
        pytest.param('{"dog": 1, "cat": 0}', ["cat", "dog"], id="json-class-indices"),
        pytest.param('{"1": 0, "0": 1}', ["1", "0"], id="json-class-indices-of-digits"),
        pytest.param(
            '{"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0}}', ["cat", "dog"], id="json-id2label"
        ),
        pytest.param('{"hidden": 8, "label2id": {"cat": 0, "dog": 1}}', ["cat", "dog"], id="json-label2id"),
        pytest.param("[other]\ncat\n", ["[other]", "cat"], id="bracket-line"),
        pytest.param("Köter\n猫\n", ["Köter", "猫"], id="unicode"),
        pytest.param("same\nsame\n", ["same", "same"], id="twice"),
    ],
)
def test_reads(tmp_path: Path, content: str, labels: list[str]) -> None:
    assert read_labels(write(tmp_path, content)) == labels


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "no labels", id="empty"),
        pytest.param("\n \n", "no labels", id="blank"),
        pytest.param("cat\n\ndog\n", "line 2", id="gap"),
        pytest.param(b"caf\xe9\n", "not UTF-8", id="latin1"),
        pytest.param("[]", "no labels", id="json-empty"),
        pytest.param("[1, 2]", "label 0", id="json-numbers"),
        pytest.param('{"0": "a", "2": "b"}', "none for class 1", id="json-gap"),
        pytest.param('{"0": "a", "0": "b"}', "twice", id="json-duplicate"),
        pytest.param('{"0": "a", "00": "b"}', "'00'", id="json-duplicate-index"),
        pytest.param('{"cat": 0, "dog": 2}', "none for class 1", id="json-class-indices-gap"),
        pytest.param('{"cat": 0, "dog": 0}', "none for class 1", id="json-class-indices-twice"),
        pytest.param('{"cat": -1}', "none for class 0", id="json-class-indices-negative"),
        pytest.param('{"cat": true}', "'cat'", id="json-class-indices-truth"),
        pytest.param('{"cat": 0, "1": "dog"}', "'cat'", id="json-both-ways"),
        pytest.param('{"0": "a"', "line 1", id="json-broken"),
        pytest.param("[" * 100_000, "labels", id="json-deep"),
        pytest.param("cat\n\x1b[31mdog\n", "control characters", id="terminal-sequence"),
    ],
)
def test_refuses(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = write(tmp_path, content)
    if content == "[" * 100_000:
        path.write_text('{"0":' + "[" * 100_000)
    with pytest.raises(MalformedFile) as error:
        read_labels(path)
    assert says in str(error.value)
    assert error.value.file == str(path)


def test_limits_and_missing_files(tmp_path: Path) -> None:
    path = write(tmp_path, "12345678")
    assert read_labels(path, max_bytes=8) == ["12345678"]
    with pytest.raises(LimitExceeded):
        read_labels(path, max_bytes=7)
    with pytest.raises(InputError):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(InputError):
        read_labels(tmp_path)


def test_imagenet() -> None:
    labels = read_labels(shared("data", "squeezenet_v1.1", "labels.txt"))
    assert len(labels) == 1000
    assert labels[281] == "tabby, tabby cat"
    for row in json.loads(shared("data", "images", "squeezenet_reference.json").read_text()):
        assert labels[row["top1"]] == row["label"]
