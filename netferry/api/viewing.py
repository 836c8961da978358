"""``view``: a network in the browser, by Netron or on our own page."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import Any

from netferry.api.reading import StrPath
from netferry.api.showing import inspect
from netferry.sandbox import Bounds


def view(
    source: StrPath,
    weights: StrPath | None = None,
    *,
    page: bool = False,
    port: int = 0,
    browse: bool = True,
    sandbox: Bounds | bool = False,
) -> dict[str, Any]:
    """Show a network in the browser.

    Where Netron is installed (``pip install 'netferry[view]'``) it serves the file on this machine alone, until the
    process ends. Else the page of :func:`inspect` is written to a temporary folder and opened.

    Args:
        source: the network, with ``weights`` where they are a second file.
        page: our own page also where Netron is installed.
        port: where Netron listens; 0 takes a free one.
        browse: open the browser.
        sandbox: read the network for the page in a confined child process (with these bounds), so that a crash of a
            native library is an error here. Netron gets the file as it is; its page in the browser reads it.

    Returns:
        ``address``, ``by`` (netron or netferry), and ``server``: Netron's module, whose ``wait()`` and ``stop()`` are
        the caller's to call; None for the page.

    Raises:
        NetferryError: the network cannot be read.
    """
    if not page and find_spec("netron") is not None:
        import netron  # pyright: ignore[reportMissingImports]

        from netferry.converters.formats import detect

        path = Path(source)
        detect(path)  # a file that netferry does not know is told so here, not in the browser
        host, taken = netron.start(str(path), address=("127.0.0.1", port or None), browse=browse)
        return {"address": f"http://{host}:{taken}", "by": "netron", "server": netron}
    folder = Path(tempfile.mkdtemp(prefix="netferry-view-"))
    target = folder / "network.html"
    try:
        if sandbox is False:
            inspect(source, weights, html=target)
        else:
            from netferry.api import confined

            options = {"source": source, "weights": weights, "html": target}
            confined.call("inspect", options, None if sandbox is True else sandbox)
    except BaseException:
        rmtree(folder, ignore_errors=True)
        raise
    if browse:
        import webbrowser

        webbrowser.open(target.as_uri())
    return {"address": target.as_uri(), "by": "netferry", "server": None}
