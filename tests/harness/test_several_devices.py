"""One cell on several devices, and with too little memory."""

import hashlib
import json

import numpy as np
import pytest
import torch

from harness import loop
from harness.cell import train as cell
from harness.cell.freeze import freeze, load_frozen
from harness.loop import accumulate_gradients
from harness.records import Status, find_records, read_record
from tests.configs import load
from tests.harness.studies import overlay


def test_running_out_of_memory_halves_the_micro_batch_at_the_same_batch(
    tiny, monkeypatch, capsys
) -> None:
    original = loop.accumulate_gradients

    def greedy(training, step):
        if training.micro_batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(training, step)

    monkeypatch.setattr(loop, "accumulate_gradients", greedy)
    folder = freeze(load([*tiny, "model.dropout=0"]))
    record = cell.run(folder)
    assert (record.status, record.provenance.micro_batch) == (Status.COMPLETE, 4)
    assert load_frozen(folder).hardware.micro_batch == 4  # for whoever goes on after a kill
    frozen = (folder / "config.yaml").read_bytes()
    assert record.provenance.config_sha256 == hashlib.sha256(frozen).hexdigest()
    monkeypatch.undo()
    plain = cell.run(freeze(load([*tiny, "model.dropout=0", "study_name=plain"])))
    assert record.losses.test == pytest.approx(plain.losses.test, abs=1e-5)
    err = capsys.readouterr().err
    assert "micro-batches of 16 sequences: going on with 8, the global batch stays 16" in err
    assert "going on with 4" in err


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [2, pytest.param(4, marks=pytest.mark.proof)])
def test_one_command_trains_on_several_devices_the_same_model_as_one(
    command, tmp_path, tiny, n_processes
) -> None:
    """The command starts ``torch.distributed.run`` with a process for each device."""
    arguments = [*tiny, "model.dropout=0"]
    single = freeze(load([*arguments, "study_name=single"]))
    alone = cell.run(single)
    done = command("harness", *arguments, f"hardware.n_devices={n_processes}")
    assert done.returncode == 0, done.stderr
    (folder,) = [path.parent for path in (tmp_path / "runs" / "adhoc").rglob("record.json")]
    record = read_record(folder)
    assert (record.status, record.provenance.n_devices) == (Status.COMPLETE, n_processes)
    assert record.cell == alone.cell
    assert record.losses.test == pytest.approx(alone.losses.test, abs=1e-5)
    rows, expected = (
        [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (folder, single)
    )
    assert [r["step"] for r in rows] == [r["step"] for r in expected]
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)


def test_a_pod_that_knows_its_rank_trains_a_cell_alone(command, tiny) -> None:
    pod = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "nowhere.invalid"}
    done = command("harness", *tiny, **pod)
    assert done.returncode == 0, done.stderr
    assert "complete: baseline" in done.stderr
    refused = command("harness", *tiny, **pod, TORCHELASTIC_RUN_ID="none")
    assert refused.returncode == 2
    assert "error: torchrun starts this command 4 times: start it once" in refused.stderr


@pytest.mark.proof
@pytest.mark.slow
def test_a_killed_cell_of_three_devices_ends_with_the_weights_of_an_undisturbed_one(
    command, tmp_path, tiny
) -> None:
    """The order in which three gradients are summed must not depend on where a process began."""
    (tmp_path / "crashing.py").write_text(
        "import os, pathlib\n"
        "def die_once(model, step):\n"
        "    flag = pathlib.Path('crashed')\n"
        "    if step == 4 and os.environ['RANK'] == '1' and not flag.exists():\n"
        "        flag.touch(); os.abort()\n"
    )
    search = overlay(tmp_path, "crash", "step_done", "crashing.die_once")
    arguments = [*tiny, search, "+intervention=crash", "hardware.n_devices=3", "model.n_layer=2",
                 "train.batch_size=6", "checkpoint.every_steps=2"]  # fmt: skip
    crashed = command("harness", *arguments, PYTHONPATH=str(tmp_path))
    resumed = command("harness", *arguments, PYTHONPATH=str(tmp_path))
    command("harness", *arguments, "runs_dir=undisturbed", PYTHONPATH=str(tmp_path))
    assert (crashed.returncode, resumed.returncode) == (1, 0), resumed.stderr
    assert "going on from step 4" in resumed.stderr
    one, other = (read_record(path) for path in find_records(tmp_path))
    assert one.status is other.status is Status.COMPLETE
    assert one.fingerprints == other.fingerprints


@pytest.mark.proof
@pytest.mark.slow
def test_memory_that_runs_out_on_one_of_two_devices_halves_the_micro_batch(
    command, tmp_path, tiny
) -> None:
    (tmp_path / "hungry.py").write_text(
        "import os\n"
        "def eat(loss, logits_BTV, y_BT, model):\n"
        "    if os.environ['RANK'] == '1' and len(y_BT) > 1:\n"
        "        raise MemoryError('out of memory')\n"
        "    return loss\n"
    )
    search = overlay(tmp_path, "hungry", "loss", "hungry.eat")
    done = command("harness", *tiny, search, "+intervention=hungry", "hardware.n_devices=2",
                   "train.batch_size=4", PYTHONPATH=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "with micro-batches of 2 sequences: going on with 1" in done.stderr
    (path,) = tmp_path.rglob("record.json")
    record, config = read_record(path), (path.parent / "config.yaml").read_bytes()
    assert record.status is Status.COMPLETE
    assert record.provenance.config_sha256 == hashlib.sha256(config).hexdigest()


@pytest.mark.parametrize(("dropout", "same"), [(0.1, False), (0.0, True)])
def test_ranks_draw_different_dropout_masks(make_training, dropout: float, same: bool) -> None:
    training = make_training([f"model.dropout={dropout}"])
    training.batches.indices = lambda _: np.tile(np.arange(8), 2)  # equal data for both ranks
    training.world.size = 2
    training.world.average_gradients = lambda model: None
    gradients = []
    for rank in (0, 1):
        training.world.rank = rank
        training.model.zero_grad()
        accumulate_gradients(training, 0)
        gradients.append(training.model.head.weight.grad.clone())
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.equal(*gradients) is same
