"""Reader of Caffe's HDF5 snapshots (``.caffemodel.h5``): ``data/<layer>/<index>``."""

from __future__ import annotations

from pathlib import Path

from netferry.converters.caffe.blobs import Blob
from netferry.converters.caffe.wire import StoredLayer
from netferry.converters.hdf5 import Hdf5File
from netferry.converters.options import Limits
from netferry.errors import MalformedFile, quoted


def read_snapshot(path: Path, limits: Limits) -> list[StoredLayer]:
    """Return the layers of an HDF5 snapshot with their blobs.

    Raises:
        MalformedFile: no ``data`` group, or a layer whose blobs are not numbered from 0.
    """
    layers: list[StoredLayer] = []
    with Hdf5File(path, limits) as file:
        if "data" not in file.groups(""):
            raise MalformedFile("not a Caffe snapshot: it has no group 'data'", file=path)
        if strays := file.datasets("data"):
            raise MalformedFile(f"{quoted(strays[0])} is an array, not the group of a layer", file=path)
        for name in file.groups("data"):
            found = file.datasets(f"data/{name}")
            if sorted(found) != sorted(str(i) for i in range(len(found))):
                raise MalformedFile(f"its blobs are called {sorted(found)[:8]}, not 0, 1 …", file=path, layer=name)
            blobs: list[Blob] = []
            for i in range(len(found)):
                array = file.dataset(f"data/{name}/{i}")
                blobs.append(Blob(array.shape, False, array.tensor))
            layers.append(StoredLayer(name, "", blobs))
    return layers
