"""A whole cell on a GPU without numbers: what it writes, and that it waits only where it must."""

import subprocess
import sys
from collections import Counter

import pytest

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.records import Status
from tests.configs import load
from tests.fake_gpu import fake_gpu
from tests.harness.cells import run, run_until


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
        folder = freeze(load([*tiny, "hardware.device=cuda", *arm]))
        run_until(5, folder, monkeypatch)
        record = cell.run(folder)
    assert record.status is Status.COMPLETE, record.error
    assert "going on from step 4" in (folder / "log.txt").read_text()


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
