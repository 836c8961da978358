"""Pictures in folders: order, classes, the split per class, ready-made sets, the sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netferry.errors import InputError, OutputError, UsageError
from netferry.runtime.data.folder import ImageFolder, Pictures, ready_made
from netferry.runtime.data.preview import preview


def make(root: Path, counts: dict[str, int], size: tuple[int, int] = (8, 6)) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (40 * number, 10 * i % 256, 0)).save(root / name / f"{i:02d}.png")
    return root


def test_a_folder_of_classes_is_sorted_and_lazy(tmp_path: Path) -> None:
    make(tmp_path, {"torch": 15, "cap": 15, "cube": 15, "playing cards": 15, "screwdriver": 15})
    (tmp_path / "cap" / "notes.txt").write_text("no picture")
    (tmp_path / "cap" / ".hidden.png").write_bytes(b"broken")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cap" / "00.png").write_bytes(b"not decoded, so nobody notices")
    found = ImageFolder(tmp_path)
    assert found.classes == ("cap", "cube", "playing cards", "screwdriver", "torch")
    assert (len(found), found.num_classes) == (75, 5)
    assert list(found.files) == sorted(found.files)
    assert found.labels == [p.parent.name for p in found.files]
    assert found.counts() == dict.fromkeys(found.classes, 15)
    assert next(iter(found)) == (tmp_path / "cap" / "00.png", 0)


@pytest.mark.parametrize(
    ("count", "train", "validation", "sizes"),
    [
        pytest.param(15, 0.7, 0.15, (11, 2, 2), id="fifteen"),
        pytest.param(60, 0.7, 0.15, (42, 9, 9), id="sixty"),
        pytest.param(10, 0.7, 0.15, (7, 2, 1), id="ten"),
        pytest.param(20, 0.7, 0.15, (14, 3, 3), id="twenty"),
        pytest.param(4, 0.7, 0.15, (2, 1, 1), id="four-none-empty"),
        pytest.param(3, 0.7, 0.15, (1, 1, 1), id="three-none-empty"),
        pytest.param(2, 0.7, 0.15, (1, 0, 1), id="two-test-before-validation"),
        pytest.param(1, 0.7, 0.15, (1, 0, 0), id="one-trains"),
        pytest.param(5, 0.3, 0.7, (2, 3, 0), id="no-test-share"),
        pytest.param(7, 1.0, 0.0, (7, 0, 0), id="all-train"),
        pytest.param(10, 0.1, 0.0, (1, 0, 9), id="no-validation-share"),
    ],
)
def test_the_split_is_exact_per_class(
    tmp_path: Path, count: int, train: float, validation: float, sizes: tuple[int, int, int]
) -> None:
    found = ImageFolder(make(tmp_path, {"a": count, "b": count + 20}))
    parts = found.split(train, validation, seed=3)
    assert tuple(p.counts()["a"] for p in parts) == sizes
    files = [f for p in parts for f in p.files]
    assert sorted(files) == list(found.files)
    assert all(p.classes == found.classes and list(p.files) == sorted(p.files) for p in parts)


def test_the_split_is_random_by_seed_and_by_class(tmp_path: Path) -> None:
    found = ImageFolder(make(tmp_path, {"a": 15, "b": 15}))
    assert found.split(seed=1)[0].files == found.split(seed=1)[0].files
    assert found.split(seed=1)[0].files != found.split(seed=2)[0].files
    in_a, in_b = ([p.name for p in found.split(seed=1)[0].files if p.parent.name == c] for c in "ab")
    assert in_a != in_b
    alone = ImageFolder(tmp_path, ["a"]).split(seed=1)[0]
    assert [p.name for p in alone.files] == in_a


@pytest.mark.parametrize(("train", "validation"), [(0.8, 0.3), (-0.1, 0.5), (1.1, 0.0)])
def test_shares_are_checked(tmp_path: Path, train: float, validation: float) -> None:
    with pytest.raises(UsageError, match="at most 1 in sum"):
        ImageFolder(make(tmp_path, {"a": 3})).split(train, validation)


def test_multi_label_pictures_split_by_combination() -> None:
    targets = np.array([[1, 0], [1, 1], [0, 1]] * 10, np.float32)
    files = tuple(Path(f"{i}.png") for i in range(30))
    parts = Pictures(Path(), files, targets, ("x", "y"), "labels").split(seed=0)
    assert [len(p) for p in parts] == [21, 6, 3]
    assert [p.counts() for p in parts] == [{"x": 14, "y": 14}, {"x": 4, "y": 4}, {"x": 2, "y": 2}]


def test_ready_made_sets(tmp_path: Path) -> None:
    assert ready_made(make(tmp_path / "one", {"a": 1, "train": 1})) is None
    make(tmp_path / "train", {"a": 3, "b": 2})
    make(tmp_path / "val", {"b": 2})
    made = ready_made(tmp_path)
    assert made is not None
    train, validation, test = made
    assert (train.classes, train.targets.tolist()) == (("a", "b"), [0, 0, 0, 1, 1])
    assert validation is not None
    assert (validation.classes, validation.targets.tolist()) == (("a", "b"), [1, 1])
    assert test is None
    make(tmp_path / "test", {"c": 1})
    with pytest.raises(InputError, match="class 'c'"):
        ready_made(tmp_path)


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        pytest.param({}, "no sub-folders", id="no-classes"),
        pytest.param({"a": 2, "b": 0}, "no pictures", id="empty-class"),
        pytest.param(None, "No such file", id="missing"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, folders: dict[str, int] | None, reason: str) -> None:
    root = tmp_path / "missing" if folders is None else make(tmp_path, folders)
    with pytest.raises(InputError, match=reason):
        ImageFolder(root)


def test_the_sheet_shows_sixteen_by_seed(tmp_path: Path) -> None:
    found = ImageFolder(make(tmp_path / "data", {"a": 12, "b": 12}))
    found.files[3].write_bytes(b"broken")
    shown = preview(found, tmp_path / "sheet.png", seed=5)
    assert len(shown) == 16
    assert all(Path(path).parent.name == label for path, label in shown)
    with Image.open(tmp_path / "sheet.png") as image:
        # rows of 4:3 pictures 180 high, and one as high as the square in place of the broken one
        assert image.size == (14 + 4 * 254, 14 + 3 * 264 + 324)
    assert shown == preview(found, tmp_path / "again.png", seed=5)
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert shown != preview(found, tmp_path / "other.png", seed=6)
    assert len(preview(found, tmp_path / "all.png", 100)) == 24


@pytest.mark.parametrize(
    ("name", "n", "error"),
    [("sheet.jpg", 16, UsageError), ("sheet.png", 0, UsageError), ("sheet.png", 401, UsageError),
     ("data/a/00.png/sheet.png", 16, OutputError)],
)  # fmt: skip
def test_sheets_that_cannot_be(tmp_path: Path, name: str, n: int, error: type[Exception]) -> None:
    found = ImageFolder(make(tmp_path / "data", {"a": 2}))
    with pytest.raises(error):
        preview(found, tmp_path / name, n)
