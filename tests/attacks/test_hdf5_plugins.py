"""HDF5's filter plug-ins are code found by path: no reader loads one for a file that names its filter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

FILTER = 32015
"""a registered filter (Zstandard) that HDF5 itself does not have"""
READERS = {
    "tables": "from netferry.runtime.data.tables_of_rows import hdf5_arrays\nwith hdf5_arrays(path) as a: list(a['x'].rows)",
    "weights": "from netferry.converters.hdf5 import Hdf5File\n"
    "from netferry.converters.options import Limits\nHdf5File(path, Limits()).dataset('x').values()",
}
PLAIN = "import h5py\nh5py.File(path)['x'][()]"


def loaded(folder: Path, code: str) -> bool:
    """Whether a process that reads such a file tries to load a library from HDF5's plug-in folder."""
    file = folder / "x.h5"
    with h5py.File(file, "w") as made:
        space, form = h5py.h5s.create_simple((4,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        form.set_chunk((4,))
        form.set_filter(FILTER, h5py.h5z.FLAG_OPTIONAL, ())
        data = h5py.h5d.create(made.id, b"x", h5py.h5t.IEEE_F32LE, space, form)
        data.write_direct_chunk((0,), np.zeros(4, np.float32).tobytes())
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "libevil.so").write_bytes(b"not even a library")
    env = os.environ | {"HDF5_PLUGIN_PATH": str(plugins), "LD_DEBUG": "files"}
    env.pop("HDF5_PLUGIN_PRELOAD", None)
    script = f"from pathlib import Path\npath = Path({str(file)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode, "no such filter is known"
    return "libevil" in done.stderr


@pytest.mark.parametrize("reader", READERS)
def test_no_plugin_is_loaded(tmp_path: Path, reader: str) -> None:
    for name in ("plain", "reader"):
        (tmp_path / name).mkdir()
    if not loaded(tmp_path / "plain", PLAIN):
        pytest.skip("what h5py loads is not seen here")
    assert not loaded(tmp_path / "reader", READERS[reader])
