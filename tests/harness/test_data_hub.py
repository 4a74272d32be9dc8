"""The real datasets and huggingface_hub code, in a process of its own, against a local hub."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.manifest import SPLITS
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

SMALL_STEPS = (
    "import sys, harness.data.build, harness.data.hub_text, harness.prepare\n"
    "harness.data.build.SAVE_EVERY_TOKENS = 150_000\n"
    "harness.data.tokens.BATCH_CHARACTERS = 30_000\n"
    "sys.exit(harness.prepare.main(sys.argv[1:]))"
)
"""The prepare command, saving as often in 3 million tokens as it otherwise does in 500 million."""


def text(number: int) -> str:
    rng = random.Random(number)
    return f"document {number}: " + " ".join(
        rng.choice(["loss", "test", "né", "…"]) for _ in range(rng.randrange(400))
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset laid out as FineWeb is: 3 parquet files of 1,500 documents."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "README.md").write_text(README)
    (folder / "sample/10BT").mkdir(parents=True)
    (folder / "data/CC-1").mkdir(parents=True)
    for number in range(3):
        texts = [text(index) for index in range(1500 * number, 1500 * (number + 1))]
        texts[7] = None
        table = pa.table({"text": texts, "id": [str(index) for index in range(1500)]})
        pq.write_table(table, folder / f"sample/10BT/{number:03}_00000.parquet", row_group_size=100)
    pq.write_table(table.slice(0, 5), folder / "data/CC-1/000.parquet")
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset without a README: one test split of JSON lines."""
    folder = tmp_path_factory.mktemp("lines")
    rows = [json.dumps({"text": text(-number), "n": number}) for number in range(1, 200)]
    (folder / "test.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def hub(repository: Path, lines: Path) -> Iterator[HubServer]:
    with HubServer({"someone/texts": repository, "someone/lines": lines}) as server:
        yield server


class Prepare:
    """The prepare command against a hub, with its own data and cache folders."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub = hub
        self.data_dir = folder / "data"
        self.environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}

    def start(self, *overrides: str, code: str = SMALL_STEPS) -> subprocess.Popen:
        fixed = ["data=fineweb", "data.repo=someone/texts", "data.tokenizer=bytes"]
        fractions = ["data.val_frac=0.05", "data.test_frac=0.05", f"data_dir={self.data_dir}"]
        return subprocess.Popen(
            [sys.executable, "-c", code, *fixed, *fractions, *overrides],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *overrides: str) -> tuple[int, str, str]:
        process = self.start(*overrides)
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


def test_every_streamed_document_arrives_once(prepare: Prepare) -> None:
    code, out, err = prepare.run()
    assert code == 0, err
    found = b"".join((prepare.corpus() / f"{split}.bin").read_bytes()[::2] for split in SPLITS)
    # A byte-level token's low byte is the text's byte; the end of text is 0x0100.
    texts = [document.decode() for document in found.split(b"\x00")[:-1]]
    expected = [text(number) for number in range(4500) if number % 1500 != 7]
    assert sorted(texts) == sorted(expected)
    assert "documents" in out
    assert not list(prepare.corpus().glob("state*"))


def test_a_budget_stops_the_download(prepare: Prepare, hub: HubServer) -> None:
    code, _, err = prepare.run("data.max_tokens=300_000")
    assert code == 0, err
    sizes = [(prepare.corpus() / f"{split}.bin").stat().st_size // 2 for split in SPLITS]
    assert 295_000 < sum(sizes) <= 300_000
    assert not any("002_00000.parquet" in line for line in hub.requests)


def test_another_split_and_file_format(prepare: Prepare) -> None:
    code, _, err = prepare.run("data.repo=someone/lines", "data.config=null", "data.split=test")
    assert code == 0, err
    n_bytes = sum(len(text(-number).encode()) + 1 for number in range(1, 200))
    sizes = [(prepare.corpus() / f"{split}.bin").stat().st_size // 2 for split in SPLITS]
    assert sum(sizes) == n_bytes


def test_kill_9_midway_costs_nothing_and_doubles_nothing(
    prepare: Prepare, hub: HubServer, tmp_path: Path
) -> None:
    undisturbed = Prepare(hub, tmp_path / "undisturbed")
    code, _, err = undisturbed.run()
    assert code == 0, err
    all_bytes_sent = hub.file_bytes_sent
    hub.seconds_per_mb = 3.0
    seen = [_kill_after_a_save(prepare) for _ in range(3)]
    hub.seconds_per_mb = 0.0
    sent_before = hub.file_bytes_sent
    code, _, err = prepare.run()
    assert code == 0, err
    assert seen == sorted(set(seen))
    assert seen[-1] > 1_000_000
    assert contents(prepare.corpus()) == contents(undisturbed.corpus())
    assert hub.file_bytes_sent - sent_before < 0.8 * all_bytes_sent


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


def test_ctrl_c_saves_what_is_done(prepare: Prepare, hub: HubServer) -> None:
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


def test_lost_bytes_are_noticed_when_going_on(prepare: Prepare, hub: HubServer) -> None:
    hub.seconds_per_mb = 3.0
    _kill_after_a_save(prepare)
    hub.seconds_per_mb = 0.0
    (train,) = prepare.data_dir.glob(".fineweb-*.partial/train.bin")
    train.write_bytes(train.read_bytes()[:1000])
    code, _, err = prepare.run()
    assert code == 2
    assert "train.bin lost bytes" in err
    assert f"delete {train.parent} to start again" in err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.repo=someone/else", "someone/else"),
        ("data.config=sample-11BT", "sample-10BT"),
        ("data.split=validation", "validation"),
        ("data.text_column=body", "no column data.text_column=body; available: text, id"),
        ("data.revision=v9", "v9"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(override: str, said: str, prepare: Prepare) -> None:
    code, _, err = prepare.run(override)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_hub_that_does_not_answer_is_one_line(prepare: Prepare) -> None:
    prepare.environment |= {"HF_ENDPOINT": "http://127.0.0.1:9"}
    code, _, err = prepare.run()
    assert code == 2
    assert err.splitlines()[-1].startswith("error: cannot read someone/texts")
    assert "Traceback" not in err


def test_the_manifest_names_the_revision_and_the_packages(prepare: Prepare, hub: HubServer) -> None:
    assert prepare.run("data.max_tokens=300_000")[0] == 0
    manifest = json.loads((prepare.corpus() / "manifest.json").read_text())
    assert manifest["made"]["revision"] == hub.repos["someone/texts"].sha
    assert {"datasets", "tiktoken"} <= manifest["made"].keys()
    assert manifest["request"]["repo"] == "someone/texts"
