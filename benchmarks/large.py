"""Measure what a study of very many cells costs before, beside and after its training.

    python -m benchmarks.large [--cells 2000] [--watched 500] [--write]

40 arms of the catalogue are planned, composed and frozen, and nothing is trained: records are put
there in which two thirds of the cells have ended, or are running. Processor seconds, whole
processes.
"""

from __future__ import annotations

import argparse
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.report import machine, table, write_section

ARMS = [
    *("baseline", "qkv_bias", "weight_tying", "no_dropout", "rope", "rmsnorm", "swiglu", "qk_norm"),
    *("muon", "wsd", "relu2", "geglu", "gqa", "softcap", "ema", "higher_lr", "weight_decay_gpt2"),
    *("gradient_clipping", "alibi", "nope", "lion", "nadam", "radam", "canon", "smear", "moe"),
    *("dyt", "z_loss", "lawa", "snoo", "xsa", "mtp", "swiglu+rope", "rope+qk_norm"),
    *("rmsnorm+swiglu", "muon+wsd", "qkv_bias+rope", "rope+rmsnorm+swiglu", "no_dropout+rope"),
    "muon+rope",
]
PLAN = (
    "import harness.study.runner as r; r.run_cells = lambda cells: None; "
    "r.require_results = lambda cells: None; from harness.__main__ import main; main()"
)
"""The command as it is, but for the training."""
WARM_UP_SECONDS, WATCHED_SECONDS = 8, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--watched", type=int, default=500)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="large-"))
    seconds(["-m", "harness.prepare", "data=stdlib_docs", f"data_dir={base / 'data'}"])
    planned = plan(base, "all", options.cells)
    plan(base, "watched", options.watched)
    for name in ("all", "watched"):
        put_records(base / "runs" / name)
    shown = seconds(["-m", "harness.status", str(base / "runs" / "all")])
    share = watched(base / "runs" / "watched")
    n, few = f"{options.cells:,} cells", f"{options.watched:,} cells"
    rows = [
        {"what": f"{n} planned, composed, frozen", "figure": f"{planned:.1f} s"},
        {"what": f"`harness.status` on {n}", "figure": f"{shown:.2f} s"},
        {"what": f"`harness.status --watch` on {few}", "figure": f"{share:.1%} of a core"},
    ]
    text = f"{table(rows)}\n\n{machine('hydra-core', 'msgspec')}. Processor time."
    print(text)
    if options.write:
        write_section("large", text)
    shutil.rmtree(base)


def plan(base: Path, name: str, n_cells: int) -> float:
    """Plan a study of so many cells; return processor seconds."""
    study = [f"study.arms=[{','.join(ARMS)}]", f"study.seeds={max(1, n_cells // len(ARMS))}"]
    place = [f"study_name={name}", f"runs_dir={base / 'runs'}", f"data_dir={base / 'data'}"]
    return seconds(["-c", PLAN, "-m", *study, *place])


def seconds(arguments: list[str]) -> float:
    """Run Python; return its processor seconds."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def put_records(study: Path) -> None:
    """Let a third of the cells be complete, a third have failed, some of them be running."""
    from harness.cell.freeze import load_frozen
    from harness.records import Losses, RunRecord, Seeds, Status, write_record
    from harness.records.files import append_json_lines, plain
    from harness.records.study import Study

    for n, folder in enumerate(Study(study).cells()):
        if n % 3 == 2:
            continue
        config, status = load_frozen(folder), Status.FAILED if n % 3 else Status.COMPLETE
        record = RunRecord(
            study=study.name, arm=config.arm, interventions=sorted(config.interventions),
            cell=folder.name, seeds=Seeds(**plain(config.seeds)), n_steps=300, step=300,
            status=Status.RUNNING if n % 100 == 1 else status, losses=Losses(test=3 + n / 1e4),
            error="RuntimeError: of a kind" if n % 3 else None,
        )  # fmt: skip
        write_record(folder, record)
        rows = [{"step": step, "tokens": 2048 * step, "train_loss": 5.0} for step in range(1, 200)]
        append_json_lines(folder / "metrics.jsonl", rows)


def watched(study: Path) -> float:
    """Return the share of a core that a live view takes on a terminal."""
    ours, theirs = pty.openpty()
    threading.Thread(target=drain, args=(ours,), daemon=True).start()
    command = [sys.executable, "-m", "harness.status", "--watch", str(study)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    time.sleep(WARM_UP_SECONDS)
    before, start = processor_seconds(process.pid), time.perf_counter()
    time.sleep(WATCHED_SECONDS)
    share = (processor_seconds(process.pid) - before) / (time.perf_counter() - start)
    process.kill()
    process.wait()
    return share


def drain(terminal: int) -> None:
    """Read what is shown, as a terminal does."""
    with suppress(OSError):
        while os.read(terminal, 65_536):
            pass


def processor_seconds(pid: int) -> float:
    """Return what a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
