"""What a sweep varies names arms."""

from dataclasses import asdict

import pytest
from omegaconf import OmegaConf

from harness.cell.build import all_changes
from harness.cell.freeze import freeze, load_frozen, locate
from harness.config import ConfigError, recipe, scientific
from harness.config.compose import load, load_all
from harness.config.typed import arm_label, as_typed
from harness.records.files import canonical_hash
from tests.harness.test_sweeps import sweeper

pytestmark = pytest.mark.thorough

NOTHING_PLANNED = OmegaConf.create({"study": {"arms": []}, "hydra": {"runtime": {"choices": {}}}})


def jobs(*arguments: str) -> list[tuple[str, ...]]:
    return sweeper().jobs(NOTHING_PLANNED, list(arguments))


def test_a_sweep_notes_what_it_varies_seeds_and_hardware_aside() -> None:
    swept = jobs("train.batch_size=8,16", "seed=range(2)", "optim.lr=0.1", "hardware.threads=1,2")
    assert len(swept) == 8
    assert {job[-1] for job in swept} == {"sweep=[train.batch_size]"}
    assert jobs("seed=0,1")[0] == ("seed=0",)


def test_a_swept_value_names_the_arm_where_it_is_not_the_baseline_s() -> None:
    arms = [load([*job]).arm for job in jobs("train.batch_size=16,32", "optim.lr=2e-3,0.1")]
    assert arms == [
        "baseline[optim.lr=2e-3]", "baseline[optim.lr=0.1]",
        "baseline[optim.lr=2e-3,train.batch_size=32]", "baseline[optim.lr=0.1,train.batch_size=32]",
    ]  # fmt: skip


def test_a_swept_intervention_keeps_its_name_and_gets_the_value() -> None:
    swept = jobs("optim.lr=2e-3,3e-3", "+intervention=baseline,no_dropout")
    assert load([*swept[1]]).arm == "no_dropout[optim.lr=2e-3]"
    assert all_changes(load([*swept[1]])).keys() >= {"optim.lr", "model.dropout"}


@pytest.mark.parametrize(
    ("overlay", "key", "filed", "other"),
    [("z_loss", "interventions.z_loss.fn.weight", "1e-4", "1e-2"),
     ("moe", "model.mlp.n_experts", "8", "4")],
)  # fmt: skip
def test_a_swept_value_of_an_overlay_names_the_arm_where_it_is_not_the_overlay_s(
    overlay, key, filed, other
) -> None:
    swept = jobs(f"{key}={filed},{other}", f"+intervention={overlay},[{overlay},no_dropout]")
    arms = [load([*job]).arm for job in swept]
    stack = "+".join(sorted([overlay, "no_dropout"]))
    label = f"[{key}={arm_label(float(other) if 'e' in other else int(other))}]"
    assert arms == [overlay, stack, f"{overlay}{label}", f"{stack}{label}"]
    ids = {canonical_hash(scientific(load([*job]), "d")) for job in swept}
    assert len(ids) == 4


def test_a_value_of_an_overlay_is_set_for_one_arm_as_in_its_file() -> None:
    config = load(["+intervention=[moe,z_loss]", "model.mlp.n_experts=4"])
    assert config.model.mlp["n_experts"] == 4
    assert config.changes["model.mlp.n_experts"] == [None, 4]
    assert config.interventions["z_loss"].changes == {}
    assert recipe(config, "d") == recipe(load([]), "d")


def test_a_swept_group_names_the_arm_by_its_choice() -> None:
    arms = [load([*job]).arm for job in jobs("schedule=constant,warmup_cosine")]
    assert arms == ["baseline", "baseline[schedule=warmup_cosine]"]


def test_sweeping_moves_no_cell_s_id_and_its_recipe_is_the_baseline_s() -> None:
    plain, swept = (
        load(["train.batch_size=32"]),
        load(["train.batch_size=32", "sweep=[train.batch_size]"]),
    )
    assert scientific(plain, "d") == scientific(swept, "d")
    assert recipe(swept, "d") == recipe(load([]), "d")
    assert recipe(plain, "d") != recipe(load([]), "d")


def test_a_frozen_cell_of_a_sweep_lies_under_its_arm(tiny) -> None:
    folder = freeze(load([*tiny, "train.batch_size=8", "sweep=[train.batch_size]"]))
    assert folder.parent.name == "baseline[train.batch_size=8]"
    assert load_frozen(folder).arm == folder.parent.name
    assert locate(load([*tiny, "train.batch_size=8"])).name == folder.name


@pytest.mark.parametrize(
    ("value", "label"),
    [(2e-3, "2e-3"), (0.01, "0.01"), (1.5e-8, "1.5e-8"), (-3e-4, "-3e-4"), (1e21, "1e21"),
     (0.0, "0.0"), (None, "null"), (False, "false"), ([0.9, 0.95], "0.9_0.95")],
)  # fmt: skip
def test_a_number_has_one_label(value, label) -> None:
    assert arm_label(value) == label


def test_labels_name_a_folder_and_stay_apart() -> None:
    labels = {arm_label(value) for value in ("a/b", "a_b", "a b", "x" * 300, "x" * 301)}
    assert len(labels) == 5
    assert all("/" not in label and len(label) < 80 for label in labels)


@pytest.mark.parametrize(
    ("typed", "read"),
    [("study_name=12e4567", 'study_name="12e4567"'), ("study_name=a,1e3", 'study_name=a,"1e3"'),
     ("tracking.tags=[1e3,b]", 'tracking.tags=["1e3",b]'), ("train.tokens=1e6", "train.tokens=1000000"),
     ("train.tokens=1e6,2.5e3", "train.tokens=1000000,2500"), ("train.tokens=2.5", "train.tokens=2.5"),
     ("seed=range(3)", "seed=range(3)"), ("optim.lr=1e-3", "optim.lr=1e-3"),
     ("+intervention=[a,b]", "+intervention=[a,b]"), ("data.path='1 2'", "data.path='1 2'"),
     ("data.path='[a], v=1 b'", "data.path='[a], v=1 b'"), (r'data.path="\" 1"', r'data.path="\" 1"'),
     ("model.norm._target_=a.b", "model.norm._target_=a.b"), ("--cfg", "--cfg")],
)  # fmt: skip
def test_an_override_is_read_in_the_type_of_its_key(typed, read) -> None:
    assert as_typed([typed]) == [read]


def test_cells_of_an_arm_share_nothing_but_their_settings() -> None:
    follows = "sample.top_k=${seed}"  # each cell has its own
    one, other, own = load_all([["seed=1"], ["seed=2", "seeds.data=7"], ["seed=3", follows]])
    assert [one.seed, *asdict(one.seeds).values()] == [1, 1, 1, 1]
    assert [other.seed, *asdict(other.seeds).values()] == [2, 2, 7, 2]
    one.model.mlp["activation"] = "none"
    one.optim.betas.append(0.5)
    other.seed, other.seeds = one.seed, one.seeds
    assert other == load(["seed=1"])
    assert own.sample.top_k == 3
    assert load_all([[follows, f"seed={n}"] for n in (4, 5)])[1].sample.top_k == 5
    with pytest.raises(ConfigError, match=r"seeds\.init=-1: must be 0 or more"):
        load(["seed=-1"])


def test_of_hydras_own_settings_only_a_wrong_one_matters_to_an_arm(tmp_path) -> None:
    assert load_all([["hydra.verbose=true", "hydra/launcher=submitit_local"]]) == load_all([[]])
    with pytest.raises(ConfigError, match="verbos"):
        load_all([["hydra.verbos=true"]])
    with pytest.raises(ConfigError, match="unknown hydra/launcher 'nope'"):
        load_all([["hydra/launcher=nope"]])
    study = tmp_path / "study" / "own.yaml"
    study.parent.mkdir()
    study.write_text(
        "# @package _global_\ndefaults: [{override /hydra/launcher: submitit_local}]\n"
        "hydra: {sweep: {dir: elsewhere}}\nstudy: {seeds: 7}\n"
    )
    assert load([f"hydra.searchpath=[file://{tmp_path}]", "+study=own"]).study.seeds == 7
