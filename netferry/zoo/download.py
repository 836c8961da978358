"""Downloads that resume: one file from one of several addresses into one place, whole and right or not at all.

Every byte count is checked; a file counts as right by its published checksum, else by the digest that the server tells
(``Repr-Digest``, ``Content-MD5``, ``x-goog-hash``), by being what came the first time, and by the caller's own check.
Proxies: the environment's.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netferry.errors import DownloadFailed, NetferryError, OutputError, UsageError, quoted
from netferry.zoo.digests import Told, digest, told_by

_CHUNK = 1 << 18
Progress = Callable[[int, int | None], None]


class _Bad(Exception):
    """One try did not work; the reason is for people. ``final``: the address need not be tried again.

    ``content``: the digest of a whole file that is wrong; where it comes twice, the file there is the wrong one.
    """

    def __init__(self, reason: str, *, final: bool = False, content: str | None = None) -> None:
        super().__init__(reason)
        self.final, self.content = final, content


@dataclass(frozen=True)
class Wanted:
    """What is downloaded.

    Attributes:
        bytes: its size, where known.
        checksum: ``algorithm:hex``, where known.
        most: a larger file is not it.
        first: the SHA-256 of what came the first time, where no checksum is published.
        check: reads the file and raises where it is not the right one.
    """

    bytes: int | None
    checksum: str | None
    most: int
    first: str | None = None
    check: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Got:
    """A download that is right: its address, what vouches for it, and the checksum (``algorithm:hex``) that did."""

    url: str
    vouched: str
    checksum: str | None


def download(
    urls: Sequence[str],
    part: Path,
    wanted: Wanted,
    *,
    tries: int = 5,
    pause: float = 0.5,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> Got:
    """Fetch a file into ``part``, which keeps what has arrived when this fails or is interrupted.

    Args:
        urls: addresses, the first that works is taken.
        tries: how often each address is tried; a try goes on where the last one stopped.
        pause: seconds before the second try, doubled for each further one.
        timeout: seconds without a byte.

    Raises:
        DownloadFailed: no address gave a right file; the reasons of all are told.
        OutputError: ``part`` cannot be written.
        UsageError: an address is neither http nor https.
    """
    for url in urls:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise UsageError(f"an address begins with http:// or https://, not {quoted(url)}")
    reasons: list[str] = []
    for url in urls:
        wrong: str | None = None
        for attempt in range(tries):
            if attempt:
                time.sleep(min(pause * 2 ** (attempt - 1), 30))
            try:
                told = _fetch(url, part, wanted, timeout, progress)
                return Got(url, *_vouch(part, wanted, told))
            except _Bad as bad:
                if not reasons or reasons[-1] != f"{url}: {bad}":
                    reasons.append(f"{url}: {bad}")
                if bad.final or (bad.content is not None and bad.content == wrong):
                    break
                wrong = bad.content
    shown = "".join(f"\n  {quoted(reason, 300)[1:-1]}" for reason in reasons[-8:])
    raise DownloadFailed(
        f"no address gave the file{shown}",
        hint="without a network: fetch the file elsewhere and give it with --file; --mirror names another address",
    )


def _fetch(url: str, part: Path, wanted: Wanted, timeout: float, progress: Progress | None) -> Told | None:
    """Bring ``part`` to its full length; returns the digest that the server told."""
    have, known = _resumable(url, part, wanted)
    request = urllib.request.Request(url, headers={"User-Agent": "netferry", "Accept-Encoding": "identity"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
        if known.get("validator"):
            request.add_header("If-Range", known["validator"])
    try:
        with _opener().open(request, timeout=timeout) as response:
            return _receive(response, url, part, wanted, have, known, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is here is no beginning of what is there
            _forget(part)
            raise _Bad("the file has another length than what was fetched of it") from None
        final = 400 <= error.code < 500 and error.code not in (408, 425, 429)
        raise _Bad(f"the server says {error.code} {error.reason}", final=final) from None
    except urllib.error.URLError as error:
        unknown = isinstance(error.reason, socket.gaierror) and error.reason.errno == socket.EAI_NONAME
        raise _Bad(f"cannot be reached: {error.reason}", final=unknown) from None
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Bad(f"the connection broke: {type(error).__name__}: {error}") from None


def _opener() -> urllib.request.OpenerDirector:
    """Only http and https, through the environment's proxies; no file:, no ftp:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _resumable(url: str, part: Path, wanted: Wanted) -> tuple[int, dict[str, Any]]:
    """How much of ``part`` may be kept, and what is known of it."""
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        known = json.loads(_note(part).read_text("utf-8"))
    have = part.stat().st_size if part.exists() else 0
    sure = known.get("url") == url and (known.get("validator") or wanted.checksum)
    full = known.get("total")
    if not have or not sure or (isinstance(full, int) and have >= full) or have > wanted.most:
        _forget(part)
        return 0, {}
    return have, known


def _receive(
    response: Any, url: str, part: Path, wanted: Wanted, have: int, known: dict[str, Any], progress: Progress | None
) -> Told | None:
    headers = response.headers
    if (headers.get("Content-Type") or "").lower().startswith("text/html"):
        raise _Bad("a web page comes in the place of the file", final=True)
    start, total = 0, _number(headers.get("Content-Length"))
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have:
            _forget(part)
            raise _Bad("the server goes on at another place than it was asked to")
        start, total = have, int(found[3])
        if known.get("total") not in (None, total):
            _forget(part)
            raise _Bad("the file changed at its address while it was fetched")
    if total is not None and wanted.bytes is not None and total != wanted.bytes:
        raise _Bad(f"the file has {total} bytes there, it should have {wanted.bytes}", final=True)
    if total is not None and total > wanted.most:
        raise _Bad(f"the file has {total} bytes there, more than the {wanted.most} that it can have", final=True)
    validator = headers.get("ETag") or headers.get("Last-Modified") or ""
    if validator.startswith("W/"):
        validator = ""
    full = total if total is not None else wanted.bytes
    try:
        if start == 0:
            _note(part).write_text(json.dumps({"url": url, "validator": validator, "total": full}), "utf-8")
        with part.open("ab" if start else "wb") as file:
            _copy(response, file, start, full, wanted, progress)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if isinstance(error, (TimeoutError, ConnectionError)):
            raise
        raise OutputError(f"cannot be written: {error.strerror or error}", file=part) from error
    size = part.stat().st_size
    if full is not None and size != full:
        raise _Bad(f"the connection ended after {size} of {full} bytes")
    return told_by(headers, part_only=response.status == 206)


def _copy(response: Any, file: Any, start: int, full: int | None, wanted: Wanted, progress: Progress | None) -> None:
    count = start
    while True:
        try:
            chunk = response.read(_CHUNK)
        except http.client.IncompleteRead as error:
            file.write(error.partial)
            raise
        if not chunk:
            return
        count += len(chunk)
        if count > (wanted.most if full is None else full):
            raise _Bad(f"more bytes come than the {full if full is not None else wanted.most} that there should be")
        file.write(chunk)
        if progress is not None:
            progress(count, full)


def _vouch(part: Path, wanted: Wanted, told: Told | None) -> tuple[str, str | None]:
    """Check the whole file; returns what vouches for it, and the checksum that does. A wrong one is thrown away."""

    def must_have(whose: str, algorithm: str, hexes: str) -> None:
        found = digest(part, algorithm)
        if found != hexes:
            content = found if algorithm == "sha256" else digest(part, "sha256")
            _forget(part)
            raise _Bad(f"the file that arrived does not have {whose} {algorithm}, but {found}", content=content)

    if wanted.checksum is not None:
        algorithm, _, hexes = wanted.checksum.partition(":")
        must_have("its published", algorithm, hexes)
        vouched, checksum = f"published {algorithm}", wanted.checksum
    elif told is not None:
        must_have("the server's own", told.algorithm, told.hexes)
        vouched, checksum = f"the server's {told.algorithm} ({told.header})", f"{told.algorithm}:{told.hexes}"
    else:
        vouched, checksum = "reading it" if wanted.check is not None else "its length", None
    if wanted.first is not None and wanted.checksum is None:
        must_have("the first download's", "sha256", wanted.first)
        if checksum is None:
            vouched, checksum = "the first download's sha256", f"sha256:{wanted.first}"
    if wanted.check is not None:
        try:
            wanted.check(part)
        except NetferryError as error:
            content = digest(part, "sha256")
            _forget(part)
            sure = checksum is not None  # it arrived as it is there
            reason = f"the file that arrived is not the right one: {error.reason}"
            raise _Bad(reason, final=sure, content=content) from None
    return vouched, checksum


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    for path in (part, _note(part)):
        path.unlink(missing_ok=True)
