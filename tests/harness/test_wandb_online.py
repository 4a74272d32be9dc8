"""The real W&B client online, against a server of our own: what arrives, and what if it fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.records import Status, find_records, read_record
from harness.tracking.receipts import SENT_FILE
from tests.harness.wandb_server import ENTITY, KEY, WandbServer

pytestmark = pytest.mark.slow

HURRIED = """
import sys
from importlib import import_module
from harness import sync
from harness.tracking import live, wandb_run
wandb_run.API_SECONDS = wandb_run.INIT_SECONDS = 4
live.FINISH_SECONDS, live.UPLOAD_SECONDS, sync.PATIENCE_SECONDS = 6, 5, 5
sys.argv.pop(0)
sys.exit(import_module(sys.argv[0]).main())
"""
"""A command that gives up on a broken server sooner than a person would, so that tests end soon."""


@pytest.fixture
def around(tmp_path) -> Callable[[dict[str, str]], dict[str, str]]:
    """Return a function that adds an environment in which the client keeps to the test's folder."""
    places = {
        name: str(tmp_path / "elsewhere" / name)
        for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "NETRC")
    }
    outside = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return lambda environment: {**outside, **places, **environment}


@pytest.fixture
def finished(tmp_path, parent, around):
    """Return a function that runs a command against a server; its exit code and words."""

    def run(environment, *words: str) -> tuple[int, str, str]:
        done = parent.run([*words], tmp_path, around(environment))
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def run(tmp_path, around):
    """Return a function that starts a command against a server, to be hurried or killed."""

    started = []

    def start(environment, module: str, *arguments: str, hurried=False) -> subprocess.Popen:
        process = subprocess.Popen(  # a client of its own, not the one that other tests started
            [sys.executable, *(("-c", HURRIED) if hurried else ("-m",)), module, *arguments],
            cwd=tmp_path, env=around(environment), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def server():
    with WandbServer() as made:
        yield made
        assert made.unknown == [], "the client asks what this server does not know"


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


@pytest.fixture
def train(run, finished, tiny):
    """Return a function that trains one cell against a server; the record, and what was said."""

    def train(environment: dict[str, str], *overrides: str, hurried=False):
        options = ["tracking=wandb", "tracking.mode=online", "+intervention=qkv_bias"]
        words = [*tiny, *options, *overrides]
        code, _, said = (
            finish(run(environment, "harness.__main__", *words, hurried=True))
            if hurried
            else finished(environment, "harness", *words)
        )
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
    assert run.upserts["displayName"] == "qkv_bias seed 0"
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
    "hangs": lambda server: setattr(server, "fault", hang),
    "breaks midway": lambda server: fail_after(server, 5, 500),
    "hangs midway": lambda server: setattr(
        server, "fault", lambda asked: hang(asked) if len(server.requests) > 5 else None
    ),
    "takes no metrics": lambda server: setattr(
        server, "fault", lambda asked: 403 if asked.endswith("file_stream") else None
    ),
}


LONGER = ("hangs", "hangs midway", "breaks midway", "refuses the key", "takes no metrics")


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=[pytest.mark.proof] if f in LONGER else []) for f in FAULTS],
)
def test_a_failing_server_costs_a_line_and_the_cell_is_sent_later(fault, server, train, run):
    FAULTS[fault](server)
    record, folder, said = train(server.environment, hurried=True)
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
    record, _, said = train(absent, hurried=True)
    assert record.status is Status.COMPLETE
    assert said.count("warning: tracker") == 1


@pytest.mark.proof
def test_a_slow_server_gets_everything_all_the_same(server, train):
    server.fault = lambda asked: time.sleep(0.1)
    _, folder, said = train(server.environment)
    assert "warning" not in said
    (run,) = server.live.values()
    assert_whole(run, folder)


@pytest.fixture
def sync(run, finished, server):
    """Return a function that sends a study and returns its exit code and words."""

    def sync(study: Path, *flags: str, hurried=False) -> tuple[int, str, str]:
        command = ("harness.sync", str(study), "--online", *flags)
        if hurried:
            return finish(run(server.environment, *command, hurried=True))
        return finished(server.environment, *command)

    return sync


def assert_each_cell_once(server: WandbServer, study: Path) -> None:
    """Every cell and the report are one live run each, and whole."""
    folders = {read_record(file).cell: file.parent for file in find_records(study)}
    assert len(server.live) == len(folders) + 1
    for cell, folder in folders.items():
        (run,) = [run for run in server.live.values() if run.name.startswith(f"adhoc-{cell}")]
        assert_whole(run, folder)
    (report,) = [run for run in server.live.values() if run.upserts["jobType"] == "study"]
    assert report.state == "finished"


def test_a_study_is_sent_exactly_once_with_its_report_and_read_as_its_records_are(
    server, sync, study, finished
):
    from PIL import Image

    (study / "figures").mkdir()
    Image.new("RGB", (8, 8)).save(study / "figures" / "noise_band.png")
    code, out, said = sync(study)
    assert code == 0, said
    assert "2 cells sent, 0 were there already; the study's report was sent." in out
    assert_each_cell_once(server, study)
    report = server.live["adhoc-report"]
    tables = {name: report.files[name].decode() for name in report.files if "table" in name}
    (cells,) = [text for name, text in tables.items() if "/cells" in name]
    for name in server.live:
        linked = f"{server.url}/{ENTITY}/llm-interventions/runs/{name}" in cells
        assert linked == (name != "adhoc-report")
    assert any("undecided" in text for name, text in tables.items() if "/verdicts" in name)
    assert any(name.startswith("media/images/noise_band") for name in report.files)
    (artifact,) = [a for a in server.artifacts.values() if a.type == "report"]
    assert artifact.state == "COMMITTED"
    assert artifact.files["report.html"] == (study / "report.html").read_bytes()

    asked = len(server.requests)
    code, out, _ = sync(study)
    assert "0 cells sent, 2 were there already; the study's report was there already." in out
    assert not [name for name in server.requests[asked:] if name != "Viewer"][1:]
    assert files_with_the_key(study) == []

    sources = [f"wandb:{ENTITY}/llm-interventions", str(study), f"wandb:{ENTITY}/nothing"]
    online, local, nothing = (
        finished(server.environment, "analysis", source) for source in sources
    )
    assert (online[0], local[0]) == (0, 0), online[2] + local[2]
    assert table(online[1]) == table(local[1]) != []
    assert nothing[0] == 2
    assert nothing[2].count("\n") == 1


def table(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("|")]


def test_a_sync_that_is_killed_is_repaired_by_the_next(server, sync, study, run):
    server.fault = lambda asked: time.sleep(0.3)
    killed = run(server.environment, "harness.sync", str(study), "--online")
    while "UpsertBucket" not in server.requests:
        time.sleep(0.05)
    time.sleep(1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    server.fault = lambda asked: None
    assert [run.state for run in server.live.values()] != ["finished"]
    code, _, said = sync(study)
    assert code == 0, said
    assert_each_cell_once(server, study)
    assert [run.deleted for run in server.runs.values()].count(True) == 1


def test_a_server_that_breaks_midway_is_said_in_a_line_and_the_next_sync_repairs_it(
    server, sync, study
):
    server.fault = lambda asked: 500 if asked.startswith("PUT") else None
    code, _, said = sync(study, hurried=True)
    assert code == 2
    assert said.count("\n") == 1
    assert "run again" in said
    server.fault = lambda asked: None
    code, _, said = sync(study)
    assert code == 0, said
    assert_each_cell_once(server, study)


def test_a_refused_key_is_one_line(server, sync, study):
    server.fault = lambda asked: 401
    code, _, said = sync(study)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert KEY not in said


def test_the_workspace_is_saved_with_its_panels(server, sync, study):
    if not find_spec("wandb_workspaces"):  # which takes seconds to import
        pytest.skip("wandb-workspaces is not installed")
    shutil.rmtree(study / "qkv_bias")
    code, out, said = sync(study, "--workspace")
    assert code == 0, said
    assert f"Workspace: {server.url}/{ENTITY}/llm-interventions" in out
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == (ENTITY, "llm-interventions")
    section = json.loads(view["spec"])["section"]
    shown = {s["name"]: s["panels"] for s in section["panelBankConfig"]["sections"]}
    assert set(shown) >= {"Noise band", "Curves by arm", "Cost", "Report"}
    curves = [panel["config"] for panel in shown["Curves by arm"]]
    assert [config["xAxis"] for config in curves] == ["tokens"] * 3
    assert [config["metrics"] for config in curves] == [["val_loss"], ["train_loss"], ["grad_norm"]]
