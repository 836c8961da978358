"""URLs in place of files, against a server on this machine."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netferry
from netferry.api.remote import Transfers
from netferry.errors import InputError, LimitExceeded, MissingExtra, OutputError, UsageError
from netferry.schemas.remote import is_url, name_of, shown
from tests.shared import REPOSITORY

pytest.importorskip("fsspec", reason="needs the extra 'remote'")
pytest.importorskip("aiohttp", reason="needs the extra 'remote'")
FIXTURES = REPOSITORY / "fixtures"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; PUT stores, but for names with 'locked'."""

    def log_message(self, *_: object) -> None: ...

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"] or 0)) if "Content-Length" in self.headers else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if "locked" in self.path:
            self.send_response(403)
        else:
            place = Path(self.translate_path(self.path))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    for file in [*FIXTURES.glob("digits*"), *FIXTURES.glob("digit_*.png")]:
        (folder / file.name).write_bytes(file.read_bytes())
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=str(folder)))
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}", folder
    made.shutdown()
    thread.join()
    made.server_close()


def test_convert_reads_and_writes_urls(server: tuple[str, Path]) -> None:
    url, folder = server
    report = netferry.convert(
        f"{url}/digits.prototxt", f"{url}/made.onnx", f"{url}/digits.caffemodel", report=f"{url}/report.json",
        labels=f"{url}/digits_labels.txt", mean_file=f"{url}/digits_mean.binaryproto", external_data=True,
    )  # fmt: skip
    assert sorted(o["file"] for o in report["outputs"]) == [f"{url}/made.onnx", f"{url}/made.onnx.data"]
    assert json.loads((folder / "report.json").read_text()) == report
    assert [f["file"] for f in report["source"]["files"]][:2] == [f"{url}/digits.prototxt", f"{url}/digits.caffemodel"]
    # the weights beside the file come along when it is read again
    found = netferry.predict(f"{url}/made.onnx", [f"{url}/digit_7_09.png", f"{url}/digit_5_*.png"], scale=[1 / 256])
    names = [p["item"] for p in found["predictions"]]
    assert names == [f"{url}/digit_{n}.png" for n in ("7_09", "5_01", "5_11", "5_12")]
    assert [p["top"][0]["label"] for p in found["predictions"]] == ["seven", "five", "five", "five"]


def test_nothing_is_sent_where_the_work_fails(server: tuple[str, Path]) -> None:
    url, folder = server
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(netferry.NetferryError):
        netferry.convert(f"{url}/digits.prototxt", f"{url}/made.onnx", report=f"{url}/report.json")
    assert sorted(p.name for p in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        pytest.param("/nothing.prototxt", "/o.onnx", InputError, "no such file", id="missing"),
        pytest.param("/digits.prototxt", "/locked.onnx", OutputError, "locked.onnx", id="not-writable"),
    ],
)
def test_errors_name_the_url(
    server: tuple[str, Path], source: str, target: str, error: type[Exception], message: str
) -> None:
    url, _ = server
    with pytest.raises(error) as raised:
        netferry.convert(url + source, url + target, f"{url}/digits.caffemodel")
    assert message in str(raised.value)
    assert url in str(raised.value)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(InputError, match="transfer failed"), Transfers() as files:
        files.input("http://127.0.0.1:9/net.onnx")


def test_downloads_are_bounded(server: tuple[str, Path]) -> None:
    with pytest.raises(LimitExceeded, match="bytes would be fetched"), Transfers(limit=1000) as files:
        files.input(f"{server[0]}/digits.caffemodel")


def test_fetched_files_are_gone_afterwards(server: tuple[str, Path]) -> None:
    with Transfers() as files:
        local = files.input(f"{server[0]}/digits.prototxt")
        assert local.read_bytes() == (FIXTURES / "digits.prototxt").read_bytes()
    assert not local.parent.exists()


def test_file_urls(tmp_path: Path) -> None:
    target = tmp_path / "a b" / "net.onnx"
    netferry.convert(
        (FIXTURES / "digits.prototxt").as_uri(), target.as_uri(), (FIXTURES / "digits.caffemodel").as_uri()
    )
    assert target.stat().st_size > 10_000


@pytest.mark.parametrize("url", ["ssh://host/x.onnx", "http://x/y::ssh://z", "file://host/x", "ftp://h/x"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(UsageError), Transfers() as files:
        files.input(url)


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/x.onnx", "s3fs"), ("gs://bucket/x.onnx", "gcsfs")])
def test_a_missing_package_is_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=package) as raised, Transfers() as files:
        files.input(url)
    assert raised.value.hint == "pip install 'netferry[remote]'"


def test_secrets_are_not_shown() -> None:
    assert shown("https://me:secret@host/a/b.onnx?X-Amz-Signature=1#x") == "https://host/a/b.onnx"
    assert name_of("https://host/a/b%20c.onnx?sig=1") == "b c.onnx"
    assert name_of("https://host/%2e%2e") == "download"
    assert is_url("s3://b/k")
    assert not is_url(r"C:\x")
    assert not is_url(Path("a"))


def test_object_stores_have_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through fsspec's file system in memory: what s3 and gs do beyond http."""
    import fsspec

    monkeypatch.setattr("netferry.schemas.remote.SCHEMES", ("memory",))
    store: Any = fsspec.filesystem("memory")
    store.pipe({"/bucket/pictures/a/x.png": b"1", "/bucket/pictures/b/y.png": b"22"})
    with Transfers() as files:
        folder = files.input("memory://bucket/pictures")
        assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")} == {
            "a/x.png": b"1", "b/y.png": b"22",
        }  # fmt: skip
        assert files.named({"item": folder / "a" / "x.png"}) == {"item": "memory://bucket/pictures/a/x.png"}
        files.output("memory://bucket/made/deep/r.json").write_text("{}")
    assert store.cat("/bucket/made/deep/r.json") == b"{}"
    store.rm("/bucket", recursive=True)


def test_the_command_line_takes_urls(server: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = server
    done = subprocess.run(
        [sys.executable, "-m", "netferry", "convert", f"{url}/digits.prototxt", f"{url}/digits.caffemodel"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(REPOSITORY), "PATH": "/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digits.onnx").exists()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """fsspec's file system in memory: it lists, as s3 and gs do."""
    import fsspec

    monkeypatch.setattr("netferry.schemas.remote.SCHEMES", ("memory",))
    made: Any = fsspec.filesystem("memory")
    yield made
    if made.exists("/bucket"):
        made.rm("/bucket", recursive=True)


@pytest.mark.parametrize("small", [1 << 20, 1000], ids=["models-come", "models-stay"])
def test_packages_in_a_store_count_up(small: int, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netferry.api.remote_folder.SMALL", small)
    net = (FIXTURES / "digits.prototxt", "memory://bucket/repository", FIXTURES / "digits.caffemodel")
    store.pipe({"/bucket/repository/other/config.pbtxt": b"theirs", "/bucket/repository/digits/notes.txt": b"mine"})
    with pytest.raises(OutputError, match="not netferry's"):
        netferry.package(*net, to="triton", check="structure")
    store.rm("/bucket/repository/digits/notes.txt")
    first = netferry.package(*net, to="triton", check="structure")
    assert [u["folder"] for u in first["units"]] == ["memory://bucket/repository/digits"]
    model = store.cat("/bucket/repository/digits/1/model.onnx")
    again = netferry.package(*net, to="triton", check="structure")
    assert [u["unchanged"] for u in again["units"]] == [True]
    second = netferry.package(*net, to="triton", check="structure", init=3, batch=2)
    assert [u["version"] for u in second["units"]] == [2]
    files = {name.removeprefix("/bucket/repository/") for name in store.find("/bucket/repository")}
    assert files == {
        "other/config.pbtxt", "digits/config.pbtxt", "digits/netferry.json",
        "digits/1/model.onnx", "digits/2/model.onnx",
    }  # fmt: skip
    assert store.cat("/bucket/repository/digits/1/model.onnx") == model
    assert store.cat("/bucket/repository/other/config.pbtxt") == b"theirs"


def test_a_plain_folder_in_a_store(store: Any) -> None:
    netferry.package(FIXTURES / "digits.prototxt", "memory://bucket/served", FIXTURES / "digits.caffemodel",
                     to="dir", check="structure")  # fmt: skip
    assert {n.rpartition("/")[2] for n in store.find("/bucket/served")} == {"model.onnx", "netferry.json"}
    netferry.package(FIXTURES / "digits.prototxt", "memory://bucket/served", FIXTURES / "digits.caffemodel",
                     to="dir", check="structure", labels=FIXTURES / "digits_labels.txt")  # fmt: skip
    assert {n.rpartition("/")[2] for n in store.find("/bucket/served")} == {"model.onnx", "netferry.json", "labels.txt"}


def test_a_package_cannot_go_to_a_plain_web_server(server: tuple[str, Path]) -> None:
    with pytest.raises(UsageError, match="can list"):
        netferry.package(f"{server[0]}/digits.prototxt", f"{server[0]}/out", f"{server[0]}/digits.caffemodel", to="dir")


# outputs of every verb -----------------------------------------------------------------------------------------

READING: dict[str, Any] = {
    "weights": FIXTURES / "digits.caffemodel",
    "labels": FIXTURES / "digits_labels.txt",
    "mean_file": FIXTURES / "digits_mean.binaryproto",
    "recipe": {"scale": (1 / 256,)},
}


@pytest.fixture
def digits(server: tuple[str, Path]) -> str:
    """The URL of the digits net as ONNX."""
    url, folder = server
    netferry.convert(FIXTURES / "digits.prototxt", folder / "net.onnx", check="structure", **READING)
    return f"{url}/net.onnx"


def _features(net: str, data: str, out: str) -> Any:
    return netferry.features(net, data, f"{out}/f.npz", layers=["ip1"])


def _predictions(net: str, data: str, out: str) -> Any:
    return netferry.predict(net, data, output=f"{out}/p.csv", out_raw=f"{out}/raw.npz", annotate=f"{out}/sheet.png")


def _evaluation(net: str, data: str, out: str) -> Any:
    return netferry.evaluate(net, data, out=f"{out}/evaluation")


def _comparison(net: str, data: str, out: str) -> Any:
    return netferry.compare([net, net], data=data, out=f"{out}/comparison", repeats=1)


def _map(net: str, data: str, out: str) -> Any:
    return netferry.visualize(net, [data], kind="map", out=f"{out}/map.png")


def _mosaics(net: str, data: str, out: str) -> Any:
    return netferry.visualize(net, [data], layer="conv1", out=f"{out}/seen")


def _head(net: str, data: str, out: str) -> Any:
    netferry.features(net, data, f"{out}/learn.npz", layers=["ip1"])
    return netferry.train_head(net, None, f"{out}/mine.onnx", on=f"{out}/learn.npz", classifier="knn", neighbors=1,
                               seeds=0, folds=0)  # fmt: skip


def _merged(net: str, data: str, out: str) -> Any:
    for n in (1, 2):
        netferry.features(net, data, f"{out}/{n}.npy", layers=["ip1"], shard=f"{n}/2")
    return netferry.merge_features([f"{out}/1.npy", f"{out}/2.npy"], f"{out}/all.npy")


VERBS = {
    _features: ["f.npz", "f.npz.json"],
    _predictions: ["p.csv", "raw.npz", "raw.npz.json", "sheet.png"],
    _evaluation: [f"evaluation/{n}" for n in ("calibration.png", "confusion.csv", "confusion.png", "per_class.csv",
                                              "report.json")],
    _comparison: [f"comparison/comparison.{n}" for n in ("csv", "json", "png", "svg")],
    _map: ["map.csv", "map.png"],
    _mosaics: [f"seen/{n:03d}-" for n in range(12)],
    _head: ["learn.npz", "learn.npz.json", "mine.onnx"],
    _merged: [f"{n}.npy{s}" for n in ("1", "2", "all") for s in ("", ".json", ".rows.csv")],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.__name__[1:])
def test_every_verb_reads_and_writes_urls(
    verb: Any, server: tuple[str, Path], digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETFERRY_CACHE", str(tmp_path / "cache"))
    url, folder = server
    result = verb(digits, f"{url}/digits.csv", f"{url}/out")
    made = sorted(p.relative_to(folder / "out").as_posix() for p in (folder / "out").rglob("*") if p.is_file())
    assert [name[: len(w)] for name, w in zip(made, VERBS[verb], strict=True)] == VERBS[verb]
    text = json.dumps(result, default=str)
    assert "/netferry-" not in text  # no folder of this machine
    assert f"{url}/out/" in text
    for name in made:
        if name.endswith(".json"):
            assert "/netferry-" not in (folder / "out" / name).read_text(), name
    assert not list((tmp_path / "cache").rglob("*.npz"))


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.__name__[1:])
def test_no_verb_sends_half_of_its_outputs(
    verb: Any, server: tuple[str, Path], digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data breaks off in the middle."""
    monkeypatch.setenv("NETFERRY_CACHE", str(tmp_path / "cache"))
    url, folder = server
    (folder / "digit_7_09.png").write_bytes(b"broken")
    with pytest.raises(netferry.NetferryError):
        verb(digits, f"{url}/digits.csv", f"{url}/out")
    assert not [name for name in VERBS[verb][-1:] if (folder / "out" / name).exists()]
    assert verb in (_merged, _head) or not (folder / "out").exists()


@pytest.mark.parametrize(
    ("rows", "root"),
    [
        pytest.param("digit_7_09.png,7\na%20b/x y.png,5\n", None, id="beside-the-index"),
        pytest.param("{url}/digit_7_09.png,7\n", None, id="whole-urls-of-that-server"),
        pytest.param("../digit_7_09.png,7\n", "{url}/deep/", id="another-root"),
    ],
)
def test_an_index_names_pictures_beside_it(
    rows: str, root: str | None, server: tuple[str, Path], digits: str, tmp_path: Path
) -> None:
    """Fetched when their turn comes; names are quoted; the index may be here with its pictures there."""
    url, folder = server
    (folder / "a%20b").mkdir()
    (folder / "a%20b" / "x y.png").write_bytes((FIXTURES / "digit_5_01.png").read_bytes())
    place = folder if root is None else tmp_path
    (place / "rows.csv").write_text("path,label\n" + rows.format(url=url))
    data = f"{url}/rows.csv" if root is None else tmp_path / "rows.csv"
    options = {"root": root.format(url=url)} if root else None
    found = netferry.predict(digits, data, data_options=options, top=1)["predictions"]
    assert [p["top"][0]["class"] for p in found] == [7, 5][: rows.count("\n")]
    assert found[0]["item"] == f"{url}/digit_7_09.png"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("http://127.0.0.1:9/x.png", "lies elsewhere", id="another-server"),
        pytest.param("file:///etc/hostname", "lies elsewhere", id="a-file-of-this-machine"),
        pytest.param("missing.png", "no such file", id="missing"),
    ],
)
def test_an_index_reaches_no_other_place(row: str, message: str, server: tuple[str, Path], digits: str) -> None:
    url, folder = server
    (folder / "rows.csv").write_text(f"path\n{row}\n")
    with pytest.raises(InputError, match=message) as raised:
        netferry.predict(digits, f"{url}/rows.csv")
    assert (row if "://" in row else f"{url}/{row}") in str(raised.value)
    (folder / "local.csv").write_text(f"path\n{row}\n")
    with pytest.raises(InputError, match="is a URL" if "://" in row else message):
        netferry.predict(folder / "net.onnx", folder / "local.csv")  # nobody gave an address


def test_a_killed_run_goes_on_though_its_output_is_elsewhere(
    server: tuple[str, Path], digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETFERRY_CACHE", str(tmp_path / "cache"))
    url, folder = server
    whole = (folder / "digit_7_09.png").read_bytes()
    (folder / "digit_7_09.png").write_bytes(b"broken")
    arguments: dict[str, Any] = {"layers": ["ip1"], "batch_size": 2, "workers": 1}
    with pytest.raises(InputError):
        netferry.features(digits, f"{url}/digits.csv", f"{url}/f.npz", **arguments)
    (folder / "digit_7_09.png").write_bytes(whole)
    counted: list[int] = []
    netferry.features(digits, f"{url}/digits.csv", f"{url}/f.npz", progress=counted.append, **arguments)
    assert counted[0] >= 8  # what was there already comes in one piece
    netferry.features(digits, f"{url}/digits.csv", tmp_path / "g.npz", **arguments)
    assert (folder / "f.npz").read_bytes() == (tmp_path / "g.npz").read_bytes()
    assert not list((tmp_path / "cache" / "unfinished").iterdir())


def test_a_picture_that_comes_in_pieces_is_whole(
    server: tuple[str, Path], digits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    def slowly(self: Handler, source: Any, target: Any) -> None:
        content = source.read()
        for start in range(0, len(content), max(1, len(content) // 3)):
            target.write(content[start : start + max(1, len(content) // 3)])
            target.flush()
            time.sleep(0.05)

    monkeypatch.setattr(Handler, "copyfile", slowly)
    found = netferry.predict(digits, f"{server[0]}/digits.csv", top=1)["predictions"]
    named = {Path(p["item"]).name: p["top"][0]["class"] for p in found}
    assert {name: int(name[6]) for name in named} == named
    assert len(named) == 12


def test_a_folder_of_outputs_goes_to_a_store(store: Any, tmp_path: Path) -> None:
    netferry.convert(FIXTURES / "digits.prototxt", tmp_path / "net.onnx", check="structure", **READING)
    for file in [FIXTURES / "digits.csv", *FIXTURES.glob("digit_*.png")]:
        store.pipe(f"/bucket/in/{file.name}", file.read_bytes())
    result = netferry.evaluate(tmp_path / "net.onnx", "memory://bucket/in/digits.csv", out="memory://bucket/out/e")
    assert result["top1"] == 1.0
    assert {n.rpartition("/")[2] for n in store.find("/bucket/out/e")} >= {"report.json", "confusion.png"}
    assert json.loads(store.cat("/bucket/out/e/report.json"))["data"] == ["memory://bucket/in/digits.csv"]


def test_numbered_shards_of_a_server_that_cannot_list(server: tuple[str, Path], digits: str) -> None:
    import tarfile

    url, folder = server
    for number, name in enumerate(["digit_7_09.png", "digit_5_01.png"]):
        with tarfile.open(folder / f"s-{number:02d}.tar", "w") as tar:
            tar.add(FIXTURES / name, name)
    found = netferry.predict(digits, f"{url}/s-{{00..01}}.tar", top=1)["predictions"]
    assert [(p["item"], p["top"][0]["class"]) for p in found] == [
        (f"{url}/s-00.tar/digit_7_09.png", 7), (f"{url}/s-01.tar/digit_5_01.png", 5),
    ]  # fmt: skip


@pytest.mark.parametrize("status", [403, 404])
def test_what_may_lie_beside_a_file_need_not(
    status: int, server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store answers 404, or 403 to whoever may not list it."""
    url, folder = server
    (folder / "f.npz").write_bytes(b"content")

    def answer(self: Handler) -> None:
        if self.path.endswith("npz"):
            http.server.SimpleHTTPRequestHandler.do_GET(self)
        else:
            self.send_error(status)

    monkeypatch.setattr(Handler, "do_GET", answer, raising=False)
    with Transfers() as files:
        local = files.input(f"{url}/f.npz", (".json", ".rows.csv"))
        assert [p.name for p in local.parent.iterdir()] == ["f.npz"]
