"""Where the real models, pictures and conformance cases lie; tests reach them only through here.

The folder ``shared`` lies beside the repository. It is not part of it, so a clone elsewhere has none, and the tests
that need it skip with the reason. ``NETFERRY_SHARED`` names another place.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def shared_root() -> Path | None:
    """Return the folder, or None where there is none."""
    named = os.environ.get("NETFERRY_SHARED")
    candidates = [Path(named)] if named else [root.parent / "shared" for root in _repositories()]
    return next((c for c in candidates if c.is_dir()), None)


def shared(*parts: str) -> Path:
    """Return the path of a file or folder under ``shared``; the test skips where it is not there.

    Call it inside a test or fixture. For parameters made at import, test ``shared_root()`` instead.
    """
    root = shared_root()
    if root is None:
        pytest.skip("needs the folder 'shared' beside the repository (or NETFERRY_SHARED)")
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(('shared', *parts))}, which is not there")
    return path


def _repositories() -> list[Path]:
    """This working tree and, for a linked worktree of git, the main one."""
    found = [REPOSITORY]
    link = REPOSITORY / ".git"
    if link.is_file():  # 'gitdir: <main>/.git/worktrees/<name>'
        target = Path(link.read_text().removeprefix("gitdir:").strip())
        if target.parent.name == "worktrees":
            found.append(target.parent.parent.parent)
    return found
