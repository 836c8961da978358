"""Where torch is not installed the tests of this folder are skipped, file by file, with the reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest


class _Skipped(pytest.Module):
    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip("needs torch: pip install 'netferry[train]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Stand in for the modules here, which import torch at their top."""
    if importlib.util.find_spec("torch") is None and module_path.parent == Path(__file__).parent:
        return _Skipped.from_parent(parent, path=module_path)
    return None


@pytest.fixture(scope="session")
def alone() -> Iterator[object]:
    """A process that has torch and nothing of ours."""
    from tests.runtime.torch.alone import Alone

    process = Alone()
    yield process
    process.close()


if importlib.util.find_spec("torch") is not None:  # the judge of Keras networks
    from tests.converters.keras.conftest import case3, keras_of

    __all__ = ["case3", "keras_of"]
