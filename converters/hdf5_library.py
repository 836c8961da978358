"""h5py without filter plug-ins: readers of formats get it from here."""

from __future__ import annotations

from netferry.schemas.opening import keep_hdf5_plugins_out

keep_hdf5_plugins_out()  # the library reads the setting when it starts
import h5py  # noqa: E402

__all__ = ["h5py"]
