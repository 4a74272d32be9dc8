import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import loop
from harness.cell import recorder as journal
from harness.cell import train as cell
from harness.cell.freeze import freeze, load_frozen
from harness.config.compose import load
from harness.loop import Diverged, Nobody, accumulate_gradients, train
from harness.records import RunRecord, Status, read_record
from harness.records.files import canonical_hash
from harness.records.versions import rank, superseded_by


def run(overrides: list[str]) -> tuple[Path, RunRecord]:
    folder = freeze(load(overrides))
    return folder, cell.run(folder)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_cell_leaves_a_complete_record_and_all_its_files(tiny, tmp_path) -> None:
    folder, record = run([*tiny, "+intervention=qkv_bias", "seed=7", "hardware.usd_per_hour=3.6"])
    assert folder.parts[-3:-1] == ("adhoc", "qkv_bias")
    assert record == read_record(folder)
    assert (record.status, record.step, record.tokens) == (Status.COMPLETE, 10, 2560)
    assert (record.arm, record.interventions) == ("qkv_bias", ["qkv_bias"])
    assert record.cards["qkv_bias"]["published_delta"] == -0.023
    assert record.changes == {"model.qkv_bias": [False, True]}
    assert record.seeds.init == record.seeds.data == record.seeds.loop == 7
    assert record.cost.usd == pytest.approx(record.cost.train_seconds / 1000)
    assert record.cost.peak_memory_bytes > 0
    assert record.provenance.packages["torch"] == torch.__version__
    assert record.provenance.tokenizer == "bytes"
    losses = np.load(folder / "test_losses.npy")
    assert (losses.dtype, losses.shape) == (np.float32, (8,))
    assert record.losses.test == pytest.approx(losses.mean(), abs=1e-6)
    metrics = lines(folder / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [2, 4, 5, 6, 8, 10]  # 5 logged, 2 validated
    assert [row["step"] for row in metrics if "val_loss" in row] == [5, 10]
    samples = lines(folder / "samples.jsonl")
    assert [row["step"] for row in samples] == [5, 10]
    assert all(row["completion"].startswith("Every effort moves you") for row in samples)
    assert load_frozen(folder).arm == "qkv_bias"
    assert not (folder / "checkpoints").exists()


def test_the_same_cell_twice_gives_bit_identical_weights_and_losses(tiny, tmp_path) -> None:
    first, a = run(tiny)
    second, b = run([*tiny, f"runs_dir={tmp_path / 'again'}"])
    assert first.name == second.name
    assert a.fingerprints == b.fingerprints
    assert (first / "test_losses.npy").read_bytes() == (second / "test_losses.npy").read_bytes()


@pytest.mark.parametrize("seed", ["seeds.init", "seeds.data", "seeds.loop"])
def test_each_seed_changes_the_result_through_its_own_draws_only(tiny, seed: str) -> None:
    _, base = run(tiny)
    _, other = run([*tiny, f"{seed}=1"])
    ours, theirs = base.fingerprints, other.fingerprints
    assert ours.final_weights != theirs.final_weights
    assert (ours.init == theirs.init) == (seed != "seeds.init")
    assert (ours.data_order == theirs.data_order) == (seed != "seeds.data")


def test_the_data_seed_changes_nothing_without_shuffling_and_the_record_says_so(tiny) -> None:
    _, a = run([*tiny, "data.shuffle=false"])
    _, b = run([*tiny, "data.shuffle=false", "seeds.data=5"])
    assert a.fingerprints == b.fingerprints
    assert a.fingerprints.data_shuffled is False


def test_the_cell_id_ignores_hardware_tracking_and_paths_but_no_science(tiny, tmp_path) -> None:
    name = freeze(load(tiny)).name
    same = ["hardware.micro_batch=2", "hardware.threads=2", "tracking=wandb", "log.n_points=3",
            "sample.n_times=1", "study_name=other", f"runs_dir={tmp_path / 'x'}"]  # fmt: skip
    different = ["model.dropout=0.2", "optim.lr=1e-4", "seed=1", "train.tokens=2816", "train.batch_size=2",
                 "precision=amp_bf16", "schedule=warmup_cosine", "eval.test_sequences=4",
                 "data.shuffle=false", "+intervention=no_dropout"]  # fmt: skip
    assert {freeze(load([*tiny, override])).name for override in same} == {name}
    names = [freeze(load([*tiny, override])).name for override in different]
    assert name not in names
    assert len(set(names)) == len(names)


def test_the_wording_of_a_card_is_no_part_of_the_cell_id() -> None:
    from harness.config import scientific

    config = load(["+intervention=qkv_bias"])
    before = canonical_hash(scientific(config, "data"))
    config.interventions["qkv_bias"].summary = "said better"
    assert canonical_hash(scientific(config, "data")) == before


@pytest.mark.parametrize("stop_at", [3, 4, 9])
def test_a_cell_stopped_anywhere_goes_on_to_the_weights_of_an_undisturbed_one(
    tiny, tmp_path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    reference, expected = run([*tiny, f"runs_dir={tmp_path / 'undisturbed'}"])
    original = journal.Journal.step_done

    def crash(self, *arguments) -> None:
        original(self, *arguments)
        if self.training.step == stop_at:
            raise KeyboardInterrupt

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "step_done", crash)
        with pytest.raises(KeyboardInterrupt):
            cell.run(folder)
    assert len(list((folder / "checkpoints").glob("*.pt"))) == min(2, stop_at // 2)
    record = cell.run(folder)
    assert record.fingerprints == expected.fingerprints
    assert record.losses == expected.losses
    timing = {"train_seconds", "tokens_per_second"}
    for name in ("metrics.jsonl", "samples.jsonl"):
        ours, theirs = (
            [{k: v for k, v in row.items() if k not in timing} for row in lines(f / name)]
            for f in (folder, reference)
        )
        assert ours == theirs


def test_sigterm_saves_the_state_and_the_next_start_goes_on(tiny, monkeypatch) -> None:
    import os
    import signal

    original = journal.Journal.step_done

    def ask_to_stop(self, *arguments) -> None:
        if self.training.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, *arguments)

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "step_done", ask_to_stop)
        record = cell.run(folder)
    assert record.status is Status.PREEMPTED
    assert record.step == 3
    assert "run it again" in record.error
    steps = []
    monkeypatch.setattr(journal.Journal, "step_done",
                        lambda self, *a: (original(self, *a), steps.append(self.training.step)))  # fmt: skip
    assert cell.run(folder).status is Status.COMPLETE
    assert steps == [4, 5, 6, 7, 8, 9, 10]


def test_a_broken_checkpoint_falls_back_to_the_one_before_and_says_so(
    tiny, monkeypatch, capsys
) -> None:
    _, expected = run([*tiny, "study_name=undisturbed"])
    folder = freeze(load(tiny))
    original = journal.Journal.step_done

    def crash(self, *arguments) -> None:
        original(self, *arguments)
        if self.training.step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "step_done", crash)
        with pytest.raises(KeyboardInterrupt):
            cell.run(folder)
    newest = max((folder / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    record = cell.run(folder)
    assert record.fingerprints == expected.fingerprints
    assert f"{newest.name} cannot be read" in capsys.readouterr().err


def test_a_cell_killed_while_it_is_tested_trains_no_step_again(
    tiny, tmp_path, monkeypatch, capsys
) -> None:
    def kill(*_: object) -> None:
        raise SystemExit

    _, expected = run(tiny)
    folder = freeze(load([*tiny, f"runs_dir={tmp_path / 'again'}"]))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "_test", kill)
        with pytest.raises(SystemExit):
            cell.run(folder)
    monkeypatch.setattr("harness.loop.accumulate_gradients", pytest.fail)
    record = cell.run(folder)
    assert f"going on from step {expected.n_steps}" in capsys.readouterr().err
    assert (record.losses, record.fingerprints) == (expected.losses, expected.fingerprints)


def test_every_test_sequence_has_the_document_that_it_begins_in(tiny, data_dir) -> None:
    from harness.data.corpus import open_corpus

    folder, _ = run(tiny)
    losses, documents = (np.load(folder / f"test_{name}.npy") for name in ("losses", "documents"))
    assert len(losses) == len(documents) == 8
    starts = open_corpus(load(tiny).data, data_dir).document_starts("test")
    firsts = 16 * np.arange(8)
    assert (starts[documents] <= firsts).all()
    assert all(first < starts[d + 1] for first, d in zip(firsts, documents, strict=True))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("study.alpha=7", r"study\.alpha=7.0: must be in \(0, 0\.5\)"),
        ("study.rope=-0.1", r"study\.rope=-0\.1: must be above 0"),
        ("+study.baseline_seeds=0", "baseline_seeds=0: must be above 0"),
        ("hardware.micro_batch=-1", "micro_batch=-1: must be above 0"),
        ("hardware.slots=-1", "slots=-1: must be above 0"),
        ("optim.betas=[0.9]", r"betas=\[0\.9\]: two numbers in"),
        ("checkpoint.every_steps=-1", "every_steps=-1: must be 0 or more"),
    ],
)
def test_impossible_plans_and_hardware_are_refused(tiny, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load([*tiny, override.removeprefix("+")])


def test_a_finished_cell_is_not_trained_again_and_a_failed_one_is(tiny, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", fail)
        record = cell.run(folder)
    assert (record.status, record.error) == (Status.FAILED, "RuntimeError: out of luck")
    first = cell.run(folder)
    assert first.status is Status.COMPLETE
    monkeypatch.setattr(cell, "train", fail)
    assert cell.run(folder) == first


def test_divergence_is_a_result_with_its_step_not_a_crash(tiny, monkeypatch) -> None:
    folder, record = run([*tiny, "optim.lr=1e30", "train.max_skipped_steps=3",
                          "checkpoint.every_steps=0", "hardware.usd_per_hour=3600"])  # fmt: skip
    assert record.status is Status.DIVERGED
    assert record.tokens == record.step * 256 > 0
    assert record.cost.usd == pytest.approx(record.cost.train_seconds)
    assert "3 steps in a row" in record.error
    assert record.skipped_steps == 3
    assert record.losses.test is None
    json.loads((folder / "record.json").read_text(), parse_constant=pytest.fail)  # no NaN in JSON
    assert cell.run(folder).status is Status.DIVERGED


def test_a_step_with_a_gradient_that_is_not_finite_is_left_out_and_counted(make_training) -> None:
    training = make_training(["data.shuffle=false"])
    before = {n: p.clone() for n, p in training.model.named_parameters()}

    def poison(model: torch.nn.Module, step: int) -> None:
        if step == 0:
            next(model.parameters()).grad[0, 0] = float("nan")

    training.events.gradients_ready = poison
    seen = []

    class Observer:
        def step_done(self, loss: torch.Tensor, grad_norm: torch.Tensor, lr: float) -> None:
            after = dict(training.model.named_parameters())
            seen.append(all(torch.equal(after[n], before[n]) for n in before))

    train(training, Observer())
    assert seen[0]
    assert not any(seen[1:])
    assert (training.skipped_steps, training.skipped_in_a_row) == (1, 0)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "amp_fp16", "amp_bf16"])
def test_every_precision_trains_and_stays_near_float32(tiny, precision: str) -> None:
    _, record = run([*tiny, f"precision={precision}"])
    _, reference = run([*tiny, "precision=fp32"])
    assert record.status is Status.COMPLETE
    assert record.losses.test == pytest.approx(reference.losses.test, abs=0.02)


def test_accumulation_does_not_change_the_training(tiny) -> None:
    _, whole = run([*tiny, "model.dropout=0"])
    _, parts = run([*tiny, "model.dropout=0", "hardware.micro_batch=1", "study_name=parts"])
    assert whole.cell == parts.cell
    assert parts.losses.test == pytest.approx(whole.losses.test, abs=1e-5)


def test_accumulated_gradients_are_the_mean_over_the_whole_batch(make_training) -> None:
    """Two trainings that agree do not show it: Adam's steps hardly depend on the gradients' scale."""

    def gradients(micro_batch: int) -> list[torch.Tensor]:
        training = make_training(["model.dropout=0", f"hardware.micro_batch={micro_batch}"])
        assert training.micro_batch == micro_batch
        loss = accumulate_gradients(training, 0)
        return [loss, *(parameter.grad for parameter in training.model.parameters())]

    whole = gradients(16)
    for micro_batch in (4, 1):
        torch.testing.assert_close(gradients(micro_batch), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("at_most", "expected"), [(None, 12), (5, 4), (7, 6), (1, 1), (100, 12)])
def test_the_micro_batch_is_the_largest_divisor_that_fits(at_most, expected: int) -> None:
    from harness.loop import largest_micro_batch

    assert largest_micro_batch(12, at_most) == expected


def test_clipping_bounds_the_norm_of_all_gradients(make_training) -> None:
    training = make_training(["optim.grad_clip=0.01"])
    norms = []
    step = training.precision.step

    def spy(optimizer: torch.optim.Optimizer, grad_norm: torch.Tensor) -> bool:
        grads = [p.grad for p in training.model.parameters()]
        norms.append((grad_norm.item(), torch.nn.utils.get_total_norm(grads).item()))
        return step(optimizer, grad_norm)

    training.precision.step = spy
    train(training, type("Nobody", (), {"step_done": lambda *_: None})())
    assert all(before > 0.01 for before, _ in norms)
    assert all(after == pytest.approx(0.01, rel=1e-3) for _, after in norms)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["model.block_size=1000000", "train.tokens=16000000"],
            ["1000000 tokens", "split", "at most"],
        ),
        (["eval.test_sequences=1000000"], ["eval.test_sequences", "test split", "at most"]),
        (["data=fineweb", "model.vocab_size=50304"], ["python -m harness.prepare data=fineweb"]),
        (["runs_dir=/proc/nowhere"], ["cannot write", "runs_dir"]),
    ],
)
def test_what_cannot_be_frozen_is_refused_before_training(tiny, overrides, words) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are checked below
        freeze(load([*tiny, *overrides]))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_device_that_is_not_there_is_refused_by_name(tiny) -> None:
    with pytest.raises(
        ValueError, match=r"hardware\.device=cuda:93 is not here; available: auto, cpu"
    ):
        run([*tiny, "hardware.device=cuda:93"])


def test_uncommitted_changes_are_kept_as_a_patch(tmp_path, monkeypatch) -> None:
    from harness.cell import provenance

    repository = tmp_path / "repository"
    repository.mkdir()
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (repository / "a.py").write_text("x = 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    monkeypatch.setattr(provenance, "_SOURCE", repository)
    monkeypatch.setattr(provenance, "__file__", str(repository / "a.py"))

    def collect() -> provenance.Provenance:
        provenance.code_state.cache_clear()
        return provenance.collect(tmp_path, device="cpu", config_sha256="")

    clean = collect()
    assert (clean.git_dirty, clean.dirty_patch) == (False, None)
    assert len(clean.git_sha) == 40
    (repository / "a.py").write_text("x = 2\n")
    (repository / "conf").mkdir()
    (repository / "conf" / "idée.yaml").write_text("y: 3\n")
    (repository / "results" / "run").mkdir(parents=True)
    (repository / "results" / "run" / "config.yaml").write_text("z: 4\n")
    dirty = collect()
    assert dirty.git_dirty
    patch = (tmp_path / dirty.dirty_patch).read_text()
    assert "+x = 2" in patch
    assert "+y: 3" in patch
    assert "+z: 4" not in patch  # runs of whatever folder
    provenance.code_state.cache_clear()


def test_diverged_is_raised_only_after_enough_steps(make_training) -> None:
    training = make_training(["optim.lr=1e30", "train.max_skipped_steps=4"])
    with pytest.raises(Diverged):
        train(training, type("Nobody", (), {"step_done": lambda *_: None})())
    assert training.skipped_in_a_row == 4


def test_weights_alone_are_kept_along_the_way_and_load_back(tiny) -> None:
    from safetensors.torch import load_file

    from harness.model import build

    folder, record = run([*tiny, "checkpoint.n_weights=2", "+intervention=weight_tying"])
    files = sorted(path.name for path in (folder / "weights").iterdir())
    assert files == ["step_000000005.safetensors", "step_000000010.safetensors"]
    config = load_frozen(folder)
    model = build(config.model)
    missing, unexpected = model.load_state_dict(
        load_file(folder / "weights" / files[1]), strict=False
    )
    assert (missing, unexpected) == (["head.weight"], [])  # tied: stored once
    from harness.engine.randomness import weights_hash

    assert weights_hash(model) == record.fingerprints.final_weights


def test_checkpoints_that_will_not_fit_are_refused_before_training(tiny, monkeypatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free=1000))
    folder, record = run(tiny)
    assert record.status is Status.FAILED
    assert "1000" not in record.error
    assert "Traceback" not in (folder / "log.txt").read_text()
    assert "checkpoints will need" in record.error
    assert "checkpoint.keep" in record.error
    assert not (folder / "metrics.jsonl").exists()


def test_deterministic_mode_asks_torch_for_it_and_changes_no_bit_on_a_cpu(tiny) -> None:
    _, plain = run(tiny)
    try:
        _, strict = run([*tiny, "hardware.deterministic=true", "study_name=strict"])
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert strict.status is Status.COMPLETE
    assert strict.fingerprints == plain.fingerprints


@pytest.mark.parametrize("compiled", [True, False])
def test_the_time_of_the_compiler_is_paid_but_is_no_speed(tiny, monkeypatch, compiled) -> None:
    clock, original = [0.0], accumulate_gradients

    def step(training, number):
        clock[0] += 1001.0 if number == 0 else 1.0
        return original(training, number)

    monkeypatch.setattr(loop, "accumulate_gradients", step)
    monkeypatch.setattr(journal.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch, "compile", lambda model: model)
    hardware = [f"hardware.compile={compiled}", "hardware.usd_per_hour=3600",
                "hardware.peak_flops=1e6"]  # fmt: skip
    folder, record = run([*tiny, *hardware])
    cost = record.cost
    assert (cost.train_seconds, cost.usd) == (1010, 1010)
    assert cost.tokens_per_second == (256 if compiled else pytest.approx(2560 / 1010, abs=0.1))
    assert cost.mfu == pytest.approx(cost.flops / 2560 * cost.tokens_per_second / 1e6)
    *_, last = lines(folder / "metrics.jsonl")
    assert last["tokens_per_second"] == cost.tokens_per_second


@pytest.fixture
def own_idea(tmp_path, monkeypatch):
    """Return a module of one's own with a helper, and the overrides of its arm."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    overlay = tmp_path / "conf" / "intervention" / "own.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(
        "# @package _global_\n"
        "interventions: {own: {summary: s, source: t, event: loss,"
        " fn: {_target_: own_idea.scale, _partial_: true}}}\n"
    )
    (tmp_path / "own_helper.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "own_idea.py").write_text(
        "from own_helper import FACTOR\n"
        "def scale(loss, logits, y, model):\n    return loss * FACTOR\n"
    )
    yield tmp_path, [f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "+intervention=own"]
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_a_cell_that_failed_its_rehearsal_is_superseded_by_the_mended_one(tiny, own_idea) -> None:
    folder, arm = own_idea
    module = folder / "own_idea.py"
    text = module.read_text()
    module.write_text(f"{text}    return nonsense\n".replace("return loss", "loss"))
    broken = freeze(load([*tiny, *arm]))
    assert cell.rehearse(broken, 1) == 1
    module.write_text(text)
    del sys.modules["own_idea"]
    mended = freeze(load([*tiny, *arm]))
    cell.run(mended)
    records = [read_record(broken), read_record(mended)]
    assert [record.status for record in records] == ["failed", "complete"]
    asked = {broken.name: "first", mended.name: "last"}
    ranked = [(record, rank(record, [], asked)) for record in records]
    assert superseded_by(ranked) == [records[1], None]


def test_editing_an_interventions_own_code_makes_another_cell(tiny, own_idea) -> None:
    folder, arm = own_idea
    module = folder / "own_idea.py"
    module.write_text("def scale(loss, logits, y, model):\n    return loss * 1.0\n")
    first = freeze(load([*tiny, *arm]))
    assert freeze(load([*tiny, *arm])) == first
    record = cell.run(first)
    assert (first / "sources" / "own_idea.py").read_text() == module.read_text()
    module.write_text("def scale(loss, logits, y, model):\n    return loss * 0.5\n")
    second = freeze(load([*tiny, *arm]))
    assert second != first
    assert cell.run(second).provenance.sources.keys() == {"own_idea.scale"}
    assert read_record(second).provenance.sources != record.provenance.sources
    del sys.modules["own_idea"]
    module.write_text("def skale(loss, logits, y, model):\n    return loss\n")
    with pytest.raises(ValueError, match=r"own_idea\.py defines no 'scale'; it has: skale"):
        freeze(load([*tiny, *arm]))
    module.unlink()
    with pytest.raises(ValueError, match=r"no module 'own_idea'; put it into"):
        freeze(load([*tiny, *arm]))


def test_the_cells_of_an_arm_share_their_version_and_its_edits_do_not(tiny, own_idea) -> None:
    folder, arm = own_idea
    versions = [run([*tiny, *arm, f"seed={seed}"])[1].version for seed in (0, 1)]
    (folder / "own_helper.py").write_text("FACTOR = 0.5\n")
    assert run([*tiny, *arm])[1].version not in {*versions, None}
    assert versions[0] == versions[1]


@pytest.mark.parametrize("edited", ["own_idea", "own_helper"])
def test_a_frozen_cell_trains_with_the_sources_it_was_frozen_with(
    tiny, own_idea, edited: str, capsys
) -> None:
    folder, arm = own_idea
    frozen = freeze(load([*tiny, *arm]))
    with (folder / f"{edited}.py").open("a") as file:
        file.write("FACTOR = 0.0\n")
    assert freeze(load([*tiny, *arm])) != frozen
    importlib.import_module("own_idea")  # as an earlier cell of this process may have done
    record = cell.run(frozen)
    assert f"{edited} was edited since this cell was frozen" in capsys.readouterr().err
    assert record.provenance.sources == {"own_idea.scale": read_record(frozen).provenance.sources[
        "own_idea.scale"]}  # fmt: skip
    _, plain = run(tiny)
    assert record.losses.test == pytest.approx(plain.losses.test, abs=1e-5)  # times 1, not 0
    assert {path.name for path in (frozen / "sources").iterdir()} == {
        "own_idea.py", "own_helper.py"}  # fmt: skip


@pytest.mark.parametrize("target", ["own_package.scale", "own_package.inner.scale"])
@pytest.mark.parametrize("edited", ["__init__", "inner", "deep/__init__", "deep/part"])
def test_a_package_s_sources_are_all_that_it_imports(
    tiny, own_idea, target: str, edited: str, capsys
) -> None:
    folder, arm = own_idea
    package = folder / "own_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import scale\n")
    (package / "inner.py").write_text(
        "from .deep import FACTOR\ndef scale(loss, logits, y, model):\n    return loss * FACTOR\n"
    )
    (package / "deep" / "__init__.py").write_text("from .part import FACTOR\n")
    (package / "deep" / "part.py").write_text("FACTOR = 1.0\n")
    (package / "part.py").write_text("raise RuntimeError('beside, and not imported')\n")
    overlay = folder / "conf" / "intervention" / "own.yaml"
    overlay.write_text(overlay.read_text().replace("own_idea.scale", target))
    frozen = freeze(load([*tiny, *arm]))
    assert {path.name for path in (frozen / "sources").iterdir()} == {
        "own_package.__init__.py", "own_package.inner.py", "own_package.deep.__init__.py",
        "own_package.deep.part.py"}  # fmt: skip
    with (package / f"{edited}.py").open("a") as file:
        file.write("FACTOR = 0.0\nscale = None\n")
    assert freeze(load([*tiny, *arm])) != frozen
    record = cell.run(frozen)
    assert " was edited since this cell was frozen" in capsys.readouterr().err
    assert record.losses.test == pytest.approx(run(tiny)[1].losses.test, abs=1e-5)


def test_a_package_is_not_run_to_find_its_sources(tiny, own_idea) -> None:
    folder, arm = own_idea
    package = folder / "own_folder" / "own_deeper" / "own_package"  # two without __init__.py
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this was run')\n")
    (package / "idea.py").write_text("def scale(loss, logits, y, model):\n    return loss\n")
    overlay = folder / "conf" / "intervention" / "own.yaml"
    target = "own_folder.own_deeper.own_package.idea.scale"
    overlay.write_text(overlay.read_text().replace("own_idea.scale", target))
    frozen = freeze(load([*tiny, *arm]))
    assert {path.name for path in (frozen / "sources").iterdir()} == {
        f"{target.removesuffix('.idea.scale')}.__init__.py", f"{target.removesuffix('.scale')}.py"
    }  # fmt: skip
    shutil.rmtree(package)
    assert "RuntimeError: this was run" in cell.run(frozen).error  # with what it keeps


def test_the_package_around_a_folder_without_init_is_a_source_and_not_run(tiny, own_idea) -> None:
    folder, arm = own_idea
    package = folder / "own_package"
    (package / "own_deeper").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this was run')\n")
    (package / "own_deeper" / "idea.py").write_text("def scale(*_):\n    pass\n")
    overlay = folder / "conf" / "intervention" / "own.yaml"
    target = "own_package.own_deeper.idea.scale"
    overlay.write_text(overlay.read_text().replace("own_idea.scale", target))
    assert {path.name for path in (freeze(load([*tiny, *arm])) / "sources").iterdir()} == {
        "own_package.__init__.py", "own_package.own_deeper.idea.py"
    }  # fmt: skip


def test_a_cell_that_is_about_to_begin_keeps_its_config(tiny) -> None:
    from harness.cell.lock import locked

    folder = freeze(load(tiny))
    before = contents(folder)
    with locked(folder):
        assert freeze(load([*tiny, "hardware.micro_batch=4"])) == folder
    assert contents(folder).items() >= before.items()


@pytest.mark.slow
@pytest.mark.parametrize("n_devices", [1, 2])
def test_a_second_run_of_a_cell_has_the_same_curve_and_is_sent_nowhere(tiny, command, n_devices):
    from analysis.audit.rerun import rerun

    arguments = [*tiny, f"hardware.n_devices={n_devices}", "tracking=wandb"]
    done = command("harness", *arguments, WANDB_MODE="offline")
    folder = freeze(load(arguments))
    assert done.returncode == 0, done.stderr
    sent = sorted((folder / "wandb").iterdir())
    again = rerun(folder, 10)
    assert (again.identical, again.elsewhere, again.steps[-1]) == (True, (), 10)
    assert sorted((folder / "wandb").iterdir()) == sent


def test_an_error_of_ones_own_code_names_the_line_to_fix(tiny, own_idea) -> None:
    folder, arm = own_idea
    helper = folder / "own_helper.py"
    helper.write_text(
        "class Factor:\n    def __rmul__(self, other):\n        return other @ other.nose\nFACTOR = Factor()\n"
    )
    (folder / "own_idea.py").write_text(
        (folder / "own_idea.py").read_text().replace("loss * FACTOR", "FACTOR.__rmul__(loss)")
    )
    frozen = freeze(load([*tiny, *arm]))
    assert cell.rehearse(frozen, 1) == 1
    wanted = f"'nose'; fix {helper}:3 and run it again"
    assert read_record(frozen).error.endswith(wanted)
    assert cell.run(frozen).error.endswith(wanted)


@pytest.mark.parametrize(
    ("body", "what"), [("loss * FACTOR", "None"), ("return logits", r"shape \[\d+, \d+, \d+\]")]
)
def test_a_loss_that_is_not_one_number_is_refused_by_name(tiny, own_idea, body, what) -> None:
    folder, arm = own_idea
    module = folder / "own_idea.py"
    module.write_text(module.read_text().replace("return loss * FACTOR", body))
    error = cell.run(freeze(load([*tiny, *arm]))).error
    assert re.search(rf"interventions\.own\.fn returned {what}: a function of the event", error)


def test_own_code_that_takes_other_arguments_is_named(tiny, own_idea) -> None:
    folder, arm = own_idea
    idea = folder / "own_idea.py"
    idea.write_text("import torch\ndef scale(loss):\n    return loss\n")
    error = cell.run(freeze(load([*tiny, *arm]))).error
    assert error.startswith("TypeError: scale() takes 1 positional argument but 4 were given")
    assert error.endswith(f"; fix {idea}:2 and run it again")


@pytest.mark.parametrize(
    ("line", "words"),
    [("import nose_", "ModuleNotFoundError: No module named 'nose_'; fix {}:1 and run it again"),
     ("raise MemoryError", "MemoryError: ")],
)  # fmt: skip
def test_an_error_while_own_code_is_imported_is_told_as_it_is(tiny, own_idea, line, words) -> None:
    folder, arm = own_idea
    helper = folder / "own_helper.py"
    helper.write_text(line)
    assert cell.run(freeze(load([*tiny, *arm]))).error == words.format(helper)


def test_an_error_of_a_slot_is_told_in_the_words_of_its_author(tiny, own_idea) -> None:
    folder, _ = own_idea
    (folder / "own_slot.py").write_text(
        "def inner():\n    try:\n        {}['even']\n"
        "    except KeyError as error:\n        raise ValueError('must be even') from error\n"
    )
    frozen = freeze(load([*tiny, "+model.mlp.inner={_target_: own_slot.inner}"]))
    error = cell.run(frozen).error
    assert error == f"ValueError: must be even; fix {folder / 'own_slot.py'}:5 and run it again"


def test_an_error_of_own_code_that_was_edited_meanwhile_names_no_line(
    tiny, own_idea, monkeypatch
) -> None:
    folder, arm = own_idea
    helper = folder / "own_helper.py"
    helper.write_text("FACTOR = None\n")
    idea = folder / "own_idea.py"
    frozen = freeze(load([*tiny, *arm]))
    idea.write_text(idea.read_text().replace("FACTOR\n", "FACTOR\n\n"))
    monkeypatch.chdir(frozen.parent)  # as one types it
    assert "fix" not in cell.run(Path(frozen.name)).error


def test_a_source_with_a_typo_is_one_line(tiny, own_idea) -> None:
    folder, arm = own_idea
    (folder / "own_idea.py").write_text("def scale(:\n")
    with pytest.raises(ValueError, match=r"own_idea\.py, line 1: invalid syntax"):
        freeze(load([*tiny, *arm]))
    (folder / "own_idea.py").write_text("scale, other = max, min\n")
    freeze(load([*tiny, *arm]))


def test_a_cell_whose_config_was_edited_is_refused(tiny) -> None:
    folder = freeze(load(tiny))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("lr: 0.001", "lr: 0.01"))
    with pytest.raises(ValueError, match=r"would not train what it was frozen for"):
        cell.run(folder)
    assert not (folder / "record.json").exists()


def test_a_process_held_up_before_it_began_leaves_the_finished_cell_alone(
    tiny, monkeypatch
) -> None:
    from harness.cell.exits import EXIT_BUSY
    from harness.cell.lock import LOCK_FILE

    folder = freeze(load(tiny))
    original = cell.settle_process

    def held_up(hardware) -> None:
        monkeypatch.setattr(cell, "settle_process", original)
        lock = (folder / LOCK_FILE).read_text()
        (folder / LOCK_FILE).unlink()
        cell.run(folder)  # another process takes over, and finishes
        seen.update(contents(folder))
        (folder / LOCK_FILE).write_text(lock.replace("token", "nekot"))

    seen: dict[Path, bytes] = {}
    monkeypatch.setattr(cell, "settle_process", held_up)
    assert cell.report(folder) == EXIT_BUSY
    assert seen.items() <= contents(folder).items()


def test_a_cell_that_diverges_before_a_sample_has_diverged(tiny) -> None:
    _, record = run([*tiny, "optim.lr=1e30", "train.max_skipped_steps=6", "sample.n_times=10"])
    assert (record.status, record.skipped_steps) == (Status.DIVERGED, 6)


def test_a_cell_without_a_finite_step_at_its_end_has_diverged(tiny) -> None:
    _, record = run([*tiny, "optim.lr=1e30"])  # 50 steps in a row are more than it has
    assert record.status is Status.DIVERGED
    assert record.skipped_steps == record.step - 1 == 9
    assert record.losses.test is None


@pytest.mark.parametrize(("lost", "diverges"), [(10, True), (2, True), (1, False)])
def test_a_tenth_at_the_end_without_a_finite_step_is_a_divergence(
    make_training, lost: int, diverges: bool
) -> None:
    """The weights are sound, and so is the test loss; but nothing was learnt any more."""
    training = make_training([])

    def poison(model: torch.nn.Module, step: int) -> None:
        if step >= 10 - lost:
            next(model.parameters()).grad[0, 0] = float("nan")

    training.events.gradients_ready = poison
    with pytest.raises(Diverged, match="up to step 10 of 10") if diverges else nullcontext():
        train(training, Nobody())
    assert training.skipped_in_a_row == lost


def test_only_the_first_of_several_processes_writes_the_record(tiny, tmp_path, data_dir) -> None:
    from harness.cell.build import Setup, build_training, new_record
    from harness.cell.lock import NO_LOCK
    from harness.data.corpus import open_corpus
    from harness.engine.distributed import World

    config = load(tiny)
    folder, cpu = freeze(config), torch.device("cpu")
    corpus, world = open_corpus(config.data, data_dir), World()
    record = new_record(folder, config, corpus, cpu)
    setup = Setup(folder, config, corpus, record, cpu, world, NO_LOCK)
    for world.rank in (1, 0):
        assert not (folder / "record.json").exists()
        journal.Journal(setup, build_training(setup)).update_record()
    assert (folder / "record.json").exists()


def test_signals_at_once_are_one_wish(tiny, monkeypatch) -> None:
    """A group and its launcher may both pass SIGTERM on."""
    original = journal.Journal.step_done

    def terminated(self, *arguments) -> None:
        if self.training.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, *arguments)

    monkeypatch.setattr(journal.Journal, "step_done", terminated)
    folder, record = run(tiny)
    assert record.error.startswith("stopped at step 3 of 10")
    assert (folder / "checkpoints" / "step_000000003.pt").exists()


@pytest.mark.parametrize("damage", ["bit", "another cell's", "other content"])
def test_a_state_that_is_not_the_cells_own_falls_back(tiny, monkeypatch, capsys, damage) -> None:
    expected = run([*tiny, "study_name=undisturbed"])[1]
    folders = [freeze(load([*tiny, f"seed={seed}"])) for seed in (0, 1)]
    with monkeypatch.context() as patch:
        patch.setattr(cell, "_test", lambda *_: sys.exit())
        for folder in folders:
            with pytest.raises(SystemExit):
                cell.run(folder)
    newest, other = (max((folder / "checkpoints").glob("*.pt")) for folder in folders)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    torch.save({"model": {}}, other.parent / "wrong")
    newest.write_bytes({"bit": content, "another cell's": other.read_bytes(),
                        "other content": (other.parent / "wrong").read_bytes()}[damage])  # fmt: skip
    with (folders[0] / "samples.jsonl").open("a") as file:
        file.write('{"step": 60, "completion": "a {x}')  # a half line
    record = cell.run(folders[0])
    assert f"{newest.name} cannot be read" in capsys.readouterr().err
    assert record.fingerprints == expected.fingerprints


def test_a_process_that_lost_its_cell_writes_nothing_more(tiny, monkeypatch) -> None:
    from harness.cell.exits import EXIT_BUSY
    from harness.cell.lock import LOCK_FILE

    original, seen = journal.Journal.step_done, {}

    def robbed(self, *arguments) -> None:
        if self.training.step == 3:  # held up for a minute; another process is at it now
            (folder / LOCK_FILE).write_text('{"host": "elsewhere", "pid": 1, "token": "theirs"}')
            seen.update(contents(folder))
        original(self, *arguments)

    folder = freeze(load(tiny))
    monkeypatch.setattr(journal.Journal, "step_done", robbed)
    assert cell.report(folder) == EXIT_BUSY
    assert seen
    assert contents(folder) == seen


def contents(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "log.txt"]
    return {path: path.read_bytes() for path in files}


def test_a_failed_rehearsal_does_not_touch_what_another_process_has_or_had(
    tiny, monkeypatch
) -> None:
    from harness.cell.lock import locked

    def fail(*_: object) -> None:
        raise RuntimeError("no room")

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", fail)
        with locked(folder):
            assert cell.rehearse(folder, 1) == 0
            assert not (folder / "record.json").exists()
        assert cell.rehearse(folder, 1) == 1
        assert read_record(folder).error == "RuntimeError: no room"
    done = cell.run(folder)
    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", fail)
        assert cell.rehearse(folder, 1) == 0
    assert read_record(folder) == done


def test_checkpoints_go_only_when_the_final_record_is_written(tiny, monkeypatch) -> None:
    original = cell.write_record

    def full_disk(folder: Path, record: RunRecord) -> None:
        if record.status is Status.COMPLETE:
            raise OSError(28, "No space left on device")
        original(folder, record)

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "write_record", full_disk)
        assert cell.report(folder) == 1
    assert list((folder / "checkpoints").glob("*.pt"))
    assert cell.run(folder).status is Status.COMPLETE
    assert not (folder / "checkpoints").exists()


def test_overwriting_a_cell_that_is_being_run_is_refused(tiny) -> None:
    from harness.cell.lock import locked

    folder = freeze(load(tiny))
    with locked(folder), pytest.raises(ValueError, match=r"is being run by .*: stop that first"):
        freeze(load([*tiny, "overwrite=true"]))


def test_a_study_copied_to_another_machine_finds_its_data_there(tiny, data_dir, tmp_path) -> None:
    begun, done = freeze(load(tiny)), freeze(load([*tiny, "seed=1"]))
    cell.run(done)
    shutil.copytree(data_dir, tmp_path / "other" / "data")
    shutil.copytree(tmp_path / "runs", tmp_path / "other" / "runs")
    moved = [*tiny, f"data_dir={tmp_path}/other/data", f"runs_dir={tmp_path}/other/runs"]
    folder, whole = freeze(load(moved)), freeze(load([*moved, "seed=1"]))
    assert (folder.name, whole.name) == (begun.name, done.name)
    assert load_frozen(folder).data_dir == str(tmp_path / "other" / "data")
    assert load_frozen(folder).seeds == load_frozen(begun).seeds
    assert (whole / "config.yaml").read_bytes() == (done / "config.yaml").read_bytes()


def test_how_a_cell_is_run_may_change_until_it_begins(tiny, monkeypatch) -> None:
    folder = freeze(load([*tiny, "hardware.device=cuda:93"]))
    assert freeze(load([*tiny, "hardware.micro_batch=4"])) == folder
    assert load_frozen(folder).hardware.device == "cpu"
    monkeypatch.setattr(journal.Journal, "step_done", lambda *_: 1 / 0)
    assert cell.run(folder).status is Status.FAILED
    freeze(load([*tiny, "hardware.micro_batch=8"]))
    assert load_frozen(folder).hardware.micro_batch == 8
    monkeypatch.undo()
    record = read_record(folder)
    record.status = Status.PREEMPTED
    cell.write_record(folder, record)
    freeze(load([*tiny, "hardware.micro_batch=2"]))
    assert load_frozen(folder).hardware.micro_batch == 8
