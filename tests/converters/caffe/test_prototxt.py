"""The text reader: protobuf's own text_format is the oracle where a schema exists; else the grammar."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netferry.converters.caffe.prototxt import parse
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, NetferryError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param('a: "x"', "x", id="double-quotes"),
        pytest.param("a: 'x'", "x", id="single-quotes"),
        pytest.param("a: 'x' \"y\"\n'z'", "xyz", id="adjacent-strings-join"),
        pytest.param("a: WORD # comment", "WORD", id="bare-word-and-comment"),
        pytest.param("a: -1.5e-3f", "-1.5e-3f", id="number"),
        pytest.param("a: - 7", "-7", id="sign-apart"),
        pytest.param('a: "caf\\303\\251"', "café", id="octal-utf8"),
        pytest.param('a: "\\x41\\u00e9\\n\\""', 'Aé\n"', id="escapes"),
        pytest.param("\ufeffa: x", "x", id="byte-order-mark"),
        pytest.param("a: x;", "x", id="semicolon"),
        pytest.param("a: x, b: y", "x", id="comma"),
    ],
)
def test_scalars(text: str, value: str) -> None:
    assert parse(text).text("a") == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("m { a: 1 a: 2 }", id="braces"),
        pytest.param("m: { a: 1 a: 2 }", id="colon-before-brace"),
        pytest.param("m < a: 1 a: 2 >", id="angle-brackets"),
        pytest.param("m { a: [1, 2] }", id="list"),
        pytest.param("m{a:1,a:2,}", id="no-space"),
        pytest.param("m [{ a: 1 a: 2 }]", id="list-of-messages"),
    ],
)
def test_messages(text: str) -> None:
    (message,) = parse(text).messages("m")
    assert message.texts("a") == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        pytest.param("layer {\n  name 'x'\n}", 2, 8, "':' or '{' is expected", id="no-colon"),
        pytest.param("layer {\n  name: 'x'", 2, 12, "ends inside a message", id="unclosed"),
        pytest.param("a: \n\n  }", 3, 3, "a value is expected", id="brace-for-value"),
        pytest.param("a: $", 1, 4, "unexpected character '$'", id="character"),
        pytest.param("}", 1, 1, "a field name is expected", id="stray-brace"),
        pytest.param("a: [1 2]", 1, 7, "',' or ']' is expected", id="list-comma"),
        pytest.param('a: "\\q"', 1, 4, "unknown escape", id="escape"),
        pytest.param('a: "x', 1, 4, "unexpected character", id="unclosed-string"),
    ],
)
def test_errors_say_line_and_column(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(MalformedFile, match="line") as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("depth", "fits"), [pytest.param(100, True, id="at-the-limit"), pytest.param(101, False, id="over")]
)
def test_nesting_is_limited(depth: int, fits: bool) -> None:
    text = "m {" * depth + "}" * depth
    if fits:
        parse(text)
    else:
        with pytest.raises(LimitExceeded, match="nesting"):
            parse(text)


def test_digits_are_limited() -> None:
    parse("a: " + "1" * 20)
    with pytest.raises(LimitExceeded, match="digits"):
        parse("a: " + "1" * 21)
    with pytest.raises(LimitExceeded, match="name_bytes"):
        parse("a" * 11 + ": 1", limits=Limits(name_bytes=10))


@pytest.mark.parametrize(
    ("text", "integer", "number"),
    [
        pytest.param("0x1F", 31, 31.0, id="hexadecimal"),
        pytest.param("017", 15, 15.0, id="octal"),
        pytest.param("-3", -3, -3.0, id="negative"),
        pytest.param("1.5f", None, 1.5, id="trailing-f"),
        pytest.param("1e3", None, 1000.0, id="exponent"),
        pytest.param(".5", None, 0.5, id="leading-dot"),
        pytest.param("inf", None, float("inf"), id="infinity"),
    ],
)
def test_number_forms(text: str, integer: int | None, number: float) -> None:
    scalar = parse(f"a: {text}").get("a")[0]
    assert scalar.as_int() == integer  # pyright: ignore[reportAttributeAccessIssue]
    assert scalar.as_float() == number  # pyright: ignore[reportAttributeAccessIssue]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet=st.sampled_from("ab:{}<>[]\"'\\#,;-.0x9 \n\té"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except NetferryError as error:
        assert error.reason
