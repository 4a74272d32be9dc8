"""A Hugging Face hub of one's own on 127.0.0.1: enough of it for the real client libraries.

Serves folders as dataset and model repositories: ``HubServer({"someone/texts": folder})``; new
ones that are pushed lie below `home`. Point the real
clients at it with ``HF_ENDPOINT=server.url`` in the environment of a new process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.local_server import Handler, LocalServer


class HubServer(LocalServer):
    """The repositories; `requests` lists what was asked, e.g. ``GET /api/…``."""

    def __init__(self, repos: Mapping[str, Path], home: Path = Path()) -> None:
        self.home = home
        self.tokens_seen: set[str] = set()
        self.repos = {name: Repo(name, folder) for name, folder in repos.items()}
        self.requests: list[str] = []
        self.seconds_per_mb = 0.0
        """Slows file contents down, so that a test can kill a reader midway."""
        self.file_bytes_sent = 0
        super().__init__(_Handler)


class Repo:
    """A dataset repository: a folder, with the hash of its contents as its only commit."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._etags: dict[tuple[str, int, int], str] = {}

    def files(self) -> list[str]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    @property
    def sha(self) -> str:
        digest = hashlib.sha1()
        for name in self.files():
            digest.update(f"{name} {self.etag(name)}\n".encode())
        return digest.hexdigest()

    def etag(self, name: str) -> str:
        status = (self.folder / name).stat()
        key = (name, status.st_size, status.st_mtime_ns)
        if key not in self._etags:
            content = (self.folder / name).read_bytes()
            self._etags[key] = hashlib.sha256(content).hexdigest()
        return self._etags[key]

    def knows(self, revision: str) -> bool:
        return revision in ("main", self.sha)

    def info(self) -> dict[str, Any]:
        return {
            "_id": "0" * 24,
            "id": self.name,
            "sha": self.sha,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": name} for name in self.files()],
        }

    def entries(self, below: str, *, recursive: bool) -> list[dict[str, Any]] | None:
        """List files and folders below a path as the tree API does; None: no such folder."""
        prefix = f"{below}/" if below else ""
        names = [name for name in self.files() if name.startswith(prefix)]
        if below and not names:
            return None
        folders = {
            "/".join(name.split("/")[:depth])
            for name in names
            for depth in range(1, name.count("/") + 1)
        }
        listed = [self._folder(name) for name in sorted(folders) if name.startswith(prefix)]
        listed += [self._file(name) for name in names]
        if recursive:
            return listed
        return [entry for entry in listed if "/" not in entry["path"][len(prefix) :]]

    def paths_info(self, paths: list[str]) -> list[dict[str, Any]]:
        listed = self.entries("", recursive=True) or []
        return [entry for entry in listed if entry["path"] in paths]

    def _file(self, name: str) -> dict[str, Any]:
        size = (self.folder / name).stat().st_size
        return {"type": "file", "path": name, "size": size, "oid": self.etag(name)[:40]}

    def _folder(self, name: str) -> dict[str, Any]:
        oid = hashlib.sha1(name.encode()).hexdigest()
        return {"type": "directory", "path": name, "size": 0, "oid": oid}


class _Handler(Handler):
    @property
    def hub(self) -> HubServer:
        return self.server.owner

    def answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self.body()
        url = urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        query = parse_qs(url.query)
        if token := self.headers.get("Authorization"):
            self.hub.tokens_seen.add(token)
        if parts[:2] == ["api", "models"] and len(parts) > 4 and self.command == "POST":
            self._push(parts[2:], body)
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts == ["api", "validate-yaml"]:
            self.json({})
        elif parts[0] == "api" and parts[1] in ("datasets", "models"):
            self._api(parts[2:], query, body)
        elif parts[0] == "datasets" and len(parts) > 5 and parts[3] == "resolve":
            self._resolve(parts[1:3], parts[4], "/".join(parts[5:]))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve(parts[:2], parts[3], "/".join(parts[4:]))
        else:
            self._missing("EntryNotFound")

    def _create(self, asked: dict[str, Any]) -> None:
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        folder = self.hub.home / name
        folder.mkdir(parents=True, exist_ok=True)
        self.hub.repos[name] = Repo(name, folder)
        self.json({"url": f"{self.hub.url}/{name}", "id": name, "name": name})

    def _push(self, parts: list[str], body: bytes) -> None:
        repo = self.hub.repos["/".join(parts[:2])]
        if parts[2] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.json({"files": files})
            return
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                path = repo.folder / line["value"]["path"]
                path.write_bytes(base64.b64decode(line["value"]["content"]))
        url = f"{self.hub.url}/{repo.name}/commit/{repo.sha}"
        self.json({"commitUrl": url, "commitOid": repo.sha, "success": True})

    def _api(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> None:
        repo = self.hub.repos.get("/".join(parts[:2]))
        if repo is None:
            self._missing("RepoNotFound")
            return
        verb, revision, *path = [*parts[2:], "", ""][: max(len(parts) - 2, 2)]
        if verb and not repo.knows(revision):
            self._missing("RevisionNotFound")
        elif verb in ("", "revision"):
            self.json(repo.info())
        elif verb == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            listed = repo.entries("/".join(path), recursive=recursive)
            self._missing("EntryNotFound") if listed is None else self.json(listed)
        elif verb == "paths-info":
            self.json(repo.paths_info(_paths(body)))
        else:
            self._missing("EntryNotFound")

    def _resolve(self, name: list[str], revision: str, file: str) -> None:
        repo = self.hub.repos.get("/".join(name))
        if repo is None:
            self._missing("RepoNotFound")
        elif not repo.knows(revision):
            self._missing("RevisionNotFound")
        elif file not in repo.files():
            self._missing("EntryNotFound")
        else:
            self._send_file(repo, file)

    def _send_file(self, repo: Repo, file: str) -> None:
        size = (repo.folder / file).stat().st_size
        first, last = _range(self.headers.get("Range"), size)
        partial = self.headers.get("Range") is not None
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        self.send_header("ETag", f'"{repo.etag(file)}"')
        self.send_header("X-Repo-Commit", repo.sha)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(last - first + 1))
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command == "GET":
            with (repo.folder / file).open("rb") as content:
                content.seek(first)
                self._send_slowly(content, last + 1 - first)

    def _send_slowly(self, content: IO[bytes], length: int) -> None:
        while length > 0:
            piece = content.read(min(length, 1 << 16))
            try:
                self.wfile.write(piece)
            except (BrokenPipeError, ConnectionResetError):
                return  # the reader was killed: that is what some tests are about
            length -= len(piece)
            self.hub.file_bytes_sent += len(piece)
            time.sleep(self.hub.seconds_per_mb * len(piece) / 1e6)

    def _missing(self, code: str) -> None:
        self.send_response(HTTPStatus.NOT_FOUND)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _paths(body: bytes) -> list[str]:
    try:
        paths: list[str] = json.loads(body)["paths"]
    except (ValueError, KeyError):
        paths = parse_qs(body.decode()).get("paths", [])
    return paths


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Return the first and last byte of a ``Range`` header; the whole file without one."""
    if header is None:
        return 0, size - 1
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1
