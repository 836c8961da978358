"""A local web server that misbehaves on purpose: cuts, wrong lengths, bit errors, errors, slow starts."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("none", "cut", "short", "long", "flip", "500", "404", "reset", "ignore-range", "wrong-range", "changed")


class Flaky:
    """What the server serves and how it fails: ``plan`` holds one fault per request, then ``after`` for the rest."""

    def __init__(self, content: bytes) -> None:
        self.content, self.plan, self.after = content, list[str](), "none"
        self.etag: str | None = '"v1"'
        self.digest = False
        self.headers: list[tuple[str, str]] = []
        """further headers of every answer with the file"""
        self.requests: list[dict[str, Any]] = []
        self.random = random.Random(0)
        self.url = ""
        self._lock = threading.Lock()

    def fault(self) -> str:
        with self._lock:
            return self.plan.pop(0) if self.plan else self.after


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    flaky: Flaky

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        f = self.flaky
        fault = f.fault()
        f.requests.append({"path": self.path, "range": self.headers.get("Range"), "fault": fault})
        self.close_connection = True
        if fault in ("500", "404"):
            self.send_error(int(fault))
            return
        if fault == "reset":
            self.connection.close()
            return
        body = f.content
        if fault == "changed":
            body = body[::-1]
        if fault == "flip":
            place = f.random.randrange(len(body))
            body = body[:place] + bytes([body[place] ^ (1 << f.random.randrange(8))]) + body[place + 1 :]
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        tag = '"v2"' if fault == "changed" else f.etag
        matches = self.headers.get("If-Range") in (None, tag)
        if asked and matches and fault != "ignore-range":
            start = int(asked[1])
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            shown = start + 7 if fault == "wrong-range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        sent = body[start:]
        length = len(sent)
        if fault == "short":
            length = max(length - 11, 0)
        if fault == "long":
            length += 13
        self.send_header("Content-Length", str(length))
        if tag:
            self.send_header("ETag", tag)
        if f.digest:
            value = base64.b64encode(hashlib.sha256(f.content).digest()).decode()
            self.send_header("Repr-Digest", f"sha-256=:{value}:")
        for header, value in f.headers:
            self.send_header(header, value)
        self.end_headers()
        if fault == "cut":
            sent = sent[: f.random.randrange(len(sent))]
        try:
            self.wfile.write(sent[:length] if fault == "short" else sent)
            self.wfile.flush()
        except OSError:
            pass


@contextmanager
def serving(content: bytes) -> Iterator[Flaky]:
    """Serve ``content`` at ``flaky.url`` for as long as the block lasts."""
    flaky = Flaky(content)
    handler = type("Handler", (_Handler,), {"flaky": flaky})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    flaky.url = f"http://127.0.0.1:{server.server_port}/weights.bin"
    try:
        yield flaky
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
