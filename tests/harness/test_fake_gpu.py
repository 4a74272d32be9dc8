"""Cells, samples and fine-tunings on a GPU without numbers: devices, checkpoints, and what waits."""

import subprocess
import sys
from collections import Counter

import pytest

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.evals.instructions.data import read_instructions
from harness.evals.instructions.finetune import finetune
from harness.evals.instructions.settings import parse
from harness.evals.models import load
from harness.evals.sampling import Sampling, complete_all
from harness.hub.weights import find_weights
from harness.records import Status
from tests import configs
from tests.fake_gpu import fake_gpu
from tests.harness.cells import run, run_until
from tests.harness.test_finetune import FAST


def waits(tiny: list[str], *overrides: str) -> Counter[str]:
    """Run a cell; return how often it waited for the GPU, by line."""
    with fake_gpu() as gpu:
        _, record = run([*tiny, "hardware.device=cuda", *overrides])
    assert record.status is Status.COMPLETE, record.error
    assert record.provenance.device.startswith("NVIDIA H100")
    return gpu.waits


@pytest.mark.parametrize("precision", ["fp32", "amp_fp16", "amp_bf16"])
def test_more_steps_wait_for_the_gpu_no_more_often(precision: str, tiny) -> None:
    sparse = [f"precision={precision}", "checkpoint.every_steps=0"]
    short, long = (waits(tiny, *sparse, f"train.tokens={n}") for n in (2560, 5120))
    assert long == short


def test_a_cell_goes_on_from_its_checkpoint(tiny, monkeypatch) -> None:
    arm = ["+intervention=[ema,moe_balanced,soap]", "precision=amp_fp16"]
    with fake_gpu():
        folder = freeze(configs.load([*tiny, "hardware.device=cuda", *arm]))
        run_until(5, folder, monkeypatch)
        record = cell.run(folder)
    assert record.status is Status.COMPLETE, record.error
    assert "going on from step 4" in (folder / "log.txt").read_text()


def test_trained_models_are_sampled_and_fine_tuned_on_the_gpu(trained, tmp_path) -> None:
    newest = str(next(path.parent for path in trained.glob("baseline/*/record.json")))
    config = parse([*FAST, "device=cuda", f"out={tmp_path}"])
    with fake_gpu():
        done = list(complete_all(load(newest, "cuda"), ["A", "A longer one"], Sampling(tokens=3)))
        finetune(find_weights(newest), config, read_instructions(config), seed=0)
    assert [one.prompt for one in done] == ["A", "A longer one"]
    assert len(list(tmp_path.rglob("*.jsonl"))) == 1


ASKED = """
import torch
for name in ("_lazy_init", "current_device", "get_device_properties", "is_available"):
    setattr(torch.cuda, name, lambda *_, name=name: print("asked for", name, flush=True))
"""


@pytest.mark.parametrize(
    ("more", "said"), [("", ""), ("torch.cuda.is_available()", "asked for is_available\n")]
)
def test_the_process_that_cells_fork_from_leaves_the_gpu_to_them(more: str, said: str) -> None:
    code = f"{ASKED}\nimport torch._dynamo, interventions.moe\n{more}\nimport harness.study.nursery"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == said
