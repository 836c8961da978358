"""URLs: what they are called, and the file systems behind them. fsspec does the talking.

Downloads are counted while they arrive, never believed beforehand; passwords and signed queries of a URL appear neither
in messages nor in reports.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from netferry.errors import InputError, LimitExceeded, MissingExtra, NetferryError, UsageError, quoted

SCHEMES = ("file", "http", "https", "s3", "gs", "gcs")
"""Schemes that are taken; fsspec knows more, among them ones that run commands on other machines."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_MOST_BYTES = 1 << 28


def is_url(location: object) -> bool:
    """Whether a location is a URL, not a path."""
    return isinstance(location, str) and _URL.match(location) is not None


def plain_name(location: Any) -> Path:
    """Return a path as it is, and of a URL its last part: for names and suffixes."""
    return Path(name_of(location)) if is_url(location) else Path(location)


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def name_of(url: str) -> str:
    """Return the last part of a URL's path, as a file name."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name.replace("\0", "").replace("\\", "_")
    return name if name not in ("", ".", "..") else "download"


def local_path(url: str) -> Path | None:
    """The path of a file:// URL."""
    parts = urlsplit(url)
    if parts.scheme.lower() != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise UsageError("a file URL has three slashes: file:///folder/file", file=shown(url))
    from urllib.request import url2pathname  # brings http and ssl, which most calls can do without

    return Path(url2pathname(parts.path))


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    scheme = urlsplit(url).scheme.lower()
    if scheme not in SCHEMES or "::" in url:
        raise UsageError(f"a URL starts with {', '.join(f'{s}://' for s in SCHEMES)}", file=shown(url))
    try:
        import fsspec
    except ImportError:
        raise MissingExtra("fsspec", "remote", "reading and writing URLs") from None
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        try:
            import aiohttp
        except ImportError:
            raise MissingExtra("aiohttp", "remote", "reading and writing URLs") from None
        # by default a transfer ends after five minutes; what counts is that bytes keep coming
        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120)}
    try:
        return fsspec.core.url_to_fs(url, **options)
    except ImportError:
        package = _PACKAGES.get(scheme, "fsspec")
        raise MissingExtra(package, "remote", f"{scheme}:// URLs") from None


@contextmanager
def fetch_errors(url: str, kind: type[NetferryError]) -> Iterator[None]:
    """Whatever a file system raises is one typed error that names the URL."""
    try:
        yield
    except NetferryError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec says so of a server that does not answer, too
        if cause is None or (getattr(cause, "status", 404) == 404 and not isinstance(cause, OSError)):
            raise kind("no such file", file=shown(url)) from None
        raise kind(f"the transfer failed: {_said(cause, url)}", file=shown(url)) from error
    except PermissionError as error:
        raise kind("access denied", file=shown(url), hint="are the credentials set?") from error
    except Exception as error:  # aiohttp's, botocore's and google's classes share no base
        raise kind(f"the transfer failed: {_said(error, url)}", file=shown(url)) from error


def _said(error: BaseException, url: str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return quoted(text.replace(url, shown(url)), 300)[1:-1]


def open_stream(system: Any, path: str, url: str) -> Any:
    """Return a file of a file system, opened to be read from its beginning to its end."""
    # a stream: servers of http need not know ranges
    return system.open(path, "rb", **({"block_size": 0} if url.startswith("http") else {}))


@dataclass(frozen=True, slots=True)
class Remote:
    """A small file (a picture, a sound) at a URL, fetched when it is read. May be read by several threads."""

    url: str

    def __str__(self) -> str:
        return shown(self.url)

    def read(self) -> bytes:
        """Return its content.

        Raises:
            InputError: there is no such file, or it cannot be fetched. LimitExceeded: more than 256 MiB.
        """
        with fetch_errors(self.url, InputError):
            system, path = file_system(self.url)
            with open_stream(system, path, self.url) as file:
                content = bytearray()
                while len(content) <= _MOST_BYTES and (piece := file.read(1 << 20)):  # a stream gives what has come
                    content += piece
        if len(content) > _MOST_BYTES:
            raise LimitExceeded(f"a picture or sound of more than {_MOST_BYTES:,} bytes", file=shown(self.url))
        return bytes(content)


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """Where the paths of an index start, if that is a URL. Nothing outside its server or bucket is fetched."""

    url: str

    def __truediv__(self, path: str) -> Remote:
        parts = urlsplit(self.url)
        if is_url(path):
            if urlsplit(path)[:2] != parts[:2]:
                raise InputError(f"lies elsewhere than {quoted(shown(self.url))}", file=shown(path))
            return Remote(path)
        text = quote(path) if parts.scheme in ("http", "https") else path
        place = posixpath.normpath(posixpath.join(parts.path or "/", text))
        return Remote(urlunsplit((parts.scheme, parts.netloc, place, parts.query, "")))


@dataclass(frozen=True, slots=True)
class RemoteIndex:
    """A list or table of pictures, here in a copy; its paths start where it came from."""

    file: Path
    folder: RemoteFolder

    def __fspath__(self) -> str:
        return str(self.file)
