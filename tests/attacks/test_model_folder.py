"""What a file names lies in its folder, or in that of the file it is a link to: hubs keep links into a folder of blobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import netferry
from netferry.errors import UnsafeFile
from netferry.schemas.model_folder import ModelFolder
from tests.attacks.test_paths import MEAN

TRAIN = """
layer { name: "d" type: "Data" top: "data" transform_param { mean_file: "named" } data_param { batch_size: 2 } }
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
"""
TREE = "[net]\nheight=1\nwidth=1\nchannels=2\n[softmax]\ntree=named\n"
PLAIN = "[net]\nheight=4\nwidth=4\nchannels=2\n[avgpool]\n"


def mean(file: Path) -> None:
    (recipe,) = netferry.load(file).preprocessing.values()
    assert recipe.mean_image is not None


def tree(file: Path) -> None:
    assert netferry.load(file).graph.outputs


def names(file: Path) -> None:
    (file.parent / "net.cfg").write_text(PLAIN)
    assert list(netferry.load(file.parent / "net.cfg", labels=file).labels.values()) == [["a", "b"]]


KINDS: dict[str, tuple[str, str, bytes, Callable[[Path], None]]] = {
    "caffe-mean": ("net.prototxt", TRAIN, MEAN.read_bytes(), mean),
    "darknet-tree": ("net.cfg", TREE, b"a -1\nb -1\n", tree),
    "darknet-names": ("net.data", "names=named\n", b"a\nb\n", names),
}
"""the file, what it says, what the file that it names holds, and what reads both"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hub", [True, False], ids=["hub", "elsewhere"])
def test_links(tmp_path: Path, kind: str, hub: bool) -> None:
    name, text, named, read = KINDS[kind]
    folder, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    folder.mkdir()
    blobs.mkdir()
    (blobs / "1").write_text(text)
    (blobs / "2").write_bytes(named)
    (folder / "named").symlink_to(blobs / "2")
    if hub:
        (folder / name).symlink_to(blobs / "1")
        read(folder / name)
    else:
        (folder / name).write_text(text)
        with pytest.raises(UnsafeFile):
            read(folder / name)


def test_what_a_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "net").touch()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    folder = ModelFolder(tmp_path / "in" / "net")
    assert folder.holds(tmp_path / "in" / "deep" / "file")
    assert not folder.holds(tmp_path / "inside")
    assert not folder.holds(tmp_path / "in" / "out" / "file")
    assert not folder.holds(tmp_path / "in" / ".." / "file")
