"""Freezing a cell: its identity, what is refused, what may still change."""

import shutil

import pytest

from harness.cell import recorder
from harness.cell import train as cell
from harness.cell.freeze import _check_fits, freeze, load_frozen
from harness.data.corpus import ensure_corpora
from harness.records import Status, read_record
from harness.records.files import canonical_hash
from tests.configs import load
from tests.harness.cells import contents


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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("study.alpha=7", r"study\.alpha=7.0: must be in \(0, 0\.5\)"),
        ("study.rope=-0.1", r"study\.practical_size=-0\.1: must be above 0"),
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


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["model.block_size=1000000", "train.tokens=16000000"],
            ["1000000 tokens", "split", "at most"],
        ),
        (["eval.test_sequences=1000000"], ["eval.test_sequences", "test split", "at most"]),
        (["eval.val_sequences=1000000"], ["eval.val_sequences", "val split", "at most"]),
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


def test_a_split_holds_as_many_tokens_as_it_has_targets(tiny) -> None:
    corpus = ensure_corpora(load(tiny)).main
    n_targets = corpus.manifest.splits["test"].n_tokens - 1
    _check_fits(corpus, "test", "eval.test_sequences", (1, n_targets))
    with pytest.raises(ValueError, match=f"at most 0 sequences of {n_targets + 1}"):
        _check_fits(corpus, "test", "eval.test_sequences", (1, n_targets + 1))


def test_a_cell_that_is_about_to_begin_keeps_its_config(tiny) -> None:
    from harness.cell.lock import locked

    folder = freeze(load(tiny))
    before = contents(folder)
    with locked(folder):
        assert freeze(load([*tiny, "hardware.micro_batch=4"])) == folder
    assert contents(folder).items() >= before.items()


def test_a_cell_whose_config_was_edited_is_refused(tiny) -> None:
    folder = freeze(load(tiny))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("lr: 0.001", "lr: 0.01"))
    with pytest.raises(ValueError, match=r"would not train what it was frozen for"):
        cell.run(folder)
    assert not (folder / "record.json").exists()


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
    monkeypatch.setattr(recorder.Recorder, "step_done", lambda *_: 1 / 0)
    assert cell.run(folder).status is Status.FAILED
    freeze(load([*tiny, "hardware.micro_batch=8"]))
    assert load_frozen(folder).hardware.micro_batch == 8
    monkeypatch.undo()
    record = read_record(folder)
    record.status = Status.STOPPED
    cell.write_record(folder, record)
    freeze(load([*tiny, "hardware.micro_batch=2"]))
    assert load_frozen(folder).hardware.micro_batch == 8
