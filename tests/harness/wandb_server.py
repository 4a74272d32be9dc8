"""A Weights & Biases of one's own on 127.0.0.1: enough of its protocol for the real client.

Point the real client at it with ``server.environment`` in the environment of a new process. What
it was sent stands in `runs`, `views` and `requests`; `fault` makes it misbehave.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.local_server import Handler, LocalServer

KEY = "0123456789abcdef" * 2 + "01234567"
"""Has the form of a real key, and opens nothing."""

ENTITY = "team"
PAGE = 2
"""So many runs of a project are shown at once."""
Variables = dict[str, Any]


@dataclass
class Run:
    """What the server knows of a run."""

    project: str
    name: str
    upserts: dict[str, Any] = field(default_factory=dict)
    """The latest group, job type, tags, ... of the run, as the client names them."""
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    """File of the stream -> offset -> line."""
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    deleted: bool = False

    @property
    def id(self) -> str:
        return base64.b64encode(f"Run:v1:{self.name}:{self.project}:{ENTITY}".encode()).decode()

    @property
    def history(self) -> list[dict[str, Any]]:
        lines = self.lines.get("wandb-history.jsonl", {})
        return [json.loads(lines[offset]) for offset in sorted(lines)]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.lines.get("wandb-summary.json", {})
        return json.loads(lines[max(lines)]) if lines else {}


@dataclass
class Artifact:
    """An artifact and its manifest."""

    id: str
    name: str
    type: str
    run: str
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "PENDING"


class WandbServer(LocalServer):
    """What the client sent, and how to answer."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, Run] = {}
        """Run id -> the run; deleted ones stay, since their ids are spent."""
        self.artifacts: dict[str, Artifact] = {}
        self.views: list[dict[str, Any]] = []
        self.requests: list[str] = []
        """What was asked: the operation of each query, otherwise method and path."""
        self.unknown: list[str] = []
        self.fault: Callable[[str], int | None] = lambda asked: None
        """Called with each request; may sleep, or return a status to answer with."""
        super().__init__(_Handler, port)

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    @property
    def live(self) -> dict[str, Run]:
        return {name: run for name, run in self.runs.items() if not run.deleted}


_USER = {
    "id": "VXNlcjox",
    "entity": ENTITY,
    "username": "someone",
    "name": "someone",
    "email": "someone@example.com",
    "flags": "{}",
    "teams": {"edges": [{"node": {"name": ENTITY}}]},
}


def _project(name: str) -> dict[str, Any]:
    entity = {"id": "RW50aXR5OjE=", "name": ENTITY}
    return {"id": "UHJvamVjdDox", "internalId": "UHJvamVjdDox", "name": name, "entity": entity}


def _bucket(run: Run) -> dict[str, Any]:
    """Return a run as the mutations do."""
    return {
        "id": run.id,
        "name": run.name,
        "displayName": run.upserts.get("displayName"),
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": None,
        "project": _project(run.project),
        "historyLineCount": len(run.history),
    }


def _resumed(run: Run) -> dict[str, Any]:
    """Return what a client needs that goes on with a run."""
    lines = {name: [kept[at] for at in sorted(kept)] for name, kept in run.lines.items()}
    return _bucket(run) | {
        "summaryMetrics": json.dumps(run.summary),
        "logLineCount": len(lines.get("output.log", [])),
        "eventsLineCount": len(lines.get("wandb-events.jsonl", [])),
        "historyTail": json.dumps(lines.get("wandb-history.jsonl", [])[-1:]),
        "eventsTail": json.dumps(lines.get("wandb-events.jsonl", [])[-1:]),
        "tags": run.upserts.get("tags", []),
        "notes": None,
        "wandbConfig": json.dumps({"t": 1}),
    }


def _shown(run: Run) -> dict[str, Any]:
    """Return a run as the public API reads it."""
    return _bucket(run) | {
        "projectId": "1",
        "tags": run.upserts.get("tags", []),
        "state": run.state,
        "group": run.upserts.get("groupName"),
        "jobType": run.upserts.get("jobType"),
        "commit": None,
        "readOnly": False,
        "createdAt": "2026-01-01T00:00:00Z",
        "heartbeatAt": "2026-01-01T00:00:00Z",
        "notes": None,
        "systemMetrics": "{}",
        "summaryMetrics": json.dumps(run.summary),
        "user": {"name": "someone", "username": "someone"},
        "historyKeys": {"lastStep": run.history[-1]["_step"] if run.history else -1, "keys": {}},
    }


def _logged(artifact: Artifact) -> dict[str, Any]:
    """Return an artifact as the client reads it back."""
    project = _project("p")
    return {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": {
            "__typename": "ArtifactSequence", "id": "U2VxOjE=", "name": artifact.name,
            "project": project,
        },
        "versionIndex": 0,
        "artifactType": {"name": artifact.type},
        "description": None,
        "metadata": "{}",
        "ttlDurationSeconds": -2,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": artifact.state,
        "size": sum(map(len, artifact.files.values())),
        "digest": "0" * 32,
        "digestAlgorithm": "MANIFEST_MD5",
        "commitHash": None,
        "fileCount": len(artifact.files),
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": None,
        "aliases": [],
    }  # fmt: skip


class _Handler(Handler):
    @property
    def wandb(self) -> WandbServer:
        return self.server.owner

    def answer(self) -> None:
        body = self.body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path = unquote(urlsplit(self.path).path)
        query = json.loads(body) if path == "/graphql" else {}
        named = re.search(r"(?:query|mutation)\s+(\w+)", query.get("query", ""))
        asked = named[1] if named else f"{self.command} {path}"
        self.wandb.requests.append(asked)
        status = self.wandb.fault(asked)
        if status is not None:
            self.json({"error": "made to fail"}, status)
        elif path == "/graphql":
            variables = query.get("variables") or {}
            self._graphql(asked, variables.get("input", variables))
        elif stream := re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path):
            self._file_stream(stream[2], json.loads(body))
        elif self.command == "PUT" and path.startswith("/storage/"):
            self._store(path.removeprefix("/storage/"), body)
        else:
            self.json({})

    def _graphql(self, operation: str, variables: Variables) -> None:
        answer = getattr(self, f"_on_{operation}", None)
        if answer is None:
            self.wandb.unknown.append(operation)
            self.json({"errors": [{"message": f"unknown operation {operation}"}]})
            return
        try:
            self.json({"data": answer(variables)})
        except KeyError as error:
            self.json({"errors": [{"message": str(error)}]}, HTTPStatus.NOT_FOUND)

    def _file_stream(self, name: str, body: dict[str, Any]) -> None:
        run = self.wandb.runs[name]
        for file, piece in body.get("files", {}).items():
            lines = run.lines.setdefault(file, {})
            lines.update(enumerate(piece["content"], piece["offset"]))
        if body.get("complete"):
            run.state = "crashed" if body["exitcode"] else "finished"
        self.json({})

    def _store(self, path: str, content: bytes) -> None:
        kind, owner, name = path.split("/", 2)
        holder = self.wandb.runs if kind == "run" else self.wandb.artifacts
        holder[owner].files[name] = content
        self.json({})

    # One method for each operation of the schema that the client uses.

    def _on_Viewer(self, _: Variables) -> Variables:
        return {"viewer": _USER}

    def _on_ServerInfo(self, _: Variables) -> Variables:
        return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "9.0.0"}}}

    def _on_ServerFeaturesQuery(self, _: Variables) -> Variables:
        return {"serverInfo": {"features": []}}

    def _on_OrganizationCoreWeaveOrganizationID(self, _: Variables) -> Variables:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _on_RunResumeStatus(self, variables: Variables) -> Variables:
        run = self.wandb.live.get(variables["name"])
        return {"model": _project(variables["project"]) | {"bucket": run and _resumed(run)}}

    def _on_UpsertBucket(self, variables: Variables) -> Variables:
        runs, name = self.wandb.runs, variables["name"]
        known = name in runs
        run = runs.setdefault(name, Run(variables["project"], name))
        if run.deleted:
            raise KeyError(f"run {name} was previously created and deleted; try a new run name")
        run.upserts |= {key: value for key, value in variables.items() if value is not None}
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": not known}}

    def _on_CreateRunFiles(self, variables: Variables) -> Variables:
        run = self.wandb.runs[variables["run"]]
        files = [
            {"name": name, "uploadUrl": f"{self.wandb.url}/storage/run/{run.name}/{name}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}

    def _on_RunStoppedStatus(self, _: Variables) -> Variables:
        return {"project": {"run": {"stopped": False}}}

    def _on_GetDefaultEntity(self, _: Variables) -> Variables:
        return {"viewer": _USER}

    def _on_Run(self, variables: Variables) -> Variables:
        run = self.wandb.live.get(variables["name"])
        return {"project": {"run": run and _shown(run)}}

    def _on_Runs(self, variables: Variables) -> Variables:
        live = [r for r in self.wandb.live.values() if r.project == variables["project"]]
        start = int(variables.get("cursor") or 0)
        end = min(start + min(variables["perPage"], PAGE), len(live))
        edges = [{"node": _shown(run), "cursor": str(end)} for run in live[start:end]]
        page = {"endCursor": str(end), "hasNextPage": end < len(live)}
        runs = {"edges": edges, "pageInfo": page}
        found = {"internalId": "1", "runCount": len(live), "readOnly": False, "runs": runs}
        return {"project": found}

    def _on_RunHistoryKeys(self, variables: Variables) -> Variables:
        return self._on_Run(variables)

    def _on_DeleteRun(self, variables: Variables) -> Variables:
        (run,) = [run for run in self.wandb.runs.values() if run.id == variables["id"]]
        run.deleted = True
        return {"deleteRun": {"clientMutationId": None}}

    def _on_ArtifactType(self, _: Variables) -> Variables:
        return {"project": {"artifact": None}}

    def _on_CreateArtifact(self, variables: Variables) -> Variables:
        asked, known = variables, self.wandb.artifacts
        made = Artifact(
            f"QQ{len(known)}", asked["artifactCollectionName"],
            asked["artifactTypeName"], asked["runName"],
        )  # fmt: skip
        known[made.id] = made
        artifact = {
            "id": made.id,
            "state": made.state,
            "artifactSequence": {"latestArtifact": None},
        }
        return {"createArtifact": {"artifact": artifact}}

    def _on_CreateArtifactFiles(self, variables: Variables) -> Variables:
        nodes = [
            {
                "storagePath": None,
                "uploadUrl": self._storage(file["artifactID"], file["name"]),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in variables["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _on_CreateArtifactManifest(self, variables: Variables) -> Variables:
        url = self._storage(variables["artifactID"], variables["name"])
        file = {"id": "RmlsZTox", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "TWFuOjE=", "file": file}}}

    def _on_CommitArtifact(self, variables: Variables) -> Variables:
        artifact = self.wandb.artifacts[variables["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": "0" * 32}}}

    def _on_ArtifactByID(self, variables: Variables) -> Variables:
        return {"artifact": _logged(self.wandb.artifacts[variables["id"]])}

    def _on_UpsertView2(self, variables: Variables) -> Variables:
        self.wandb.views.append(variables)
        view = {"id": f"Vmlldzo{len(self.wandb.views)}", "name": variables["name"]}
        return {"upsertView": {"view": view, "inserted": True}}

    def _storage(self, artifact: str, name: str) -> str:
        return f"{self.wandb.url}/storage/artifact/{artifact}/{name}"
