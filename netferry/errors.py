"""Every error that netferry raises on purpose.

::

    NetferryError                    1   something went wrong
    ├── UsageError                   2   the call itself is wrong: option, argument, combination
    ├── InputError                   3   a file that cannot be opened: missing, a folder, no permission
    │   └── DownloadFailed           3   no address gave the file
    ├── FormatError                  4   a file that is not what it should be
    │   ├── UnknownFormat            4   no reader recognises the content
    │   ├── MalformedFile            4   truncated, damaged or contradictory
    │   ├── LimitExceeded            5   larger, deeper or more than a limit allows
    │   └── UnsafeFile               6   reaches outside its folder, or asks to run code
    ├── UnsupportedError             7   understood, but not supported
    │   ├── UnsupportedLayer         7   layers that no reader knows (all of them listed)
    │   ├── UnsupportedOption        7   a layer's setting
    │   └── UnsupportedOpset         7   cannot be said at the target opset
    ├── WeightsError                 8   missing, surplus or wrongly shaped weights
    │   └── Uninitialised            8   parameters without values
    ├── CheckFailed                  9   the result is not valid, or does not agree
    ├── MissingExtra                10   an optional package is not installed
    ├── DeviceError                 11   the asked-for device cannot be used
    │   └── OutOfMemory             11   the device's memory does not suffice
    └── OutputError                 12   the result could not be written

The number is the exit code of the command line. 130 and 143 mean interrupted (SIGINT, SIGTERM).
Messages say where (file, layer), what and what is allowed; advice goes into ``hint``.
"""

from __future__ import annotations

from collections.abc import Iterable

NONSENSE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What code that follows an operator raises where a node contradicts it (a rank, a text for a number): for such code
alone, which turns it into ``the node cannot be followed``."""


def quoted(text: object, limit: int = 200) -> str:
    """Return a name that came from a file, safe to print: escaped, quoted, cut to ``limit``.

    Control characters (terminal sequences) become escapes; other Unicode stays readable.
    """
    raw = text if isinstance(text, str) else str(text)
    if len(raw) > limit:
        raw = raw[: limit - 1] + "…"
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in raw)
    return f"'{safe}'"


class NetferryError(Exception):
    """Root of the tree.

    Args:
        reason: what is wrong and what is allowed, one sentence.
        file: the file concerned, as the user named it.
        layer: the layer, node or tensor concerned.
        hint: advice, shown on its own line.
    """

    exit_code = 1

    def __init__(
        self, reason: str, *, file: object | None = None, layer: str | None = None, hint: str | None = None
    ) -> None:
        self.reason = reason
        self.file = None if file is None else str(file)
        self.layer = layer
        self.hint = hint
        super().__init__(reason)

    def at(self, *, file: object | None = None, layer: str | None = None) -> NetferryError:
        """Fill in where it happened, where that is not known yet; returns the error itself."""
        if self.file is None and file is not None:
            self.file = str(file)
        if self.layer is None:
            self.layer = layer
        return self

    def __str__(self) -> str:
        where = [quoted(part, 400) for part in (self.file, self.layer) if part is not None]
        return ": ".join([*where, self.reason])

    def as_dict(self) -> dict[str, object]:
        """The error for ``--json``."""
        fields = {"file": self.file, "layer": self.layer, "reason": self.reason, "hint": self.hint}
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            **{k: v for k, v in fields.items() if v is not None},
        }


class UsageError(NetferryError):
    """The call itself is wrong."""

    exit_code = 2


class InputError(NetferryError):
    """A file cannot be opened."""

    exit_code = 3


class DownloadFailed(InputError):
    """No address gave the file, or none gave a right one."""


class FormatError(NetferryError):
    """A file is not what it should be."""

    exit_code = 4


class UnknownFormat(FormatError):
    """No reader recognises the content."""


class MalformedFile(FormatError):
    """Truncated, damaged or contradictory content.

    Args:
        offset: byte offset in the file, where known.
        line, column: position in a text file, from 1, where known.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: object | None = None,
        layer: str | None = None,
        hint: str | None = None,
        offset: int | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        self.offset, self.line, self.column = offset, line, column
        if line is not None:
            reason = f"line {line}, column {column}: {reason}"
        elif offset is not None:
            reason = f"byte {offset}: {reason}"
        super().__init__(reason, file=file, layer=layer, hint=hint)


class LimitExceeded(FormatError):
    """Larger, deeper or more than a limit allows; the reason names the limit and its option."""

    exit_code = 5


class UnsafeFile(FormatError):
    """Content reaches outside its folder, or asks to run code."""

    exit_code = 6


class UnsupportedError(NetferryError):
    """Understood, but not supported."""

    exit_code = 7


class UnsupportedLayer(UnsupportedError):
    """Layers that no reader knows, all of them at once.

    Args:
        layers: (name, type, why) of each.
    """

    def __init__(
        self, layers: Iterable[tuple[str, str, str]], *, file: object | None = None, hint: str | None = None
    ) -> None:
        self.layers = list(layers)
        n = len(self.layers)
        rows = "".join(f"\n  {quoted(name)}  ({quoted(kind)[1:-1]})  {why}" for name, kind, why in self.layers[:50])
        more = f"\n  … and {n - 50} more" if n > 50 else ""
        super().__init__(
            f"uses {n} layer{'s' if n != 1 else ''} that netferry cannot read{rows}{more}", file=file, hint=hint
        )

    def as_dict(self) -> dict[str, object]:
        rows = [{"name": n, "type": t, "reason": w} for n, t, w in self.layers]
        return {**super().as_dict(), "layers": rows}


class UnsupportedOption(UnsupportedError):
    """A layer's setting is not supported."""


class UnsupportedOpset(UnsupportedError):
    """The graph cannot be said at the target opset; the reason names the operators and the least opset."""


class WeightsError(NetferryError):
    """Missing, surplus or wrongly shaped weights."""

    exit_code = 8


class Uninitialised(WeightsError):
    """Parameters have no values (an architecture was read without weights)."""


class CheckFailed(NetferryError):
    """The result is not valid, or does not agree with its source."""

    exit_code = 9


class MissingExtra(NetferryError):
    """An optional package is not installed.

    Args:
        package: what could not be imported.
        extra: the extra of netferry that brings it.
        purpose: what it is needed for.
    """

    exit_code = 10

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{purpose} needs {package}, which is not installed", hint=f"pip install 'netferry[{extra}]'")


class DeviceError(NetferryError):
    """The asked-for device cannot be used; the reason names the cause."""

    exit_code = 11


class OutOfMemory(DeviceError):
    """The device's memory does not suffice, not even for one item."""


class OutputError(NetferryError):
    """The result could not be written."""

    exit_code = 12
