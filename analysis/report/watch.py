"""A local server that shows the report of a study while it runs.

It answers on 127.0.0.1 only, and only to requests for that host: a page of another site cannot
read it through a name that it points here.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.report.evidence import gather
from analysis.report.page import render
from analysis.runs.reading import Reading
from analysis.runs.tables import read_runs
from harness.records import METRICS_FILE, RECORD_FILE

HOST = "127.0.0.1"


class Live:
    """The newest report of a study; computed again only when its files have changed."""

    def __init__(self, paths: list[str], rules: Rules, reading: Reading | None = None) -> None:
        self.paths, self.rules, self.reading = paths, rules, reading
        self._lock = threading.Lock()
        self._version, self._page, self._sentence = "", "", ""

    def version(self) -> str:
        """Return a digest of what has been written so far, from names, sizes and times."""
        digest = hashlib.sha256()
        for path in map(Path, self.paths):
            for name in (RECORD_FILE, METRICS_FILE):
                for file in sorted(path.rglob(name)) if path.is_dir() else [path]:
                    digest.update(f"{file} {_stamp(file)}".encode())
        return digest.hexdigest()[:16]

    def page(self) -> str:
        """Return the report's HTML."""
        self._refresh()
        return self._page

    def state(self) -> dict[str, str]:
        """Return the version and how far the study is."""
        self._refresh()
        return {"version": self._version, "sentence": self._sentence}

    def _refresh(self) -> None:
        with self._lock:
            version = self.version()
            if version == self._version:
                return
            evidence = gather(read_runs(self.paths, reading=self.reading), self.rules)
            page = render(evidence, live=True)
            self._page, self._sentence = page, evidence.ledger.sentence()
            self._version = version


def server(live: Live, port: int) -> ThreadingHTTPServer:
    """Return a server that is bound and not yet serving; port 0 chooses a free one."""

    class Handler(_Handler):
        source = live

    try:
        made = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise AnalysisError(
            f"cannot serve on {HOST}:{port}: {why}; choose another --port"
        ) from error
    made.daemon_threads = True
    return made


class _Handler(BaseHTTPRequestHandler):
    source: Live
    server: ThreadingHTTPServer

    def do_GET(self) -> None:
        """Answer with the page or its version."""
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self._send(403, "text/plain", "this server answers to 127.0.0.1 only\n")
            return
        answers: dict[str, tuple[str, Callable[[], str]]] = {
            "/": ("text/html", self.source.page),
            "/version": ("application/json", lambda: json.dumps(self.source.state())),
        }
        if self.path not in answers:
            self._send(404, "text/plain", f"no such page: choose one of {', '.join(answers)}\n")
            return
        kind, content = answers[self.path]
        try:
            self._send(200, kind, content())
        except AnalysisError as error:
            self._send(503, "text/plain", f"{error}\n")

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal belongs to the address."""


def _stamp(file: Path) -> str:
    try:
        state = file.stat()
    except OSError:
        return "gone"  # between the listing and now
    return f"{state.st_size} {state.st_mtime_ns}"
