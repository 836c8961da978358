"""Pulling weights from a server that fails: right or a typed error, and never a bad file in the cache."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import random
import subprocess
import sys
import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import netferry
from netferry.errors import CheckFailed, DownloadFailed, NetferryError, UsageError
from netferry.schemas.ir import ir
from netferry.zoo.cache import Cache, cache_folder
from netferry.zoo.catalogue import Entry, entries, entry
from tests.converters.darknet.running import packed
from tests.converters.test_pca import written as write_pca
from tests.zoo.flaky import FAULTS, Flaky, serving

FLOAT = ir.DataType.FLOAT
CONTENT = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local server is reached directly unless a test says otherwise."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def made(url: str | None, **fields: Any) -> Entry:
    """A network whose weights are CONTENT."""
    known: dict[str, Any] = {"checksum": f"sha256:{SHA}", "bytes": len(CONTENT), "url": url, **fields}
    return replace(entry("squeezenet"), **known)


def cache(folder: Path, **settings: Any) -> Cache:
    return Cache(folder, **{"pause": 0.001, "timeout": 3.0, **settings})


def good(folder: Path) -> None:
    """Every file that counts as cached is the right one."""
    for record in folder.rglob("*.json"):
        if not record.name.endswith(".part.json"):
            assert json.loads(record.read_text())["sha256"] == SHA
    for file in folder.rglob("*.bin"):
        assert file.read_bytes() == CONTENT


FILES = [each for row in entries().values() for each in (*row.variants, row.postprocess) if each is not None]


@pytest.mark.parametrize("row", FILES, ids=lambda row: f"{row.name}-{row.variant}")
def test_the_catalogue_of_files(row: Entry) -> None:
    """Addresses of the web, checksums of the right length, each file under a name of its own."""
    assert all(urllib.parse.urlsplit(address).scheme in ("http", "https") for address in row.addresses)
    assert len({*row.addresses}) == len(row.addresses) > 0
    assert sum((each.name, each.file_name) == (row.name, row.file_name) for each in FILES) == 1
    assert (row.checksum is None) == (row.checksum_from is None)
    if row.checksum is not None:
        algorithm, _, hexes = row.checksum.partition(":")
        assert len(bytes.fromhex(hexes)) == hashlib.new(algorithm, usedforsecurity=False).digest_size


def test_checksums_of_keras_are_those_in_its_source() -> None:
    found = importlib.util.find_spec("keras")
    if found is None or not found.submodule_search_locations:
        pytest.skip("keras is not installed")
    folder = Path(found.submodule_search_locations[0]) / "src" / "applications"
    sources = "\n".join(file.read_text("utf-8") for file in folder.glob("*.py"))
    rows = [row for row in FILES if row.checksum_from == "Keras"]
    assert len(rows) == 9
    assert all(row.checksum and row.checksum.removeprefix("md5:") in sources for row in rows)


@pytest.mark.parametrize("seed", range(100))
def test_flaky_server(tmp_path: Path, seed: int) -> None:
    """Each row is one pull with its own faults; some have a published checksum, some the server's, some a validator."""
    rng = random.Random(seed)
    with serving(CONTENT) as server:
        server.plan = [rng.choice(FAULTS) for _ in range(rng.randrange(1, 9))]
        server.after = rng.choice(("none", "none", "none", *FAULTS))
        server.random = rng
        server.etag = rng.choice(('"v1"', 'W/"v1"', None))
        known = seed % 3 != 0
        server.digest = not known
        row = made(server.url) if known else made(server.url, checksum=None, bytes=rng.choice((None, len(CONTENT))))
        try:
            found = cache(tmp_path, tries=6).bring(row)
        except NetferryError as error:
            assert isinstance(error, DownloadFailed)
            assert error.hint
            assert not list(tmp_path.rglob("*.bin"))
        else:
            assert Path(found["file"]).read_bytes() == CONTENT
            assert found["sha256"] == SHA
        good(tmp_path)


def test_all_faults_but_one_end_well_with_enough_tries(tmp_path: Path) -> None:
    with serving(CONTENT) as server:
        server.plan = [f for f in FAULTS if f != "404"]
        assert cache(tmp_path, tries=len(FAULTS) + 3).bring(made(server.url))["sha256"] == SHA


def test_a_cut_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with serving(CONTENT) as server:
        server.plan = ["cut"]
        with pytest.raises(DownloadFailed, match="connection"):
            cache(tmp_path, tries=1).bring(made(server.url))
        part = next(tmp_path.rglob("*.part"))
        have = part.stat().st_size
        assert 0 < have < len(CONTENT)
        assert cache(tmp_path).bring(made(server.url))["sha256"] == SHA
        assert server.requests[-1]["range"] == f"bytes={have}-"
        assert not list(tmp_path.rglob("*.part*"))


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    with serving(CONTENT) as server:
        server.plan = ["cut"]
        with pytest.raises(DownloadFailed):
            cache(tmp_path, tries=1).bring(made(server.url, checksum=None))
        server.etag, server.digest = '"other"', True
        assert cache(tmp_path).bring(made(server.url, checksum=None))["sha256"] == SHA


def test_what_is_cached_is_not_fetched_again_and_rot_is_noticed(tmp_path: Path) -> None:
    with serving(CONTENT) as server:
        found = cache(tmp_path).bring(made(server.url))
        assert not found["from_cache"]
        assert found["checked_by"] == "published sha256"
        assert cache(tmp_path).bring(made(server.url))["from_cache"]
        assert len(server.requests) == 1
        file = Path(found["file"])
        file.write_bytes(CONTENT[:-1] + b"!")
        assert not cache(tmp_path).bring(made(server.url))["from_cache"]
        good(tmp_path)


def md5(content: bytes) -> str:
    """As servers tell it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


CRC = ("x-goog-hash", "crc32c=n03x6A==")
STORED = ("x-goog-stored-content-encoding", "gzip")


@pytest.mark.parametrize(
    ("headers", "checked_by"),
    [
        pytest.param([CRC, ("x-goog-hash", f"md5={md5(CONTENT)}")], "the server's md5 (x-goog-hash)", id="two-headers"),
        pytest.param(
            [("x-goog-hash", f"{CRC[1]},md5={md5(CONTENT)}")], "the server's md5 (x-goog-hash)", id="one-header"
        ),
        pytest.param([CRC, ("x-goog-component-count", "3")], "its length", id="made-of-several-objects"),
        pytest.param([], "its length", id="none"),
        pytest.param([STORED, ("x-goog-hash", f"md5={md5(b'packed')}")], "its length", id="decompressed-on-the-way"),
        pytest.param([("x-goog-hash", "md5=!!")], "its length", id="no-base64"),
        pytest.param([("Content-MD5", md5(CONTENT))], "the server's md5 (Content-MD5)", id="content-md5"),
    ],
)
def test_the_servers_digest_stands_in_for_a_published_one(
    tmp_path: Path, headers: list[tuple[str, str]], checked_by: str
) -> None:
    with serving(CONTENT) as server:
        server.headers = headers
        found = cache(tmp_path).bring(made(server.url, checksum=None))
    assert found["checked_by"] == checked_by
    record = json.loads((tmp_path / "zoo" / "squeezenet" / "weights.bin.json").read_text())
    assert record["checked_by"] == checked_by
    assert record["sha256"] == SHA
    told = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest() if "md5" in checked_by else None
    assert record["checksum"] == (told and f"md5:{told}")


def test_a_file_without_the_servers_digest_never_counts(tmp_path: Path) -> None:
    with serving(CONTENT) as server:
        server.headers = [CRC, ("x-goog-hash", f"md5={md5(b'another')}")]
        with pytest.raises(DownloadFailed, match="the server's own md5"):
            cache(tmp_path).bring(made(server.url, checksum=None))
        assert len(server.requests) == 2  # twice the same: it is what lies there
        server.plan = ["flip"]
        server.headers = [("x-goog-hash", f"md5={md5(CONTENT)}")]
        assert cache(tmp_path).bring(made(server.url, checksum=None))["sha256"] == SHA
        assert [r["fault"] for r in server.requests[2:]] == ["flip", "none"]
        good(tmp_path)


def test_content_md5_of_a_part_is_not_that_of_the_file(tmp_path: Path) -> None:
    """It is the digest of what comes (RFC 1864), x-goog-hash that of the object."""
    with serving(CONTENT) as server:
        server.plan, server.headers = ["cut"], [("Content-MD5", md5(b"the rest"))]
        found = cache(tmp_path).bring(made(server.url, checksum=None))
        assert server.requests[-1]["range"] is not None
    assert found["checked_by"] == "its length"


def test_without_a_published_checksum_the_first_file_counts(tmp_path: Path) -> None:
    other = b"!" + CONTENT[1:]
    with serving(CONTENT) as server:
        row = made(server.url, checksum=None)
        file = Path(cache(tmp_path).bring(row)["file"])
        server.content, server.etag = other, '"v2"'
        assert cache(tmp_path).bring(row)["from_cache"]  # nobody asked
        file.unlink()
        with pytest.raises(DownloadFailed, match="first download's sha256") as caught:
            cache(tmp_path).bring(row)
        assert "--refresh" in str(caught.value.hint)
        assert not file.exists()
        server.content, server.etag = CONTENT, '"v1"'
        assert cache(tmp_path).bring(row)["checked_by"] == "the first download's sha256"
        server.content, server.etag = other, '"v2"'
        found = cache(tmp_path).bring(row, refresh=True)
        assert found["sha256"] == hashlib.sha256(other).hexdigest()
        by_hand = tmp_path / "by_hand.bin"
        by_hand.write_bytes(CONTENT)
        with pytest.raises(CheckFailed, match="pulled first") as by_hand_caught:
            cache(tmp_path).bring(row, file=by_hand)
        assert "--refresh" in str(by_hand_caught.value.hint)
        assert cache(tmp_path).bring(row, file=by_hand, refresh=True)["checked_by"] == "given by hand"
        assert file.read_bytes() == CONTENT  # under its official name
        assert cache(tmp_path).bring(row)["from_cache"]


def test_a_refresh_that_fails_leaves_what_is_there(tmp_path: Path) -> None:
    with serving(CONTENT) as server:
        row = made(server.url, checksum=None)
        cache(tmp_path).bring(row)
        server.after = "500"
        with pytest.raises(DownloadFailed):
            cache(tmp_path, tries=2).bring(row, refresh=True)
        assert cache(tmp_path).bring(row)["from_cache"]
        good(tmp_path)


def test_what_was_pulled_before_a_checksum_was_published_must_have_it(tmp_path: Path) -> None:
    with serving(b"!" + CONTENT[1:]) as server:
        cache(tmp_path).bring(made(server.url, checksum=None))
        server.content = CONTENT
        assert cache(tmp_path).bring(made(server.url))["checked_by"] == "published sha256"
        good(tmp_path)


def test_a_web_page_is_no_weights(tmp_path: Path) -> None:
    """What servers give in the place of a file that has gone: their front page, with status 200."""
    with serving(b"<!DOCTYPE html>" + CONTENT) as gone, serving(CONTENT) as server:
        gone.headers = [("Content-Type", "text/html; charset=utf-8")]
        row = made(gone.url, checksum=None, bytes=None, also=(server.url,))
        assert cache(tmp_path).bring(row)["source"] == server.url
        assert len(gone.requests) == 1
        with pytest.raises(DownloadFailed, match="a web page"):
            cache(tmp_path).bring(made(gone.url), refresh=True)


def test_mirrors_come_first_and_a_bad_one_does_no_harm(tmp_path: Path) -> None:
    with serving(b"!" + CONTENT[1:]) as wrong, serving(CONTENT) as right:
        found = cache(tmp_path, tries=2).bring(made(right.url), mirrors=[wrong.url.rsplit("/", 1)[0] + "/"])
        assert found["source"] == right.url
        assert [r["path"] for r in wrong.requests] == ["/weights.bin"] * 2
        good(tmp_path)


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CONTENT) as server:
        monkeypatch.setenv("http_proxy", server.url.rsplit("/", 1)[0])
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert cache(tmp_path).bring(made("http://weights.invalid/weights.bin"))["sha256"] == SHA
        assert server.requests[0]["path"] == "http://weights.invalid/weights.bin"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "gopher://x", "/etc/passwd"])
def test_only_web_addresses(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError):
        cache(tmp_path).bring(made(None), mirrors=[url])


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="cannot be reached") as caught:
        cache(tmp_path, tries=2).bring(made("http://127.0.0.1:9/weights.bin"))
    assert caught.value.exit_code == 3
    assert "--file" in str(caught.value.hint)


def test_a_server_that_announces_too_much_is_not_listened_to(tmp_path: Path) -> None:
    row = made(None, checksum=None, bytes=None, parameters=1000)
    with serving(bytes(80 << 20)) as server:
        with pytest.raises(DownloadFailed, match="more than"):
            cache(tmp_path).bring(replace(row, url=server.url))
        assert len(server.requests) == 1
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 1000


def test_two_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.zoo.test_pull import made, cache, SHA\n"
        "from pathlib import Path\n"
        "found = cache(Path(sys.argv[1])).bring(made(sys.argv[2]))\n"
        "assert found['sha256'] == SHA\n"
        "print(found['from_cache'])\n"
    )
    with serving(CONTENT) as server:
        server.plan = ["cut", "flip"]
        command = [sys.executable, "-c", code, str(tmp_path), server.url]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        said = sorted(child.communicate(timeout=120)[0].strip() for child in children)
        assert [child.returncode for child in children] == [0, 0, 0]
        assert said == ["False", "True", "True"]
        assert len(server.requests) == 3
        good(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("a file where the folder should be")
    with serving(CONTENT) as server, pytest.raises(NetferryError) as caught:
        cache(tmp_path).bring(made(server.url))
    assert caught.value.exit_code == 12


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETFERRY_CACHE", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there"
    assert cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("NETFERRY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "xdg" / "netferry"


def darknet19_weights(scale: float) -> bytes:
    """A weights file of Darknet-19's size."""
    model = netferry.zoo.load("darknet19")
    sizes = [v.const_value.size for v in model.parameters(None).values() if v.const_value and v.dtype == FLOAT]
    count = sum(sizes)
    return packed([np.full(count, scale, np.float32)])


def test_pull_darknet_weights_read_and_written(tmp_path: Path) -> None:
    """The whole way for a network without a published checksum: fetched, read, counted, written as ONNX."""
    weights = darknet19_weights(0.01)
    with serving(weights) as server:
        server.plan = ["cut", "500", "cut"]
        result = netferry.zoo.pull("darknet19", cache=tmp_path, mirrors=[server.url], output=tmp_path / "d.onnx")
    assert result["checked_by"] == "reading it"
    model = netferry.load(tmp_path / "d.onnx")
    assert len(model.labels["layer_25"]) == 1000
    again = netferry.zoo.load("darknet19", weights="published", cache=tmp_path)
    assert len(again.parameters()) == len(model.parameters())


def variants(first: Flaky, second: Flaky) -> Entry:
    """A network with two publications: one that ends in ``weights.bin``, one in ``other.bin``."""
    row = made(first.url, variant="caffe")
    place = second.url.rsplit("/", 1)[0]
    other = replace(row, url=f"{place}/other.bin", checksum=None, bytes=None, variant="keras", format="keras")
    return replace(row, others={"keras": other})


def test_the_next_variant_is_taken_where_the_first_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(CONTENT) as first, serving(CONTENT[:999]) as second:
        row = variants(first, second)
        monkeypatch.setattr("netferry.zoo.catalogue.entries", lambda: {"squeezenet": row})
        pull = netferry.zoo.pull
        first.after = "404"
        found = pull("squeezenet", cache=tmp_path, check=False)
        assert (found["variant"], found["bytes"], found["checked_by"]) == ("keras", 999, "its length")
        assert "404" in found["passed_over"][0]
        assert found["variants"] == ["caffe", "keras"]
        asked = len(first.requests)
        again = pull("squeezenet", cache=tmp_path, check=False)  # what is here comes first
        assert (again["variant"], again["from_cache"], len(first.requests)) == ("keras", True, asked)
        with pytest.raises(DownloadFailed, match="404"):
            pull("squeezenet", cache=tmp_path, check=False, variant="caffe")
        shown = netferry.zoo.show("squeezenet", cache=tmp_path)
        assert [(k["variant"], Path(k["file"]).name) for k in shown["cached"]] == [("keras", "other.bin")]
        first.after, second.after = "none", "404"
        assert pull("squeezenet", cache=tmp_path, check=False, refresh=True)["variant"] == "caffe"
        first.after = "404"
        with pytest.raises(DownloadFailed, match=r"(?s)caffe: .*404.*keras: .*404"):
            pull("squeezenet", cache=tmp_path / "empty", check=False)
    with pytest.raises(UsageError, match="variant"):
        netferry.zoo.pull("squeezenet", cache=tmp_path, variant="torch")


def test_the_second_file_of_vggish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The PCA's parameters: published ones come into the cache as weights do, others from anywhere."""
    write_pca(tmp_path / "pca.npz")
    params = (tmp_path / "pca.npz").read_bytes()
    row = entry("vggish")
    assert row.postprocess is not None
    with serving(params) as server:
        folder = server.url.rsplit("/", 1)[0] + "/"
        second = replace(row.postprocess, checksum=f"sha256:{hashlib.sha256(params).hexdigest()}")
        row = replace(row, checksum=None, postprocess=second)
        monkeypatch.setattr("netferry.zoo.catalogue.entries", lambda: {"vggish": row})
        model = netferry.zoo.load("vggish", postprocess="published", cache=tmp_path / "c", mirrors=[folder])
        assert [(o.name, o.dtype, o.shape) for o in model.outputs] == [("postprocess", "uint8", ("batch", 128))]
        assert [r["path"] for r in server.requests] == ["/vggish_pca_params.npz"]
        shown = netferry.zoo.show("vggish", cache=tmp_path / "c")
        assert [(k["variant"], k["checked_by"]) for k in shown["cached"]] == [("postprocess", "published sha256")]
        pulled = netferry.zoo.pull(
            "vggish", postprocess="published", cache=tmp_path / "c", mirrors=[folder], check=False
        )
        assert Path(pulled["postprocess"]).read_bytes() == params
        assert Path(pulled["file"]).name == "vggish_model.ckpt"
    elsewhere = netferry.zoo.load("vggish", postprocess=(tmp_path / "pca.npz").as_uri())
    assert elsewhere.outputs[0].dtype == "uint8"
    with pytest.raises(UsageError, match="offline"):
        netferry.zoo.build("vggish", tmp_path / "v.onnx", postprocess="published")


def test_nothing_comes_behind_other_networks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="squeezenet"):
        netferry.zoo.load("squeezenet", postprocess="published", cache=tmp_path)


def test_weights_of_another_network_never_count(tmp_path: Path) -> None:
    with serving(darknet19_weights(0.01)[:-400]) as server, pytest.raises(DownloadFailed, match=r"need|left over"):
        netferry.zoo.pull("darknet19", cache=tmp_path, mirrors=[server.url, server.url])
    assert not list(tmp_path.rglob("*.weights"))


def test_a_file_by_hand(tmp_path: Path) -> None:
    right, wrong = tmp_path / "d.weights", tmp_path / "w.weights"
    right.write_bytes(darknet19_weights(0.02))
    wrong.write_bytes(right.read_bytes()[:1000])
    with pytest.raises(NetferryError) as caught:
        netferry.zoo.pull("darknet19", cache=tmp_path / "c", file=wrong)
    assert caught.value.exit_code == 8
    assert netferry.zoo.pull("darknet19", cache=tmp_path / "c", file=right)["checked_by"] == "given by hand"
    with pytest.raises(CheckFailed, match="sha256"):
        netferry.zoo.pull("squeezenet", cache=tmp_path / "c", file=right)
    again = netferry.zoo.pull("darknet19", cache=tmp_path / "c")  # found without --file, too
    assert (again["from_cache"], again["source"]) == (True, str(right))


@pytest.mark.parametrize(("content", "error"), [(None, "no such file"), (b"\0" * 4000, "need")], ids=["none", "short"])
def test_errors_name_the_file_that_was_given(tmp_path: Path, content: bytes | None, error: str) -> None:
    """Not the definition, which lies in a temporary folder."""
    given = tmp_path / "mine.weights"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(NetferryError, match=error) as caught:
        netferry.zoo.load("darknet19", weights=given)
    assert caught.value.file == str(given)
    assert (content is None) != ("no weights of darknet19" in str(caught.value.hint))


def test_a_file_by_hand_tells_the_variant_by_its_format(tmp_path: Path) -> None:
    """Each is held against the checksum that is published of its own kind."""
    caffe, keras = tmp_path / "r.caffemodel", tmp_path / "r.h5"
    caffe.write_bytes(b"\x0a\x08ResNet-1")
    with h5py.File(keras, "w") as file:
        file.attrs["layer_names"] = [b"conv1_conv"]
    for given, algorithm in ((caffe, "sha256"), (keras, "md5")):
        with pytest.raises(CheckFailed, match=f"published {algorithm}"):
            netferry.zoo.pull("resnet101", cache=tmp_path / "c", file=given)
