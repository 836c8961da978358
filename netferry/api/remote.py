"""URLs in place of files: fetched before a verb runs, put in their place after it ended well. fsspec does the talking.

A verb sees local files only. Downloads are counted while they arrive, never believed beforehand; passwords and signed
queries of a URL appear neither in messages nor in reports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from netferry.errors import InputError, LimitExceeded, MissingExtra, NetferryError, OutputError, UsageError, quoted
from netferry.schemas.publish import temporary_folder

SCHEMES = ("file", "http", "https", "s3", "gs", "gcs")
"""Schemes that are taken; fsspec knows more, among them ones that run commands on other machines."""
MAX_BYTES = 64 << 30
"""Most that one call fetches."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CHUNK = 1 << 20
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


def is_url(location: object) -> bool:
    """Whether a location is a URL, not a path."""
    return isinstance(location, str) and _URL.match(location) is not None


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def name_of(url: str) -> str:
    """Return the last part of a URL's path, as a file name."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name.replace("\0", "").replace("\\", "_")
    return name if name not in ("", ".", "..") else "download"


class Transfers:
    """The files of one call. Use it as a context: what was fetched is gone at its end, outputs are sent if it
    ends well.

    Args:
        limit: most bytes that are fetched in all.
    """

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self.left = self.limit = limit
        self._stack = ExitStack()
        self._names: dict[str, str] = {}
        self._outputs: list[tuple[Path, str]] = []

    def __enter__(self) -> Transfers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is None:
                for folder, url in self._outputs:
                    _send(folder, url)

    @property
    def used(self) -> bool:
        """Whether any location was a URL."""
        return bool(self._names)

    def _folder(self) -> Path:
        return self._stack.enter_context(temporary_folder())

    def input(self, location: Any) -> Any:
        """Return a local path with the content of a URL (a folder where it is one); anything else as it is.

        Weights that an ONNX file keeps in files beside it come along.

        Raises:
            InputError: there is no such file, or it cannot be fetched. LimitExceeded: more bytes than the limit.
            UsageError: a scheme that is not taken. MissingExtra: what speaks it is not installed.
        """
        if not is_url(location):
            return location
        local = local_path(location)
        if local is not None:
            return local
        with fetch_errors(location, InputError):
            system, path = file_system(location)
            target = self._folder() / name_of(location)
            if not location.startswith("http") and system.isdir(path):
                self._fetch_tree(system, path, target, location)
            else:
                self._fetch(system, path, target, location)
                for name in _weights_of(target):
                    self._fetch(system, _sibling(path, name), target.parent / name, location)
        self._names[str(target)] = shown(location)
        return target

    def inputs(self, locations: Sequence[Any]) -> list[Any]:
        """Return what :meth:`input` returns for each; patterns (``*``) give all files that match."""
        found: list[Any] = []
        for location in locations:
            if is_url(location) and local_path(location) is None and any(c in urlsplit(location).path for c in "*["):
                with fetch_errors(location, InputError):
                    system, path = file_system(location)
                    matches = sorted(system.glob(path))
                    if not matches:
                        raise InputError("nothing matches", file=shown(location))
                    folder = self._folder()
                    for number, match in enumerate(matches):
                        target = folder / f"{number:06d}" / name_of(f"x://x/{match}")
                        target.parent.mkdir()
                        self._fetch(system, match, target, location)
                        self._names[str(target)] = (
                            match if is_url(match) else f"{shown(location).partition(':')[0]}://{match}"
                        )
                        found.append(target)
            else:
                found.append(self.input(location))
        return found

    def output(self, location: Any) -> Any:
        """Return a local path to write to; what lies there, and beside it, when all ended well is sent to the URL."""
        if not is_url(location):
            return location
        local = local_path(location)
        if local is not None:
            return local
        with fetch_errors(location, OutputError):
            file_system(location)  # before the work, not after it
        folder = self._folder()
        self._outputs.append((folder, location))
        self._names[str(folder / name_of(location))] = shown(location)
        return folder / name_of(location)

    def named(self, document: Any) -> Any:
        """Return a report with URLs in place of the local names."""
        if isinstance(document, dict):
            return {key: self.named(value) for key, value in document.items()}
        if isinstance(document, (list, tuple)):
            return [self.named(value) for value in document]
        if not isinstance(document, (str, Path)):
            return document
        text = str(document)
        for local, url in self._names.items():
            for known in {local, os.path.realpath(local)}:
                if text == known or text.startswith((f"{known}/", f"{known}.")):
                    return url + text[len(known) :]
        return document

    def _fetch_tree(self, system: Any, path: str, target: Path, url: str) -> None:
        root = path.rstrip("/")
        for file in sorted(system.find(path)):
            name = file[file.index(root) + len(root) :].lstrip("/") if root in file else file
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute():
                raise InputError(f"{quoted(name)} lies outside the folder", file=shown(url))
            place = target.joinpath(*parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(system, file, place, url)
        if not target.exists():
            raise InputError("the folder is empty", file=shown(url))

    def _fetch(self, system: Any, path: str, target: Path, url: str) -> None:
        options = {"block_size": 0} if url.startswith("http") else {}  # a stream: servers need not know ranges
        with system.open(path, "rb", **options) as source, target.open("wb") as file:
            while chunk := source.read(_CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise LimitExceeded(f"more than {self.limit:,} bytes would be fetched", file=shown(url))
                file.write(chunk)


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


def _send(folder: Path, url: str) -> None:
    """Send what was written: the file itself last, as others name it only when it is whole."""
    main = folder / name_of(url)
    beside = sorted(p for p in folder.iterdir() if p != main and p.is_file())
    with fetch_errors(url, OutputError):
        system, path = file_system(url)
        for file, place in [*((p, _sibling(path, p.name)) for p in beside), (main, path)]:
            if file.is_file():
                _put(system, file, place, url)


def _put(system: Any, file: Path, place: str, url: str) -> None:
    if url.startswith("http"):
        system.put_file(str(file), place, method="put")
        return
    parent = place.rpartition("/")[0]
    if parent:
        system.makedirs(parent, exist_ok=True)
    system.put_file(str(file), place)


def _sibling(path: str, name: str) -> str:
    """The path of a file beside another; a query (signature) stays."""
    head, question, query = path.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{question}{query}"


def _weights_of(file: Path) -> list[str]:
    """Names of the files in which an ONNX file keeps its weights, those beside it."""
    if file.suffix != ".onnx":
        return []
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(file, load_external_data=False)
    except (DecodeError, ValueError):
        return []  # the reader says what is wrong with it
    names = {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}
    return sorted(n for n in names if n and PurePosixPath(n).name == n and n not in (".", "..", file.name))
