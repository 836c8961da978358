"""Reader of protobuf's text format without a schema.

Fields are kept by name, unknown ones like all others: forks of Caffe add messages and fields freely, and their field
numbers collide. The grammar is that of protobuf's text format specification: ``name: value``, ``name { … }``,
``name < … >``, lists in brackets, ``,`` and ``;`` as separators, ``#`` comments, both quotes, adjacent strings
joined.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, quoted

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>(?:0[xX][0-9a-fA-F]+|\.\d+|\d+\.?\d*)(?:[eE][+-]?\d+)?(?:[fF](?![A-Za-z_0-9]))?(?![0-9.]))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[{}<>\[\]:;,/.-])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(
    rb"\\(?:([abfnrtv\\'\"?])|x([0-9a-fA-F]{1,2})|([0-7]{1,3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)


@dataclass(frozen=True)
class Scalar:
    """A value that is not a message: its text, whether it was quoted, and where it stands."""

    text: str
    quoted: bool = False
    line: int = 0
    column: int = 0

    def as_int(self) -> int | None:
        """The integer that the text says (decimal, 0x…, 0…), or None."""
        if self.quoted:
            return None
        sign, digits = (-1, self.text[1:]) if self.text.startswith("-") else (1, self.text)
        try:
            if digits[:2] in ("0x", "0X"):
                return sign * int(digits, 16)
            if len(digits) > 1 and digits[0] == "0":
                return sign * int(digits, 8)
            return sign * int(digits)
        except ValueError:
            return None

    def as_float(self) -> float | None:
        """The number that the text says, ``inf`` and a trailing f included, or None."""
        if self.quoted:
            return None
        text = self.text.lower()
        if text.lstrip("-") in ("inf", "infinity", "inff", "infinityf"):
            return -math.inf if text.startswith("-") else math.inf
        if text.lstrip("-") in ("nan", "nanf"):
            return math.nan
        if text.lstrip("-")[:2] == "0x" or (len(text.lstrip("-")) > 1 and text.lstrip("-").isdigit()):
            number = self.as_int()
            return None if number is None else float(number)
        try:
            return float(text.removesuffix("f"))
        except ValueError:
            return None

    def as_bool(self) -> bool | None:
        """The truth value that the text says, or None."""
        if self.quoted:
            return None
        if self.text in ("true", "True", "t"):
            return True
        if self.text in ("false", "False", "f"):
            return False
        return {1: True, 0: False}.get(self.as_int()) if self.text[0] != "-" else None  # pyright: ignore[reportArgumentType, reportCallIssue]


@dataclass
class Message:
    """A message: values by field name, in file order, repeated ones as given.

    ``order`` keeps the order of all fields together (needed where ``layer`` and ``layers`` mix).
    """

    fields: dict[str, list[Scalar | Message]] = field(default_factory=dict)
    order: list[tuple[str, Scalar | Message]] = field(default_factory=list)
    line: int = 0
    column: int = 0

    def add(self, name: str, value: Scalar | Message) -> None:
        """Append a value."""
        self.fields.setdefault(name, []).append(value)
        self.order.append((name, value))

    def remove(self, name: str) -> None:
        """Drop a field with all its values."""
        if self.fields.pop(name, None) is not None:
            self.order = [(n, v) for n, v in self.order if n != name]

    def get(self, name: str) -> list[Scalar | Message]:
        """All values of a field."""
        return self.fields.get(name, [])

    def messages(self, name: str) -> list[Message]:
        """The values of a field that holds messages.

        Raises:
            MalformedFile: one is a number or text.
        """
        values = self.get(name)
        if any(isinstance(v, Scalar) for v in values):
            raise self._mixed(name, "a message")
        return [v for v in values if isinstance(v, Message)]

    def texts(self, name: str) -> list[str]:
        """The values of a field that holds numbers or texts, as text.

        Raises:
            MalformedFile: one is a message.
        """
        values = self.get(name)
        for value in values:
            if isinstance(value, Message):
                raise value._mixed(name, "a text or number")
        return [v.text for v in values if isinstance(v, Scalar)]

    def _mixed(self, name: str, expected: str) -> MalformedFile:
        at = (self.line or None, self.column or None)
        return MalformedFile(f"{quoted(name)} is not {expected}", line=at[0], column=at[1] if at[0] else None)

    def text(self, name: str, default: str = "") -> str:
        """The last scalar of a field as text."""
        texts = self.texts(name)
        return texts[-1] if texts else default

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def as_dict(self) -> dict[str, object]:
        """Plain form for reports and placeholders: one value as itself, several as a list."""
        out: dict[str, object] = {}
        for name, values in self.fields.items():
            plain = [v.as_dict() if isinstance(v, Message) else v.text for v in values]
            out[name] = plain[0] if len(plain) == 1 else plain
        return out


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def parse(text: str, *, limits: Limits | None = None) -> Message:
    """Parse a whole prototxt.

    Raises:
        MalformedFile: not text format; with line and column.
        LimitExceeded: nested too deeply, a number of too many digits, a name too long.
    """
    return _Parser(text, limits or Limits()).message()


class _Parser:
    def __init__(self, text: str, limits: Limits) -> None:
        self._text, self._limits = text, limits
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._tokens = self._scan()
        self._token = next(self._tokens)

    def _where(self, position: int) -> tuple[int, int]:
        line = bisect_right(self._starts, position)
        return line, position - self._starts[line - 1] + 1

    def _fail(self, reason: str, position: int | None = None) -> MalformedFile:
        line, column = self._where(self._token.position if position is None else position)
        return MalformedFile(reason, line=line, column=column)

    def _scan(self) -> Iterator[_Token]:
        text, position, limits = self._text, 0, self._limits
        if text.startswith("\ufeff"):
            position = 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._fail(f"unexpected character {quoted(text[position])}", position)
            kind, found = str(match.lastgroup), match.group()
            if kind == "number" and sum(c.isdigit() for c in found) > limits.digits + 300 * ("." in found):
                line, _ = self._where(position)
                raise LimitExceeded(f"line {line}: a number of {len(found)} digits (limit digits={limits.digits})")
            if kind == "word" and len(found) > limits.name_bytes:
                raise LimitExceeded(f"a name of {len(found)} bytes (limit name_bytes={limits.name_bytes})")
            if kind != "space":
                yield _Token(kind, found, position)
            position = match.end()
        yield _Token("end", "", len(text))

    def _next(self) -> _Token:
        token, self._token = self._token, next(self._tokens, self._token)
        return token

    def _take(self, text: str) -> bool:
        if self._token.kind == "mark" and self._token.text == text:
            self._next()
            return True
        return False

    def message(self, closing: str | None = None, depth: int = 0) -> Message:
        if depth > self._limits.nesting:
            line, _ = self._where(self._token.position)
            raise LimitExceeded(f"line {line}: messages nested deeper than {self._limits.nesting} (limit nesting)")
        start = self._where(self._token.position) if depth else (1, 1)
        out = Message(line=start[0], column=start[1])
        while True:
            token = self._token
            if token.kind == "end":
                if closing is not None:
                    raise self._fail(f"the file ends inside a message: {quoted(closing)} is missing")
                return out
            if closing is not None and self._take(closing):
                return out
            name = self._name()
            self._field(out, name, depth)
            while self._take(",") or self._take(";"):
                pass

    def _name(self) -> str:
        if self._token.kind == "mark" and self._token.text == "[":  # an extension: [package.name]
            self._next()
            parts = ["["]
            while not self._take("]"):
                if self._token.kind == "end":
                    raise self._fail("the file ends inside an extension name")
                parts.append(self._next().text)
            return "".join(parts) + "]"
        if self._token.kind != "word":
            shown = quoted(self._token.text) if self._token.kind != "end" else "the end of the file"
            raise self._fail(f"a field name is expected, not {shown}")
        return self._next().text

    def _field(self, out: Message, name: str, depth: int) -> None:
        colon = self._take(":")
        if self._take("["):
            if self._take("]"):
                return
            while True:
                out.add(name, self._value(name, depth))
                if self._take("]"):
                    return
                if not self._take(","):
                    raise self._fail("',' or ']' is expected in a list")
        elif not colon and not (self._token.kind == "mark" and self._token.text in "{<"):
            raise self._fail(f"':' or '{{' is expected after {quoted(name)}")
        else:
            out.add(name, self._value(name, depth))

    def _value(self, name: str, depth: int) -> Scalar | Message:
        if self._take("{"):
            return self.message("}", depth + 1)
        if self._take("<"):
            return self.message(">", depth + 1)
        token = self._token
        line, column = self._where(token.position)
        if token.kind == "string":
            pieces: list[bytes] = []
            while self._token.kind == "string":
                pieces.append(self._unescaped(self._next()))
            return Scalar(b"".join(pieces).decode("utf-8", "backslashreplace"), True, line, column)
        sign = "-" if self._take("-") else ""
        token = self._token
        if token.kind in ("number", "word"):
            self._next()
            return Scalar(sign + token.text, False, line, column)
        shown = quoted(token.text) if token.kind != "end" else "the end of the file"
        raise self._fail(f"a value is expected for {quoted(name)}, not {shown}")

    def _unescaped(self, token: _Token) -> bytes:
        def one(match: re.Match[bytes]) -> bytes:
            letter, hexa, octal, short, long, other = match.groups()
            if letter is not None:
                return _ESCAPES.get(letter.decode(), letter.decode()).encode()
            if hexa is not None:
                return bytes([int(hexa, 16)])
            if octal is not None:
                return bytes([int(octal, 8) & 0xFF])
            code = int(short or long or b"110000", 16)
            if other is not None or code > 0x10FFFF:
                raise self._fail(f"unknown escape {quoted(match.group().decode('latin-1'))}", token.position)
            return chr(code).encode("utf-8", "surrogatepass")

        return _ESCAPE.sub(one, token.text[1:-1].encode("utf-8", "surrogateescape"))
