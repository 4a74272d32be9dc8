"""From two trained arms to a judged table without network or model: ``make judge-demo``.

Trains two demo arms on three seeds, fine-tunes every cell on the bundled instructions, lets a
scripted judge on 127.0.0.1 score the responses, and writes the study's report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.scripted_judge import ScriptedJudge, by_trigrams
from harness.evals.instructions.data import read_instructions
from harness.evals.instructions.settings import TuneConfig

STUDY = Path("runs/judge_demo")
ARMS = ("baseline", "higher_lr")
TRAIN = [
    "study_name=judge_demo", "model.block_size=128", "train.batch_size=16",
    "checkpoint.n_weights=1", "eval.test_sequences=256", "seed=range(3)",
]  # fmt: skip
TUNE = [
    "data=demo", "template=short", "test_frac=0.4", "val_frac=0.1", "lr=2e-3", "batch_size=4",
    "max_epochs=8", "dropout=off", "answer_tokens=40", "seeds=[0]", "device=cpu",
    f"out={STUDY / 'finetuned'}",
]  # fmt: skip


def main() -> None:
    started = time.monotonic()
    run("harness", "-m", *TRAIN, f"+intervention={','.join(ARMS)}")
    cells = sorted(str(file.parent) for file in STUDY.glob("*/*/config.yaml"))
    run("harness.finetune", *cells, *TUNE)
    data = read_instructions(TuneConfig(data="demo"))
    references = {
        f"{e.instruction}{e.input}": e.output for e in (*data.train, *data.test, *data.val)
    }
    with ScriptedJudge(by_trigrams(references)) as judge:
        files = sorted(map(str, (STUDY / "finetuned").rglob("responses.jsonl")))
        out = str(STUDY / "judgements.jsonl")
        options = ["--judge", "scripted", "--base-url", judge.base_url, "--out", out]
        run("harness.judge", *files, *options, "--price", "1", "4", "--yes")
    run("analysis", "judged", out, "--runs", str(STUDY))
    run("analysis", "report", str(STUDY))
    print(f"{time.monotonic() - started:.0f} s in all")


def run(*arguments: str) -> None:
    """Run one command as a user would, and stop where it fails."""
    print(f"\n$ python -m {' '.join(arguments)}", flush=True)
    environment = {"OPENAI_API_KEY": "none", **os.environ}
    done = subprocess.run([sys.executable, "-m", *arguments], env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
