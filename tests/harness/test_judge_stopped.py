"""A judge that is stopped in the middle: what was asked is paid for, and kept."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.scripted_judge import ScriptedJudge
from harness.records.responses import read_judgements
from tests.harness.judged_files import ORDERS, N, flat, write_files


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_answers_under_way_are_kept_however_the_command_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    asked, out = threading.Event(), tmp_path / "j.jsonl"

    def slow(_: str, answers: list[str]) -> list[float]:
        asked.set()
        time.sleep(1)
        return flat(_, answers)

    with ScriptedJudge(slow) as judge:
        before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.judge", *write_files(tmp_path), "--judge", "scripted", "--yes",
             "--base-url", judge.base_url, "--out", str(out), "--workers", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        signal.signal(number, before)
        assert asked.wait(120)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said.count("\n")) == (130, 1)
    assert 1 <= len(judge.requests) < N * ORDERS
    assert len(read_judgements(out)) == len(judge.requests)
