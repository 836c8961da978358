"""The one door to onnx_ir: ``from netferry.schemas.ir import ir``.

``import onnx_ir`` costs 0.9 s of cpu and 73 MiB, two thirds of it for sympy, which is used only for arithmetic on
symbolic dimensions. Loading sympy (and the one module that touches it at import) through the standard library's
LazyLoader brings that to 0.3 s and 39 MiB; where sympy is needed, it loads itself then.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from netferry.errors import CheckFailed, NetferryError, quoted

_ON_FIRST_USE = frozenset({"sympy", "onnx_ir._symbolic_shapes"})


class _LazyFinder:
    """Meta path finder that gives the named modules a LazyLoader and leaves all others alone."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _ON_FIRST_USE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextmanager
def _imported_on_first_use() -> Iterator[None]:
    sys.meta_path.insert(0, _LazyFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_LazyFinder)


with _imported_on_first_use():
    import onnx_ir as ir

# what onnx_ir warns of is checked by us, as errors; without a handler logging would print it on stderr
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())


@contextmanager
def own_errors() -> Iterator[None]:
    """Let errors of ours out as they are (a weight that cannot be read), which onnx_ir wraps in its own.

    Raises:
        CheckFailed: the graph cannot be said in protobuf (a value without a name, a name that is not UTF-8).
    """
    try:
        yield
    except NetferryError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, NetferryError):
            cause = cause.__cause__
        if isinstance(cause, NetferryError):
            raise cause from None
        said = quoted(" ".join(str(cause).split()) or type(cause).__name__)[1:-1]
        raise CheckFailed(f"the graph cannot be written as ONNX: {said}") from error


__all__ = ["ir", "own_errors"]
