"""Headers of NumPy's array files, by NumPy's own parser, whose errors are of many kinds."""

from __future__ import annotations

import tokenize
import warnings
from typing import IO, Any

import numpy as np

_ODD = (SyntaxError, TypeError, KeyError, RecursionError, MemoryError, tokenize.TokenError)
"""what the parser lets out where a header is no literal, or nested beyond its limits"""


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether in Fortran order, and element type; the values follow in the stream.

    Format: numpy.lib.format. The header is a literal, read by ``ast.literal_eval``, of at most 10,000 characters.

    Raises:
        ValueError: it is no such file, of a version that is not known, or damaged.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            shape, fortran, dtype = read(stream)
    except _ODD:
        raise ValueError("its header is damaged") from None
    return shape, fortran, dtype
