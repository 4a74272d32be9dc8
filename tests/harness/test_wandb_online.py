"""The real W&B client online, against a server of our own: what arrives, and what if it fails."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.records import Status, find_records, read_record
from harness.sent import SENT_FILE
from tests.harness.wandb_server import KEY, WandbServer

pytestmark = pytest.mark.slow

IMPATIENT = """
import runpy, sys
from harness import mirror_wandb, sync, tracking
mirror_wandb.API_SECONDS = mirror_wandb.INIT_SECONDS = 3
tracking.FINISH_SECONDS = sync.PATIENCE_SECONDS = 8
sys.argv[0] = sys.argv.pop(1)
from importlib import import_module
sys.exit(import_module(sys.argv[0]).main())
"""
"""A command with shorter deadlines than a person would want, so that these tests end soon."""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command against a server, or whatever has its address."""

    def start(environment: dict[str, str], module: str, *arguments: str) -> subprocess.Popen:
        places = {
            name: str(tmp_path / "elsewhere" / name)
            for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "NETRC")
        }
        return subprocess.Popen(
            [sys.executable, "-c", IMPATIENT, module, *arguments],
            cwd=tmp_path, env={**os.environ, **places, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


@pytest.fixture
def server():
    with WandbServer() as made:
        yield made
        assert made.unknown == [], "the client asks what this server does not know"


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def train(run, tiny):
    """Return a function that trains one cell against a server; the record, and what was said."""

    def train(environment: dict[str, str], *overrides: str):
        options = ["tracking=wandb", "tracking.mode=online", "+intervention=qkv_bias"]
        code, _, said = finish(run(environment, "harness.__main__", *tiny, *options, *overrides))
        assert code == 0, said
        runs = Path(next(o for o in tiny if o.startswith("runs_dir=")).removeprefix("runs_dir="))
        (file,) = find_records(runs)
        return read_record(file), file.parent, said

    return train


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state(folder: Path) -> list[str]:
    return [entry["state"] for entry in json.loads((folder / SENT_FILE).read_text()).values()]


def files_with_the_key(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def assert_whole(run, folder: Path) -> None:
    """The run has each logged step once, the final figures and the samples."""
    rows, record = metrics(folder), read_record(folder)
    logged = [row for row in run.history if "train_loss" in row]
    assert [row["_step"] for row in logged] == [row["step"] for row in rows]
    assert [row["train_loss"] for row in logged] == [row["train_loss"] for row in rows]
    assert run.state == "finished"
    assert run.summary["test_loss"] == record.losses.test
    assert run.summary["status"] == record.status.value
    (table,) = [name for name in run.files if name.startswith("media/table/samples")]
    samples = [json.loads(s) for s in (folder / "samples.jsonl").read_text().splitlines()]
    shown = json.loads(run.files[table])
    assert [row[3] for row in shown["data"]] == [sample["completion"] for sample in samples]


def test_a_cell_streams_config_metrics_summary_and_samples(server, train):
    record, folder, said = train(server.environment, "tracking.tags=[mine]")
    assert "warning" not in said
    (run,) = server.live.values()
    assert_whole(run, folder)
    assert run.name == f"adhoc-{record.cell}"
    assert run.upserts["groupName"] == "adhoc"
    assert run.upserts["jobType"] == "qkv_bias"
    assert run.upserts["displayName"] == f"qkv_bias {record.cell}"
    assert set(run.upserts["tags"]) == {"qkv_bias", "demo", "mine"}
    assert run.config["model"]["value"]["n_embd"] == 16
    axis = {entry.get("1") or entry.get("2"): entry for entry in run.config["_wandb"]["value"]["m"]}
    assert axis["*"]["5"] == 1, "every metric's x-axis is the first one defined: tokens"
    assert axis["tokens"]
    assert run.summary["cost/train_seconds"] > 0
    assert state(folder) == ["done"]
    assert files_with_the_key(folder.parents[2]) == []


def fail_after(server: WandbServer, n: int, status: int) -> None:
    server.fault = lambda asked: status if len(server.requests) > n else None


def hang(asked: str) -> None:
    time.sleep(60)


FAULTS = {
    "refuses the key": lambda server: fail_after(server, 0, 401),
    "answers with errors": lambda server: fail_after(server, 0, 500),
    "hangs": lambda server: setattr(server, "fault", hang),
    "breaks midway": lambda server: fail_after(server, 5, 500),
    "hangs midway": lambda server: setattr(
        server, "fault", lambda asked: hang(asked) if len(server.requests) > 5 else None
    ),
    "forgets the key midway": lambda server: fail_after(server, 5, 401),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_server_costs_a_line_and_the_cell_is_sent_later(fault, server, train, run):
    FAULTS[fault](server)
    record, folder, said = train(server.environment)
    assert record.status is Status.COMPLETE
    warnings = [line for line in said.splitlines() if line.startswith("warning: tracker")]
    assert len(warnings) == 1, said
    assert "nothing is lost: python -m harness.sync" in warnings[0]
    assert "--online" in warnings[0]
    assert "Traceback" not in said
    server.fault = lambda asked: None
    study = str(folder.parents[1])
    code, out, said = finish(run(server.environment, "harness.sync", study, "--online"))
    assert code == 0, said
    assert "1 cells sent" in out
    live = [run for name, run in server.live.items() if record.cell in name]
    assert len(live) == 1
    assert_whole(live[0], folder)
    assert files_with_the_key(folder.parents[2]) == []


def test_a_server_that_is_not_there_costs_a_line(server, train):
    absent = server.environment | {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    record, _, said = train(absent)
    assert record.status is Status.COMPLETE
    assert said.count("warning: tracker") == 1


def test_a_slow_server_gets_everything_all_the_same(server, train):
    server.fault = lambda asked: time.sleep(0.5)
    _, folder, said = train(server.environment)
    assert "warning" not in said
    (run,) = server.live.values()
    assert_whole(run, folder)
