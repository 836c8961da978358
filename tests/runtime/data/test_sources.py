"""One face for data: every kind of source gives the items, names and labels that its makers would expect."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from netferry.errors import InputError, LimitExceeded, MalformedFile, NetferryError, UnsafeFile, UsageError
from netferry.runtime.data import Data, Shard, open_data
from netferry.runtime.data import tars as tars_module


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((2, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """cat/0.png cat/sub/1.png dog/2.png, and things that are no pictures."""
    root = tmp_path / "pets"
    for number, name in enumerate(("cat/0.png", "cat/sub/1.png", "dog/2.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number))
    for name in ("dog/.hidden.png", ".dir/x.png", "notes.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def rows(data: Data) -> list[tuple[str, str | None]]:
    return [(i.id, i.label) for i in data]


def seen(data: Data, root: Path) -> list[tuple[str, str | None]]:
    return [(Path(i.id).relative_to(root).as_posix(), i.label) for i in data]


def test_folder(folder: Path) -> None:
    data = open_data(folder)
    expected = [("cat/0.png", "cat"), ("cat/sub/1.png", "cat"), ("dog/2.png", "dog")]
    assert seen(data, folder) == expected
    assert seen(data, folder) == expected, "data may be iterated again"
    assert data.classes == ["cat", "dog"]
    assert [i.number for i in data] == [0, 1, 2]
    assert seen(open_data([folder / "dog", folder / "cat/0.png"]), folder) == [("dog/2.png", None), ("cat/0.png", None)]


def test_links_to_folders_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "kitten").symlink_to(folder / "cat")
    (tmp_path / "set" / "tom").symlink_to(folder / "cat")
    (folder / "cat" / "up").symlink_to(tmp_path / "set")
    (folder / "cat" / "gone").symlink_to(tmp_path / "nowhere")
    items = list(open_data(tmp_path / "set"))
    own = len([p for p in (folder / "cat").iterdir() if p.suffix == ".png"])
    assert {i.label for i in items} == {"kitten", "tom"}
    assert sum(i.id.startswith(str(tmp_path / "set" / "kitten") + "/0") for i in items) == 1
    assert len(items) == 2 * own + 2 * own  # each through the other once: set/kitten/up/tom


def test_patterns(folder: Path) -> None:
    assert seen(open_data(f"{folder}/*/*.png"), folder) == [("cat/0.png", "cat"), ("dog/2.png", "dog")]
    assert seen(open_data(f"{folder}/cat/*.png"), folder) == [("cat/0.png", None)]
    assert len(list(open_data(f"{folder}/**/*.png"))) == 3
    for number in range(3):
        (folder / f"n{number:03d}.png").write_bytes(png(number))
    assert len(list(open_data(str(folder / "n{000..002}.png")))) == 3


def test_nothing_there(folder: Path) -> None:
    (folder / "empty").mkdir()
    for nothing in (folder / "empty", folder / "none.png", f"{folder}/*.gif", f"{folder}/nothing*", "a\0b"):
        with pytest.raises(InputError):
            list(open_data(nothing))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("list.txt", "cat/0.png 281\ndog/2.png\n\n", id="caffe-list"),
        pytest.param("list.lst", "cat/0.png\t281\r\ndog/2.png\r\n", id="tabs-crlf"),
        pytest.param("index.csv", "cat/0.png,281\ndog/2.png,\n", id="csv-bare"),
        pytest.param("index.csv", "label,Path\n281,cat/0.png\n,dog/2.png\n", id="csv-names"),
        pytest.param("index.csv", "\ufefffilename;class\ncat/0.png;281\ndog/2.png;\n", id="csv-semicolons-bom"),
        pytest.param("index.tsv", "image\ttarget\ncat/0.png\t281\ndog/2.png\t\n", id="tsv"),
        pytest.param("i.jsonl", '{"image": "cat/0.png", "label": 281}\n{"image": "dog/2.png"}\n', id="jsonl"),
    ],
)
def test_indexes(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    assert seen(open_data(folder / name), folder) == [("cat/0.png", "281"), ("dog/2.png", None)]


def test_index_columns_and_root(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "elsewhere.csv"
    index.write_text("a,b\ndog/2.png,hound\n")
    with pytest.raises(UsageError, match="no column is called path"):
        list(open_data(index))
    with pytest.raises(UsageError, match="no column 'c'"):
        list(open_data(index, path_column="c"))
    data = open_data(index, path_column="a", label_column="b", root=folder)
    assert seen(data, folder) == [("dog/2.png", "hound")]


def test_a_path_with_blanks_in_a_list(folder: Path) -> None:
    (folder / "my cat.png").write_bytes(png(7))
    (folder / "list.txt").write_text("my cat.png\nmy cat.png 3\nno such file.png\n")
    expected = [("my cat.png", None), ("my cat.png", "3"), ("no such file.png", None)]
    assert seen(open_data(folder / "list.txt"), folder) == expected


def test_csv_with_quotes(folder: Path) -> None:
    with (folder / "i.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], ["cat/0.png", 'a "b", c\nd']])
    assert [i.label for i in open_data(folder / "i.csv")] == ['a "b", c\nd']


def test_parquet(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"path": ["cat/0.png", "dog/2.png"], "label": [1, None]}), folder / "i.parquet")
    assert seen(open_data(folder / "i.parquet"), folder) == [("cat/0.png", "1"), ("dog/2.png", None)]
    images = [{"bytes": png(5), "path": "five.png"}, {"bytes": png(6), "path": None}]
    parquet.write_table(pyarrow.table({"image": images, "label": ["a", "b"]}), folder / "hf.parquet")
    items = list(open_data(folder / "hf.parquet"))
    assert [(i.id.removeprefix(f"{folder}/"), i.label) for i in items] == [
        ("hf.parquet/five.png", "a"),
        ("hf.parquet#1", "b"),
    ]
    assert items[0].source == png(5)
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(MalformedFile):
        list(open_data(folder / "broken.parquet"))


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def test_webdataset(tmp_path: Path) -> None:
    first = {"000.png": png(0), "000.cls": b"3\n", "001.cls": b"4", "001.seg.png": png(1), "001.npy": b"?"}
    second = {"a/002.json": json.dumps({"label": "hat"}).encode(), "a/002.jpg": png(2), "b/003.png": png(3)}
    tar(tmp_path / "s-00.tar", first)
    tar(tmp_path / "s-01.tar", second)
    tar(tmp_path / "all.tar.gz", first | second, "w:gz")
    items = list(open_data(str(tmp_path / "s-{00..01}.tar")))
    assert [i.label for i in items] == ["3", "4", "hat", "b"]
    assert [i.source for i in items] == [png(0), png(1), png(2), png(3)]
    assert items[2].id == f"{tmp_path}/s-01.tar/a/002.jpg"
    assert [i.label for i in open_data(tmp_path / "all.tar.gz")] == ["3", "4", "hat", "b"]
    assert [i.label for i in open_data(f"{tmp_path}/s-*.tar")] == ["3", "4", "hat", "b"]


def test_tars_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(MalformedFile):
        list(open_data(tmp_path / "no.tar"))
    whole = tar(tmp_path / "cut.tar", {"0.png": png(0) * 100}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:900])
    with pytest.raises(MalformedFile):
        list(open_data(tmp_path / "cut.tar"))
    with pytest.raises(InputError, match="no pictures"):
        list(open_data(tar(tmp_path / "texts.tar", {"a.txt": b"a"})))
    monkeypatch.setattr(tars_module, "MAX_MEMBER", 10)
    with pytest.raises(LimitExceeded):
        list(open_data(tar(tmp_path / "large.tar", {"0.png": png(0)})))


PIXELS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def saved(folder: Path, kind: str) -> Path:
    path = folder / f"x.{kind}"
    if kind == "npy":
        np.save(path, PIXELS)
    elif kind == "npz":
        np.savez(path, x=PIXELS, y=np.array([7, 8]))
    elif kind == "compressed.npz":
        np.savez_compressed(path, images=PIXELS, labels=np.array(["7", "8"]))
    else:
        with h5py.File(path, "w") as file:
            file["deep/data"], file["label"] = PIXELS, [7, 8]
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed.npz", "h5"])
def test_arrays(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, kind)
    items = list(open_data(path, array="deep/data" if kind == "h5" else None))
    assert [(i.id, i.ready) for i in items] == [(f"{path}#0", False), (f"{path}#1", False)]
    assert [i.label for i in items] == ([None, None] if kind == "npy" else ["7", "8"])
    for item, expected in zip(items, PIXELS, strict=True):
        np.testing.assert_array_equal(np.asarray(item.source), expected)
    assert all(i.ready for i in open_data(path, arrays="tensor"))


def test_floats_are_the_networks_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 640), np.float32))
    assert [i.ready for i in open_data(tmp_path / "x.npy")] == [True] * 3
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 3)), b=np.ones((2, 1)))
    with pytest.raises(UsageError, match="not clear"):
        list(open_data(tmp_path / "two.npz"))
    assert [sorted(i.source) for i in open_data(tmp_path / "two.npz", inputs=["a", "b"]) if isinstance(i.source, dict)]
    assert len(list(open_data(tmp_path / "two.npz", array="b"))) == 2


def test_hostile_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{}, {}], object), allow_pickle=True)
    np.savez(tmp_path / "p.npz", x=np.array([{}], object))
    for name in ("p.npy", "p.npz"):
        with pytest.raises(UnsafeFile):
            list(open_data(tmp_path / name))
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])
    with pytest.raises(UnsafeFile):
        list(open_data(tmp_path / "e.h5"))
    whole = saved(tmp_path, "npy").read_bytes()
    for number, content in enumerate(
        (b"", b"\x93NUMPY", whole[:100], whole[:-1], b"PK\3\4 no", b"\x89HDF\r\n\x1a\n no")
    ):
        path = tmp_path / f"{number}.npy"
        path.write_bytes(content)
        with pytest.raises(NetferryError):
            list(open_data(path))
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (2, 2**40)})
    with __import__("zipfile").ZipFile(tmp_path / "big.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue())
    with pytest.raises(LimitExceeded):
        list(open_data(tmp_path / "big.npz"))


def test_shards_are_the_whole(folder: Path) -> None:
    whole = list(open_data(folder))
    parts = [list(open_data(folder, shard=f"{i}/2")) for i in (1, 2)]
    assert [len(p) for p in parts] == [2, 1]
    assert sorted(parts[0] + parts[1], key=lambda i: i.number) == whole
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0"):
        with pytest.raises(UsageError):
            Shard.parse(wrong)


CODE = "import sys; from netferry.runtime.data import open_data; print([(i.id, i.label) for i in open_data('-')])"


@pytest.mark.parametrize("kind", ["paths", "picture", "npy", "tar"])
def test_stdin(folder: Path, kind: str) -> None:
    if kind == "paths":
        sent, expected = f"{folder}/cat/0.png 3\n{folder}/dog/2.png\n".encode(), [(f"{folder}/cat/0.png", "3")]
        expected.append((f"{folder}/dog/2.png", None))  # pyright: ignore[reportArgumentType]
    elif kind == "picture":
        sent, expected = png(1), [("stdin", None)]
    elif kind == "npy":
        sent, expected = saved(folder, "npy").read_bytes(), [("stdin#0", None), ("stdin#1", None)]
    else:
        sent, expected = tar(folder / "t.tar", {"k.png": png(1), "k.cls": b"5"}).read_bytes(), [("stdin/k.png", "5")]
    done = subprocess.run([sys.executable, "-c", CODE], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == repr(expected)


def test_the_data_layer_is_light() -> None:
    code = "import netferry.runtime.data, netferry.runtime.feed, sys; print([m for m in %r if m in sys.modules])"
    names = ("onnx", "onnx_ir", "torch", "h5py", "pyarrow", "onnxruntime")
    done = subprocess.run([sys.executable, "-c", code % (names,)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stream_of_pictures() -> None:
    data = open_data(np.full((2, 2), n, np.uint8) for n in range(3))
    assert [i.id for i in data] == ["picture 0", "picture 1", "picture 2"]
    with pytest.raises(UsageError, match="once"):
        list(data)


def test_paths_in_an_index_may_be_absolute_or_from_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    index = folder / "sub" / "i.txt"
    index.write_text(f"{folder}/cat/0.png\ndog/2.png\n")
    monkeypatch.chdir(folder)
    assert [os.path.relpath(i.id) for i in open_data(index)] == ["cat/0.png", "dog/2.png"]
