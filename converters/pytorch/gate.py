"""What is checked of a .pt2 file before torch may open it, so that nothing in it is run.

``torch.export.load`` trusts its file: sample inputs and constants may be pickles, symbolic sizes go through sympy's
parser, which evaluates them, operators are looked up by dotted names, compiled libraries are loaded. Here only what
a program needs is let through: stored members of known names, sizes that are sums and products of symbols, operators
of torch.ops. (Facts: torch/export/pt2_archive/_package.py and torch/_export/serde/serialize.py of torch 2.13.)
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, UnsafeFile, UnsupportedLayer, quoted

_MEMBERS = re.compile(
    r"(archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|\.storage_alignment"
    r"|models/[\w.-]+\.json|data/(weights|constants)/((weight|tensor)_\d+|[\w.-]+_config\.json)"
    r"|data/sample_inputs/[\w.-]+\.pt|extra/[\w./-]+)"
)
_OPERATOR = re.compile(
    r"(torch\.ops\.(aten|prims|quantized_decomposed)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|neg|pow|mod|floordiv|truediv|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_|pos)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(int|float|ite|max|min|not|sqrt|sum)"
    r"|torch\._sym_(sqrt|cos|sin|tan|exp|log2))"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_SYMBOL = re.compile(r"[suzf]+\d+")
_SPELLED = re.compile(r"Symbol\('([suzf]+\d+)'(, (positive|integer|nonnegative|real|finite)=True)*\)")
_EXPRESSION = re.compile(r"[\w+\-*/%(), <>=.&|~!]*")
_FUNCTIONS = frozenset(
    [
        "FloorDiv",
        "ModularIndexing",
        "Where",
        "PythonMod",
        "Mod",
        "CleanDiv",
        "CeilToInt",
        "FloorToInt",
        "CeilDiv",
        "LShift",
        "RShift",
        "PowByNatural",
        "FloatPow",
        "FloatTrueDiv",
        "IntTrueDiv",
        "TruncToFloat",
        "TruncToInt",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "Identity",
        "Max",
        "Min",
        "Eq",
        "Ne",
        "Le",
        "Lt",
        "Ge",
        "Gt",
        "And",
        "Or",
        "Not",
        "Integer",
        "Rational",
        "Float",
        "Add",
        "Mul",
        "Pow",
        "Equality",
        "Unequality",
        "StrictLessThan",
        "LessThan",
        "GreaterThan",
        "StrictGreaterThan",
        "Piecewise",
        "floor",
        "ceiling",
        "sqrt",
        "Abs",
        "True",
        "False",
        "oo",
        "int_oo",
    ]
)


def passed(path: Path, limits: Limits, target: Path) -> Path:
    """Write what was checked of a program into ``target``, for torch to read; returns it.

    A copy, because another reader of zip files might find other members in the same bytes.

    Raises:
        NetferryError: as :func:`check`.
    """
    check(path, limits)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for member in old.infolist():
            name = f"program/{member.filename.partition('/')[2]}"
            if name.startswith("program/models/"):
                document = json.loads(old.read(member))
                document["guards_code"] = []  # Python in text, which nothing here needs
                new.writestr(name, json.dumps(document))
                continue
            with old.open(member) as source, new.open(zipfile.ZipInfo(name), "w", force_zip64=True) as made:
                shutil.copyfileobj(source, made, 1 << 20)
    return target


def check(path: Path, limits: Limits) -> None:
    """Raise unless a .pt2 file is a plain program.

    Raises:
        UnsafeFile: it holds code, pickled objects, compiled libraries, expressions that are none, foreign members.
        UnsupportedLayer: operators that are not torch's own, all of them.
        MalformedFile, LimitExceeded: it is no such archive, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            documents = list(_documents(archive, path, limits))
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as error:
        raise MalformedFile(f"is no archive of torch.export: {quoted(error)[1:-1]}", file=path) from None
    programs = [d for name, d in documents if name.startswith("models/")]
    if len(programs) != 1:
        raise MalformedFile(f"holds {len(programs)} programs, not one", file=path)
    unknown: list[tuple[str, str, str]] = []
    for name, document in documents:
        for key, value in _walk(document, limits.nesting, path):
            _check_value(name, key, value, path, unknown)
    if unknown:
        raise UnsupportedLayer(dict.fromkeys(unknown), file=path)


def _documents(archive: zipfile.ZipFile, path: Path, limits: Limits) -> Iterator[tuple[str, Any]]:
    members = archive.infolist()
    if len(members) > limits.layers:
        raise LimitExceeded(f"{len(members)} members (limit layers={limits.layers})", file=path)
    size, root = path.stat().st_size, members[0].filename.partition("/")[0] if members else ""
    for member in members:
        top, _, name = member.filename.partition("/")
        if "aotinductor" in name:
            raise UnsafeFile("holds compiled libraries (AOTInductor), which loading would run", file=path)
        if "custom_obj" in name or "opaque" in name:
            raise UnsafeFile("holds pickled objects of custom classes", file=path)
        if top != root or _MEMBERS.fullmatch(name) is None or ".." in name:
            raise UnsafeFile(f"holds a member that no program needs: {quoted(member.filename, 80)}", file=path)
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
            raise MalformedFile(f"member {quoted(name, 80)} is packed, which torch.export never does", file=path)
        if not name.endswith(".json"):
            continue
        if member.file_size > limits.text_bytes:
            raise LimitExceeded(
                f"{name} has {member.file_size} bytes (limit text_bytes={limits.text_bytes})", file=path
            )
        try:
            yield name, json.loads(archive.read(member))
        except (ValueError, RecursionError) as error:
            raise MalformedFile(f"{quoted(name, 80)} is no JSON: {quoted(error)[1:-1]}", file=path) from None


def _walk(document: Any, nesting: int, path: Path) -> Iterator[tuple[str, Any]]:
    """All keys of all objects with their values."""
    waiting: list[tuple[Any, int]] = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > nesting:
            raise LimitExceeded(f"nested deeper than {nesting} (limit nesting)", file=path)
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key, inner
                waiting.append((inner, depth + 1))
        elif isinstance(value, list):
            waiting.extend((inner, depth + 1) for inner in value)


def _check_value(name: str, key: str, value: Any, path: Path, unknown: list[tuple[str, str, str]]) -> None:
    if key == "expr_str":
        _check_expression(value, path)
    elif key == "range_constraints" and isinstance(value, dict):
        for symbol in value:
            _check_expression(symbol, path)
    elif key == "target" and (not isinstance(value, str) or _OPERATOR.fullmatch(value) is None):
        unknown.append((str(value), "operator", "not one of torch's own"))
    elif key == "use_pickle" and value:
        raise UnsafeFile("holds pickled tensors", file=path)
    elif key in ("as_custom_obj", "custom_obj", "as_operator") and value:
        raise UnsafeFile(f"{name} holds an object of a custom class", file=path)


def _check_expression(text: Any, path: Path) -> None:
    """A symbolic size: nothing but symbols, numbers and functions that sympy's parser may see."""
    given = _SPELLED.sub(r"\1", text) if isinstance(text, str) and len(text) < 4096 else '"'
    words = _WORD.findall(given)
    known = all(_SYMBOL.fullmatch(word) or word in _FUNCTIONS for word in words)
    dotted = re.search(r"\.\s*[A-Za-z_(]", given) is not None
    if _EXPRESSION.fullmatch(given) is None or not known or dotted:
        raise UnsafeFile(f"a size that is no sum or product of sizes: {quoted(text, 80)}", file=path)
