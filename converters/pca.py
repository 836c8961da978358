"""VGGish's postprocessing as standard operators: PCA with whitening, clipping, 8-bit numbers.

Rules: research/audioset/vggish/vggish_postprocess.py of tensorflow/models (Abu-El-Haija et al., YouTube-8M, 2016):
``eigenvectors @ (embedding - means)``, clipped to -2..2, spread over 0..255 and cut to whole numbers. The values are
those of the release's ``vggish_pca_params.npz``.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netferry.errors import InputError, MalformedFile, UnsafeFile, UsageError, quoted
from netferry.schemas.graph import shape_of
from netferry.schemas.ir import ir
from netferry.schemas.model import Model
from netferry.schemas.npy import read_npy_header
from netferry.schemas.opening import open_regular
from netferry.schemas.surgery import InsertionBuilder

VECTORS, MEANS = "pca_eigen_vectors", "pca_means"
BOUND = 2.0
_LEVELS = 255.0
_MOST_BYTES = 64 << 20
LAYER = "postprocess"


@dataclass(frozen=True)
class Pca:
    """Eigenvectors, one a row (outputs x size), and the means (size) that are subtracted before; float32."""

    vectors: np.ndarray
    means: np.ndarray


def read_pca(path: Path) -> Pca:
    """Read ``vggish_pca_params.npz``, or a file of the same two arrays.

    Raises:
        InputError: the file cannot be opened.
        MalformedFile: no such arrays, or arrays that do not fit each other.
        UnsafeFile: an array of Python objects, which would be code.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            vectors, means = (_array(archive, name, path) for name in (VECTORS, MEANS))
    except zipfile.BadZipFile as error:
        raise MalformedFile(f"is no .npz file: {quoted(error)[1:-1]}", file=path) from None
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror or error}", file=path) from None
    means = means.reshape(-1) if means.ndim == 1 or 1 in means.shape else means
    if vectors.ndim != 2 or means.shape != vectors.shape[1:]:
        raise MalformedFile(
            f"{VECTORS} of shape {list(vectors.shape)} and {MEANS} of shape {list(means.shape)} are no PCA", file=path
        )
    return Pca(vectors, means)


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """One array; its size is that of the bytes that are there, whatever its header claims."""
    try:
        info = archive.getinfo(f"{name}.npy")
        if info.file_size > _MOST_BYTES:
            raise MalformedFile(f"{name} takes {info.file_size} bytes, more than any PCA", file=path)
        with archive.open(info) as member:
            stream = io.BytesIO(member.read(_MOST_BYTES))
        shape, fortran, dtype = read_npy_header(stream)
        if dtype.hasobject:
            raise UnsafeFile(f"{name} holds Python objects, which are never read", file=path)
        values = np.frombuffer(stream.getvalue(), dtype, offset=stream.tell())
        if dtype.kind != "f":
            raise ValueError(f"{name} is of {dtype}")
        found = values.reshape(shape, order="F" if fortran else "C").astype(np.float32)
    except KeyError:
        held = ", ".join(quoted(n.removesuffix(".npy")) for n in archive.namelist()[:8])
        raise MalformedFile(f"holds no array {name} (there are {held})", file=path) from None
    except (ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise MalformedFile(f"{name} cannot be read: {quoted(error)[1:-1]}", file=path) from None
    if not np.isfinite(found).all():
        raise MalformedFile(f"{name} holds values that are no numbers", file=path)
    return found


def add_postprocess(model: Model, pca: Pca) -> None:
    """Let a network give postprocessed embeddings, in place: its last output becomes uint8 (patches x outputs).

    The embedding itself stays what its layer gives, for ``features --layers``.

    Raises:
        UsageError: the network gives no embedding of the PCA's size.
    """
    old = list(model.graph.outputs)[-1]
    shape, size = shape_of(old), len(pca.means)
    if len(shape) != 2 or shape[1] != size or old.dtype != ir.DataType.FLOAT:
        raise UsageError(
            f"output {quoted(old.name or '')} is of shape {list(shape)}, the PCA is for embeddings of {size} numbers",
            hint="--postprocess is for VGGish, whose embedding has 128 numbers",
        )
    b = InsertionBuilder(model.graph, before=None)
    with b.layer(LAYER, "PcaQuantize"):
        centred = b.op("Sub", old, b.const(pca.means, "means"))
        applied = b.op("MatMul", centred, b.const(np.ascontiguousarray(pca.vectors.T), "eigenvectors"))
        clipped = b.op("Clip", applied, -BOUND, BOUND)
        spread = b.op("Mul", b.op("Add", clipped, BOUND), _LEVELS / (2 * BOUND))
        y = b.op("Cast", spread, to=int(ir.DataType.UINT8))
    y.name = b.unique(LAYER)
    place = list(model.graph.outputs).index(old)
    b.finish()
    model.graph.outputs[place] = y
    model.labels.pop(old.name or "", None)
    model.tasks.pop(old.name or "", None)
