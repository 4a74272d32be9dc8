"""Measure how many runs the sequential sweeper saves against designs of fixed size.

    python -m benchmarks.sequential [--studies 300] [--write]

First on simulated studies with known truth, then on the demo study: its arms are run in looks, and
afterwards the seeds that the sweeper did not ask for, so that both designs judge the same runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import compare, decide, read_runs
from benchmarks.report import machine, table, write_section
from benchmarks.simulate import ALPHA, SD, Cell, Study, simulate
from harness.records import StudyPlan

PAGE = Path(__file__).parent.parent / "docs" / "sequential.md"
LOOKS = (2, 3, 4, 6, 8)
DEMO_LOOKS = (2, 3, 4)
N_ARMS = 8
DECIDED = ("better", "worse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300, help="simulated, for each correlation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-demo", action="store_true", help="simulate only")
    parser.add_argument("--write", action="store_true", help="into docs/sequential.md")
    options = parser.parse_args()
    rows = [row for rho in (0.0, 0.4) for row in simulated(rho, options)]
    sections = {"simulated": f"{table(rows)}\n\n{options.studies} studies a correlation."}
    if not options.no_demo:
        with tempfile.TemporaryDirectory() as folder:
            sections["demo"] = f"{demo(Path(folder))}\n\n{machine('torch')}."
    for name, text in sections.items():
        print(text, end="\n\n")
        if options.write:
            write_section(name, text, PAGE)


def simulated(rho: float, options: argparse.Namespace) -> list[dict[str, str]]:
    """Judge the same simulated runs by each design."""
    rng = np.random.default_rng([options.seed, int(10 * rho)])
    cell = Cell(N_ARMS, LOOKS[-1], rho)
    found: dict[str, list[tuple[np.ndarray, np.ndarray, int]]] = {}
    for _ in range(options.studies):
        study = simulate(cell, rng)
        found.setdefault("sequential, at most 8", []).append(sequential(study))
        for n in (4, 8):
            found.setdefault(f"fixed, {n}", []).append(fixed(study, n))
    real = study.truth != 0
    rows = []
    for name, answers in found.items():
        decided = np.array([answer[0] for answer in answers])
        seeds = np.array([answer[1] for answer in answers])
        rows.append(
            {
                "correlation": f"{rho}",
                "seeds per arm": name,
                "family error": f"{decided[:, ~real].any(axis=1).mean():.3f}",
                "power": f"{decided[:, real].mean():.3f}",
                "seeds of a real effect": f"{seeds[:, real].mean():.1f}",
                "runs trained in all": f"{np.mean([answer[2] for answer in answers]):.1f}",
            }
        )
    return rows


def sequential(study: Study) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which arms are decided, the seeds that each one got, and all runs trained."""
    plan = StudyPlan(study="simulated", looks=list(LOOKS), alpha=ALPHA, rope=SD)
    rows = decide(runs_of(study), plan).table.sort_values("arm")
    decided = rows["verdict"].str.startswith(DECIDED).to_numpy()
    seeds = np.array([LOOKS[look - 1] for look in rows["look"]])
    return decided, seeds, int(seeds.sum() + seeds.max())


def fixed(study: Study, n: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the same of a design with `n` seeds an arm, judged once."""
    judged = compare(runs_of(study)[study.seed < n], alpha=ALPHA, practical_size=SD).table
    rows = judged[judged["arm"] != "baseline"].sort_values("arm")
    n_arms = len(study.truth)
    return rows["p_adj"].to_numpy() < ALPHA, np.full(n_arms, n), n * (n_arms + 1)


def runs_of(study: Study) -> pd.DataFrame:
    """Return the study as a table of runs."""
    names = np.array(["baseline", *[f"arm{t:02d}" for t in range(len(study.truth))]])
    return pd.DataFrame({"arm": names[study.arm], "init_seed": study.seed, "test_loss": study.loss})


def demo(folder: Path) -> str:
    """Run the demo study in looks, then the rest of its seeds; return both tables side by side."""
    looks = ",".join(map(str, DEMO_LOOKS))
    given = [f"runs_dir={folder}/runs", f"data_dir={folder}/data", "hardware=cpu"]
    harness(["+study=demo", "hydra/sweeper=sequential", f"hydra.sweeper.looks=[{looks}]", *given])
    runs = read_runs([str(folder / "runs" / "demo")])
    (plan,) = runs.plans.values()
    in_looks, n_runs = decide(runs.frame, plan).table.set_index("arm"), len(runs.frame)
    arms = dict.fromkeys(cell["arm"] for cell in plan.cells)
    every = [f"+intervention={','.join(arms)}", f"seed=range({DEMO_LOOKS[-1]})"]
    harness(["-m", "study_name=demo", *every, *given])
    whole = read_runs([str(folder / "runs" / "demo")]).frame
    frame = whole[["arm", "init_seed", "data_seed", "loop_seed", "test_loss", "status"]]
    one_shot = compare(frame, rope=plan.rope).table.set_index("arm")
    counts = runs.frame.groupby("arm").size()
    rows = [
        {
            "arm": arm,
            "seeds": str(counts[arm]),
            "delta in looks": f"{in_looks.loc[arm, 'delta']:+.4f}",
            "verdict in looks": in_looks.loc[arm, "verdict"],
            "delta of 4 seeds": f"{one_shot.loc[arm, 'delta']:+.4f}",
            "verdict of 4 seeds": one_shot.loc[arm, "verdict"],
        }
        for arm in one_shot.index
        if arm != "baseline"
    ]
    return f"{n_runs} runs trained in looks, {len(whole)} by the fixed design.\n\n{table(rows)}"


def harness(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "harness", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}\n{done.stderr}")


if __name__ == "__main__":
    main()
