"""What several tests of the front door need."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import shapes


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes of 20 drawn shapes each."""
    folder = tmp_path_factory.mktemp("shapes")
    shapes.write(folder, 20)
    return folder
