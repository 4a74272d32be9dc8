"""The real datasets and huggingface_hub code, in a process of its own, against a local hub."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.manifest import SPLITS
from tests.conftest import made_once
from tests.harness.hub_server import HubServer

pytestmark = pytest.mark.slow

README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*/*
- config_name: sample-10BT
  data_files:
  - split: train
    path: sample/10BT/*
---
# Texts
"""

SMALL_STEPS = """
import json, os, sys, harness.data.build, harness.data.hub_text, harness.prepare
harness.data.build.SAVE_EVERY_TOKENS = 150_000
harness.data.tokens.BATCH_CHARACTERS = 30_000
"""
"""Save as often in 3 million tokens as the command otherwise does in 500 million."""

ONE = f"{SMALL_STEPS}sys.exit(harness.prepare.main(sys.argv[1:]))"
ONE_AFTER_THE_OTHER = f"""{SMALL_STEPS}
asked, told = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
for line in asked:
    folder, arguments = json.loads(line)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY), number)
    print(harness.prepare.main(arguments), file=told, flush=True)
"""
"""The prepare command for each line of stdin: datasets takes seconds to import."""


def text(number: int) -> str:
    rng = random.Random(number)
    return f"document {number}: " + " ".join(
        rng.choice(["loss", "test", "né", "…"]) for _ in range(rng.randrange(400))
    )


REFUSED = {
    "no repository": ("data.repo=someone/else", "someone/else"),
    "no config": ("data.config=sample-11BT", "sample-10BT"),
    "no split": ("data.split=validation", "validation"),
    "no column": (
        "data.text_column=body",
        "no column data.text_column=body; available: text, id",
    ),
    "no revision": ("data.revision=v9", "v9"),
}
COMMANDS = {
    "everything": [],
    "budget": ["data.max_tokens=300_000"],
    "lines": ["data.repo=someone/lines", "data.config=null", "data.split=test"],
    **{name: [override] for name, (override, _) in REFUSED.items()},
}


def arguments(data_dir: Path) -> list[str]:
    fixed = ["data=fineweb", "data.repo=someone/texts", "data.tokenizer=bytes"]
    return [*fixed, "data.val_frac=0.05", "data.test_frac=0.05", f"data_dir={data_dir}"]


def make_repositories(folder: Path) -> None:
    """Write a dataset laid out as FineWeb is, and one without a README."""
    texts_of, lines_of = folder / "texts", folder / "lines"
    for below in (texts_of / "sample/10BT", texts_of / "data/CC-1", lines_of):
        below.mkdir(parents=True)
    (texts_of / "README.md").write_text(README)
    for number in range(3):  # parquet files of 1,500 documents
        texts = [text(index) for index in range(1500 * number, 1500 * (number + 1))]
        texts[7] = None
        table = pa.table({"text": texts, "id": [str(index) for index in range(1500)]})
        file = texts_of / f"sample/10BT/{number:03}_00000.parquet"
        pq.write_table(table, file, row_group_size=100)
    pq.write_table(table.slice(0, 5), texts_of / "data/CC-1/000.parquet")
    rows = [json.dumps({"text": text(-number), "n": number}) for number in range(1, 200)]
    (lines_of / "test.jsonl").write_text("\n".join(rows))  # one test split of JSON lines


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = made_once(tmp_path_factory, "hub_repositories", make_repositories)
    return {"someone/texts": folder / "texts", "someone/lines": folder / "lines"}


@pytest.fixture
def hub(repositories: dict[str, Path]) -> Iterator[HubServer]:
    with HubServer(repositories) as server:
        yield server


@dataclass
class Done:
    """What a command of `COMMANDS` left in its folder, and what it asked the hub for."""

    folder: Path
    code: int
    bytes_sent: int
    requests: list[str]

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def corpus(self) -> Path:
        (found,) = (self.folder / "data").glob("fineweb-*")
        return found

    def n_tokens(self) -> int:
        return sum((self.corpus() / f"{split}.bin").stat().st_size // 2 for split in SPLITS)


@pytest.fixture(scope="session")
def done(
    repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Done]:
    """Return a function from the name of a command to what came of it; all ran in one process."""
    made = made_once(tmp_path_factory, "hub_commands", lambda f: run_all(repositories, f))

    def done(name: str) -> Done:
        return Done(made / name, **json.loads((made / name / "done.json").read_text()))

    return done


def run_all(repositories: dict[str, Path], made: Path) -> None:
    with HubServer(repositories) as hub:
        process = subprocess.Popen(
            [sys.executable, "-c", ONE_AFTER_THE_OTHER], text=True, bufsize=1,
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(made / "hf")},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        for name, overrides in COMMANDS.items():
            ask(process, hub, made / name, overrides)
        process.communicate()


def ask(process: subprocess.Popen, hub: HubServer, folder: Path, overrides: list[str]) -> None:
    folder.mkdir()
    n_requests, sent = len(hub.requests), hub.file_bytes_sent
    words = [*arguments(folder / "data"), *overrides]
    process.stdin.write(f"{json.dumps([str(folder), words])}\n")
    found = {
        "code": int(process.stdout.readline()),
        "bytes_sent": hub.file_bytes_sent - sent,
        "requests": hub.requests[n_requests:],
    }
    (folder / "done.json").write_text(json.dumps(found))


class Prepare:
    """The prepare command against a hub, with its own data and cache folders."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub = hub
        self.data_dir = folder / "data"
        self.environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", ONE, *arguments(self.data_dir)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, str, str]:
        process = self.start()
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def corpus(self) -> Path:
        (found,) = self.data_dir.glob("fineweb-*")
        return found

    def saved_tokens(self) -> int:
        """Return how many tokens an interrupted command would not repeat."""
        states = list(self.data_dir.glob(".fineweb-*.partial/state.json"))
        return sum(json.loads(states[0].read_text())["tokens"].values()) if states else 0


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.suffix in (".bin", ".json") and not file.name.startswith(".")
    }


@pytest.fixture
def prepare(hub: HubServer, tmp_path: Path) -> Prepare:
    return Prepare(hub, tmp_path)


def test_every_streamed_document_arrives_once(done) -> None:
    everything = done("everything")
    assert everything.code == 0, everything.err
    corpus = everything.corpus()
    found = b"".join((corpus / f"{split}.bin").read_bytes()[::2] for split in SPLITS)
    # A byte-level token's low byte is the text's byte; the end of text is 0x0100.
    texts = [document.decode() for document in found.split(b"\x00")[:-1]]
    expected = [text(number) for number in range(4500) if number % 1500 != 7]
    assert sorted(texts) == sorted(expected)
    assert "documents" in everything.out
    assert not list(corpus.glob("state*"))


def test_a_budget_stops_the_download(done) -> None:
    budget = done("budget")
    assert budget.code == 0, budget.err
    assert 295_000 < budget.n_tokens() <= 300_000
    assert any("000_00000.parquet" in line for line in budget.requests)
    assert not any("002_00000.parquet" in line for line in budget.requests)


def test_another_split_and_file_format(done) -> None:
    lines = done("lines")
    assert lines.code == 0, lines.err
    n_bytes = sum(len(text(-number).encode()) + 1 for number in range(1, 200))
    assert lines.n_tokens() == n_bytes


def test_kill_9_midway_costs_nothing_and_doubles_nothing(
    prepare: Prepare, hub: HubServer, done
) -> None:
    undisturbed = done("everything")
    assert undisturbed.code == 0, undisturbed.err
    hub.seconds_per_mb = 3.0
    seen = [_kill_after_a_save(prepare) for _ in range(2)]
    hub.seconds_per_mb = 0.0
    sent_before = hub.file_bytes_sent
    code, _, err = prepare.run()
    assert code == 0, err
    assert seen == sorted(set(seen))
    assert seen[-1] > 1_000_000
    assert contents(prepare.corpus()) == contents(undisturbed.corpus())
    assert hub.file_bytes_sent - sent_before < 0.8 * undisturbed.bytes_sent


def _kill_after_a_save(prepare: Prepare) -> int:
    """Kill the command once it has saved 500,000 tokens more, a little later than the save."""
    before = prepare.saved_tokens()
    process = prepare.start()
    end = time.monotonic() + 600
    while prepare.saved_tokens() < before + 500_000:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return prepare.saved_tokens()


def test_ctrl_c_saves_what_is_done_and_bytes_lost_since_are_noticed(
    prepare: Prepare, hub: HubServer
) -> None:
    hub.seconds_per_mb = 3.0
    process = prepare.start()
    while not prepare.saved_tokens():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted: run the same command to go on"
    assert prepare.saved_tokens()
    hub.seconds_per_mb = 0.0
    (train,) = prepare.data_dir.glob(".fineweb-*.partial/train.bin")
    train.write_bytes(train.read_bytes()[:1000])
    code, _, err = prepare.run()
    assert code == 2
    assert "train.bin lost bytes" in err
    assert f"delete {train.parent} to start again" in err


@pytest.mark.parametrize("command", REFUSED)
def test_what_the_hub_does_not_have_is_one_line(command: str, done) -> None:
    refused = done(command)
    assert refused.code == 2
    last = refused.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert REFUSED[command][1] in last
    assert "Traceback" not in refused.err


def test_a_hub_that_does_not_answer_is_one_line(prepare: Prepare) -> None:
    prepare.environment |= {"HF_ENDPOINT": "http://127.0.0.1:9"}
    code, _, err = prepare.run()
    assert code == 2
    assert err.splitlines()[-1].startswith("error: cannot read someone/texts")
    assert "Traceback" not in err


def test_the_manifest_names_the_revision_and_the_packages(done, hub: HubServer) -> None:
    manifest = json.loads((done("budget").corpus() / "manifest.json").read_text())
    assert manifest["made"]["revision"] == hub.repos["someone/texts"].sha
    assert {"datasets", "tiktoken"} <= manifest["made"].keys()
    assert manifest["request"]["repo"] == "someone/texts"
