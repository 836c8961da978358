"""The frame of a written ``model.py``: its head, how weights come in, and the lines' width."""

from __future__ import annotations

import re
from collections.abc import Iterable

from netferry.runtime.torch.source.writing import literal

_WIDTH = 118
_READER = '''

def load(weights: str | Path | None = None) -> CLASS:
    """The network with its weights, in eval mode; ``weights`` is a safetensors file, by default the one beside."""
    state = read_safetensors(Path(__file__).with_name("weights.safetensors") if weights is None else weights)
    state.update({name: state[source] for name, source in TIED.items()})
    network = CLASS()
    network.load_state_dict(state)
    return network.eval()


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file: eight bytes of length, a JSON header, the values."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, tensor in header.items():
        kind, (begin, end) = _TYPES[tensor["dtype"]], tensor["data_offsets"]
        count = (end - begin) // kind.itemsize
        values = torch.frombuffer(data, dtype=kind, count=count, offset=start + begin) if count else torch.empty(0)
        found[name] = values.reshape(tensor["shape"])
    return found


_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "U16": torch.uint16,
    "U32": torch.uint32, "U64": torch.uint64, "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip
'''


def file_text(
    name: str, about: Iterable[str], imports: Iterable[str], body: list[str], tied: dict[str, str], helpers: list[str]
) -> str:
    """The whole file.

    Args:
        name: the class.
        about: lines of the docstring.
        imports: lines that helpers need.
        body: the lines of the class.
        tied: parameters that are another one, by name.
        helpers: definitions that the code calls.
    """
    told = "\n".join(about).replace("\\", "\\\\").replace('"', '\\"')
    needed = {"import json", "import math", "from pathlib import Path", *imports}
    head = [
        '"""' + told, '"""', "", "from __future__ import annotations", "",
        *sorted(needed, key=lambda line: (line.startswith("from"), line)), "",
        "import torch", "import torch.nn.functional as F", "from torch import Tensor, nn", "", "",
    ]  # fmt: skip
    rows = [f"    {literal(second)}: {literal(first)}," for second, first in tied.items()]
    table = ["TIED: dict[str, str] = {", *rows, "}"] if rows else ["TIED: dict[str, str] = {}"]
    end = ['"""parameters that are one and the same, by their second name"""', ""]
    text = "\n".join([*head, f"class {name}(nn.Module):", *body, "", "", *table, *end])
    text += _READER.replace("CLASS", name)
    defined = [f"\n\n{definition}" for definition in helpers]
    return _without_unused_imports(text + "".join(_spaced(defined)) + "\n")


def fits(line: str) -> bool:
    """Whether a line is no wider than the file may be."""
    return len(line) <= _WIDTH


def wrapped(line: str) -> list[str]:
    """Break a long line behind commas inside brackets."""
    if len(line) <= _WIDTH or '"' in line or "'" in line or "#" in line:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    lines, current, depth = [], "", 0
    for piece in re.split(r"(?<=, )", line):
        if current and len(current) + len(piece) > _WIDTH and depth > 0:
            lines.append(current.rstrip())
            current = indent
        current += piece
        depth += sum(piece.count(c) for c in "([{") - sum(piece.count(c) for c in ")]}")
    return [*lines, current]


def _spaced(definitions: list[str]) -> list[str]:
    return [d if d.lstrip().startswith(("def", "class", "@")) else d[1:] for d in definitions]


def _without_unused_imports(text: str) -> str:
    """Leave out what the file does not use in the end."""
    head, mark, body = text.partition("\nclass ")
    kept = []
    for line in head.splitlines():
        name = {"import math": "math.", "import torch.nn.functional as F": "F."}.get(line)
        if name is None or re.search(rf"\b{re.escape(name)}", body):
            kept.append(line)
    return "\n".join(kept) + "\n" + mark + body
