"""What only a GPU can show. `make gpu STAGE=check` runs the tests marked so there.

Each test also runs on the CPU, where it can, so that it is known to work before a GPU is paid for.
"""

import os
import signal

import pytest
import torch

from harness.cell.speed.step_timing import run as time_steps
from harness.loop import train
from harness.records import Status, read_record
from harness.records.files import CONF_DIR
from harness.throughput import largest_that_fits, with_hardware
from tests.configs import load
from tests.conftest import TINY
from tests.harness.cells import run
from tests.harness.studies import results, wait_until
from tests.harness.test_golden import PLAIN, TOLERANCE, Curve, curve

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
]
ON_A_GPU = pytest.param("cuda", marks=GPU)
COMPILED = [False, pytest.param(True, marks=GPU)]
ARMS = sorted(path.stem for path in (CONF_DIR / "intervention").glob("*.yaml"))
pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own


@pytest.fixture(params=["cpu", ON_A_GPU])
def device(request) -> str:
    return request.param


@pytest.fixture
def deterministic(monkeypatch):
    """Return the setting, and undo what it sets for the whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield "hardware.deterministic=true"
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def little_memory():
    """Leave this process a small part of the GPU's memory."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.5e9 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_the_loss_curve_is_the_golden_one(precision, device, make_training) -> None:
    overrides = [f"precision={precision}", "model.dropout=0", f"hardware.device={device}"]
    assert curve(make_training, overrides) == pytest.approx(PLAIN, abs=TOLERANCE[precision], rel=0)


def test_float16_leaves_out_steps_that_overflow_and_goes_on(device, make_training) -> None:
    training = make_training(["precision=amp_fp16", f"hardware.device={device}"])
    training.precision.scaler = torch.amp.GradScaler(device, init_scale=2.0**24)
    watch = Curve()
    train(training, watch)
    assert 0 < training.skipped_steps < 10
    assert all(loss < 6 for loss in watch.losses)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_the_same_cell_twice_ends_with_equal_bits(precision, device, tiny, deterministic) -> None:
    cell = [*tiny, f"precision={precision}", f"hardware.device={device}", deterministic]
    (_, one), (_, two) = (run([*cell, f"study_name={name}"]) for name in ("one", "two"))
    assert one.status is Status.COMPLETE
    assert one.fingerprints == two.fingerprints
    assert one.losses == two.losses


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.parametrize("compiled", COMPILED)
def test_a_killed_cell_ends_with_the_bits_of_an_undisturbed_one(
    compiled, device, tiny, launch, tmp_path
) -> None:
    cell = [*tiny, f"hardware.device={device}", f"hardware.compile={compiled}",
            "hardware.deterministic=true", "train.tokens=51200", "checkpoint.every_steps=20"]  # fmt: skip
    undisturbed = launch(*cell, "study_name=undisturbed")
    assert undisturbed.wait() == 0, undisturbed.stderr.read()
    killed = launch(*cell)
    runs = tmp_path / "runs"
    wait_until(lambda: list(runs.glob("adhoc/*/*/checkpoints/*.pt")))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    again = launch(*cell)
    assert again.wait() == 0, again.stderr.read()
    (one,) = results(runs / "undisturbed").values()
    (two,) = results(runs / "adhoc").values()
    assert two == one


@pytest.mark.parametrize("device", [ON_A_GPU])
def test_a_cell_that_runs_out_of_memory_halves_its_micro_batch(device, tiny, little_memory) -> None:
    large = ["model.n_embd=256", "model.n_head=8", "model.block_size=256", "train.batch_size=512",
             "train.tokens=262144", "precision=fp32"]  # fmt: skip
    folder, record = run([*tiny, *large, f"hardware.device={device}"])
    assert record.status is Status.COMPLETE, record.error
    assert record.provenance.micro_batch < 512
    assert "out of memory" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("device", [ON_A_GPU])
def test_bisection_finds_the_largest_micro_batch_that_fits(device, little_memory) -> None:
    large = ["model.n_embd=256", "model.n_head=8", "model.block_size=256", "train.batch_size=512"]
    config = load([*TINY, *large, f"hardware.device={device}"])
    sizes = [2**n for n in range(10)]

    def fits(size: int) -> bool:
        torch.cuda.empty_cache()
        return time_steps(with_hardware(config, micro_batch=size)) is not None

    assert 1 <= largest_that_fits(sizes, fits) < 512


@pytest.mark.slow
@pytest.mark.parametrize("device", [ON_A_GPU])
def test_half_a_compiled_file_costs_a_second_try(device, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    cell = [*tiny, f"hardware.device={device}", "hardware.compile=true"]
    run(cell)
    for file in (tmp_path / "runs" / "adhoc" / ".compiled").rglob("*.*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    torch.compiler.reset()
    _, record = run([*cell, "seed=1"])
    assert record.status is Status.COMPLETE, record.error


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("device", [ON_A_GPU])
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_twenty_steps(arm, device, compiled, tiny) -> None:
    torch.compiler.reset()  # else the compiler gives up on a process's ninth model
    _, record = run([*tiny, f"+intervention={arm}", f"hardware.device={device}",
                     f"hardware.compile={compiled}", "train.tokens=5120"])  # fmt: skip
    assert record.status is Status.COMPLETE, record.error


@pytest.mark.proof
@pytest.mark.slow
def test_a_study_shares_the_gpu_and_ends_with_the_bits_of_cells_alone(
    device, tiny, command, tmp_path
) -> None:
    study = [*tiny, f"hardware.device={device}", "+study=demo", "study.arms=[baseline,qkv_bias]",
             "study.seeds=2", "hardware.deterministic=true"]  # fmt: skip
    for name, n in (("alone", 1), ("together", 4)):
        done = command("harness", *study, f"study_name={name}", f"hardware.cells_per_gpu={n}")
        assert done.returncode == 0, done.stderr
    prints = [
        {
            (r.arm, r.seeds.init): r.fingerprints.final_weights
            for r in map(read_record, (tmp_path / "runs" / name).rglob("record.json"))
        }
        for name in ("alone", "together")
    ]
    assert prints[0] == prints[1]
    assert len(prints[0]) == 4
