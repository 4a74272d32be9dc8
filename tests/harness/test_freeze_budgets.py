"""What freezing notes and refuses, its words whole; what it writes, forgets and leaves alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cell import freeze as freezing
from harness.cell.freeze import (
    check_fits,
    check_identity,
    freeze,
    locate,
    note_budget,
    write_config,
)
from harness.cell.speed import flops as flops_of_a_step
from harness.cell.speed import step_timing
from harness.config import Config, ConfigError
from harness.data.corpus import ensure_corpora
from harness.records import RunRecord, Seeds, Status, write_record
from tests.configs import load


@pytest.fixture
def counted(monkeypatch) -> None:
    """Let an arm's token cost 1.6 times the operations, and 2.5 times the seconds, of another's."""

    def flops(config: Config) -> SimpleNamespace:
        changed = config.interventions or config.optim.lr == 0.5
        return SimpleNamespace(per_token=lambda _: 8.0 if changed else 5.0)

    monkeypatch.setattr(flops_of_a_step, "step_flops", flops)
    monkeypatch.setattr(step_timing, "relative_seconds", lambda *_: 2.5)
    monkeypatch.setattr(freezing, "_TIMED", {})


def noted(*overrides: str) -> Config:
    config = load(overrides)
    note_budget(config, {})
    return config


@pytest.mark.parametrize(("how", "tokens"), [("flops", 1600), ("seconds", 1024)])
def test_an_arm_has_the_tokens_that_its_baselines_budget_pays_for(
    counted, how: str, tokens: int
) -> None:
    size = ["train.tokens=2560", f"train.equal_{how}=true"]
    arm = noted(*size, "+intervention=swiglu")
    assert arm.train.tokens == tokens
    assert arm.changes["train.tokens"] == [2560, tokens]
    assert arm.train.relative_seconds == (2.5 if how == "seconds" else None)
    baseline = noted(*size)
    assert (baseline.train.tokens, baseline.changes) == (2560, {})
    plain = noted("train.tokens=2560", "+intervention=swiglu")
    assert plain.train.tokens == 2560
    swept = load(size)
    swept.swept, swept.swept_changes = {"optim.lr": 0.5}, {"optim.lr": [swept.optim.lr, 0.5]}
    swept.optim.lr = 0.5
    note_budget(swept, {})
    assert swept.train.tokens == tokens
    control = load(size)
    control.interventions = load(["+intervention=qkv_bias"]).interventions
    note_budget(control, {})
    assert control.changes["train.tokens"] == [2560, tokens]


@pytest.mark.parametrize(("how", "tokens"), [("flops", 1600), ("seconds", 1024)])
def test_an_arm_that_states_other_tokens_than_its_budget_pays_for_is_refused(
    counted, how: str, tokens: int
) -> None:
    def stating(own: int) -> Config:
        config = load(["+intervention=swiglu", f"train.equal_{how}=true", "train.tokens=2560"])
        config.changes["train.tokens"] = [2560, own]
        note_budget(config, {})
        return config

    assert stating(tokens).train.tokens == tokens
    with pytest.raises(ConfigError) as caught:
        stating(2559)
    assert str(caught.value) == (
        f"swiglu sets train.tokens=2559, and so does train.equal_{how}=true ({tokens}): "
        "leave out one of them"
    )


def test_settings_of_a_budget_that_do_not_go_together_are_refused(counted, monkeypatch) -> None:
    with pytest.raises(ConfigError) as caught:
        noted("+intervention=swiglu", "train.relative_seconds=2.5")
    assert str(caught.value) == (
        "train.relative_seconds=2.5 is read with train.equal_seconds=true alone: set both, or none"
    )
    both = ["train.equal_flops=true", "train.equal_seconds=true"]
    with pytest.raises(
        ConfigError, match=r"^train\.equal_flops and train\.equal_seconds: leave out one"
    ):
        noted(*both)
    given = noted("train.tokens=4096", "train.equal_seconds=true", "train.relative_seconds=4",
                  "+intervention=swiglu")  # fmt: skip
    assert given.train.tokens == 1024

    def uncountable(_: Config) -> None:
        raise RuntimeError(f"of\n{'x' * 300}")

    monkeypatch.setattr(flops_of_a_step, "step_flops", uncountable)
    with pytest.raises(ConfigError) as caught:
        noted("train.equal_flops=true", "+intervention=swiglu")
    assert str(caught.value) == (
        f"train.equal_flops: the operations of swiglu cannot be counted (of {'x' * 197}): leave it out"
    )


def test_a_timing_is_read_from_a_cell_of_the_same_arm_and_step_alone(
    tiny, counted, monkeypatch
) -> None:
    arm = [*tiny, "+intervention=swiglu", "train.equal_seconds=true"]
    freeze(load(arm))
    broken = locate(load([*arm, "seed=7"]))
    broken.mkdir(parents=True)
    (broken / "config.yaml").write_text("of_another_version: 1\n")
    monkeypatch.setattr(freezing, "_TIMED", {})
    monkeypatch.setattr(step_timing, "relative_seconds", lambda *_: 1.25)
    assert load_noted(arm, "seed=1") == (2.5, 1024)
    assert freezing._TIMED == {}
    assert load_noted(arm, "optim.lr=0.5") == (1.25, 2048)  # not known to take as long
    assert len(freezing._TIMED) == 1
    assert load_noted(arm, "optim.lr=0.5", "seed=1") == (1.25, 2048)
    assert len(freezing._TIMED) == 1
    freeze(load([*tiny, "+intervention=swiglu", "train.batch_size=8", "train.tokens=1280"]))
    assert load_noted(arm, "train.batch_size=8") == (1.25, 2048)


def load_noted(arm: list[str], *more: str) -> tuple[float, int]:
    config = load([*arm, *more])
    locate(config)
    return config.train.relative_seconds, config.train.tokens


def corpus(tests: dict | None = None, **n_tokens: int) -> SimpleNamespace:
    splits = {name: SimpleNamespace(n_tokens=n) for name, n in n_tokens.items()}
    found = SimpleNamespace(
        manifest=SimpleNamespace(name="books", splits=splits), tests=tests or {}
    )
    found.main = found
    return found


FITS = {"train": 17, "val": 25, "test": 41}
"""Tokens of each split for a sequence of 16 to train on, 3 of 8 to validate and 5 to test on."""


def test_a_corpus_fits_with_one_token_more_than_its_sequences_have(tiny) -> None:
    config = load([*tiny, "model.block_size=16", "eval.block_size=8", "eval.val_sequences=3",
                   "eval.test_sequences=5"])  # fmt: skip
    check_fits(config, corpus(**FITS))
    words = {
        "train": "model.block_size: 1 x 16 tokens asked of the train split of books, which has 16: "
        "at most 0 sequences of 16",
        "val": "eval.val_sequences: 3 x 8 tokens asked of the val split of books, which has 24: "
        "at most 2 sequences of 8",
        "test": "eval.test_sequences: 5 x 8 tokens asked of the test split of books, which has 40: "
        "at most 4 sequences of 8",
    }
    for split, said in words.items():
        short = FITS | {split: FITS[split] - 1}
        with pytest.raises(ConfigError) as caught:
            check_fits(config, corpus(**short))
        assert str(caught.value) == said
        further = corpus({"more": corpus(**short)}, **FITS)
        if split == "test":
            with pytest.raises(ConfigError, match=r"^eval\.test_sequences: 5 x 8 tokens"):
                check_fits(config, further)
        else:
            check_fits(config, further)


OLD = ("config.yaml", "record.json", "metrics.jsonl", "samples.jsonl", "test_losses.npy",
       "test_losses.books.npy", "test_documents.npy", "checkpoints/step_000000002.pt")  # fmt: skip
KEPT = ("log.txt", "notes.txt", "weights/step_000000002.safetensors")


def test_overwriting_forgets_what_an_earlier_training_left_and_nothing_else(tiny) -> None:
    folder = freeze(load(tiny))
    for name in (*OLD[1:], *KEPT):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    config = load([*tiny, "overwrite=true"])
    assert freeze(config) == folder
    assert not config.overwrite
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == sorted(
        ["config.yaml", *KEPT])  # fmt: skip
    assert freezing.load_frozen(folder) == config
    (folder / "record.json").write_text("{")
    freeze(load(tiny))
    assert (folder / "record.json").exists()


def test_a_frozen_config_holds_whole_paths_and_is_written_once(tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = freeze(load([*tiny, "runs_dir=here"]))
    assert folder.parent == tmp_path / "here" / "adhoc" / "baseline"
    found = freezing.load_frozen(folder)
    assert found.runs_dir == str(tmp_path / "here")
    assert Path(found.data_dir).is_absolute()
    before = (folder / "config.yaml").stat()
    write_config(folder, found)
    assert (folder / "config.yaml").stat() == before
    found.tracking.entity = "ours"
    write_config(folder, found)
    assert freezing.load_frozen(folder) == found


@pytest.mark.parametrize(
    ("status", "kept"),
    [(None, "new"), (Status.FAILED, "new"), (Status.STOPPED, "old but tracking"),
     (Status.RUNNING, "old but tracking"), (Status.COMPLETE, "old"), (Status.DIVERGED, "old")],
)  # fmt: skip
def test_how_a_cell_is_run_may_change_by_how_far_it_has_come(tiny, status, kept: str) -> None:
    folder = freeze(load([*tiny, "hardware.micro_batch=2", "tracking.entity=theirs"]))
    if status:
        record = RunRecord(study="adhoc", arm="baseline", interventions=[], cell=folder.name,
                           seeds=Seeds(init=0, data=0, loop=0), n_steps=1, status=status)  # fmt: skip
        write_record(folder, record)
    freeze(load([*tiny, "hardware.micro_batch=4", "tracking.entity=ours"]))
    found = freezing.load_frozen(folder)
    assert (found.hardware.micro_batch, found.tracking.entity) == {
        "new": (4, "ours"), "old but tracking": (2, "ours"), "old": (2, "theirs")}[kept]  # fmt: skip


def test_a_cell_whose_record_cannot_be_read_is_left_as_it_is(tiny) -> None:
    folder = freeze(load(tiny))
    (folder / "record.json").write_text("{")
    before = (folder / "config.yaml").read_bytes()
    freeze(load([*tiny, "hardware.micro_batch=4"]))
    assert (folder / "config.yaml").read_bytes() == before


def test_a_damaged_config_of_a_cell_that_has_begun_is_written_anew(tiny) -> None:
    folder = freeze(load(tiny))
    whole = (folder / "config.yaml").read_bytes()
    record = RunRecord(study="adhoc", arm="baseline", interventions=[], cell=folder.name,
                       seeds=Seeds(init=0, data=0, loop=0), n_steps=1)  # fmt: skip
    write_record(folder, record)
    (folder / "config.yaml").write_text("{")
    freeze(load(tiny))
    assert (folder / "config.yaml").read_bytes() == whole


def test_a_cell_is_held_against_its_name(tiny) -> None:
    config = load(tiny)
    folder, found = freeze(config), ensure_corpora(config)
    check_identity(config, found, folder)
    with pytest.raises(ConfigError) as caught:
        check_identity(load([*tiny, "optim.lr=0.5"]), found, folder)
    assert str(caught.value) == (
        f"{folder} would not train what it was frozen for: its config.yaml, its sources or the "
        "corpus stdlib_docs were changed, or another version of this program froze it; undo that, "
        "or delete the folder and run the command again"
    )


def test_where_nothing_can_be_written_the_folder_and_the_setting_are_named(tiny, tmp_path) -> None:
    (tmp_path / "taken").touch()
    config = load([*tiny, f"runs_dir={tmp_path / 'taken'}"])
    with pytest.raises(ConfigError) as caught:
        freeze(config)
    assert str(caught.value) == (
        f"cannot write {locate(config)}: Not a directory; set runs_dir to a folder you may write"
    )
