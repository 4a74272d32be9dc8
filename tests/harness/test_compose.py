from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from harness.config import Autocast, Config, ConfigError, Matmul, stack_of
from harness.config.compose import _Arm, _composed, load_all, resolve
from harness.config.messages import COMMANDS, explain
from harness.config.validate import BOUNDS, validate
from harness.records.files import CONF_DIR
from tests.configs import load, our_hydra

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+intervention=foo"], ["unknown intervention 'foo'", "weight_tying", "python -m interventions"]),
        (["+intervention=[qkv_bias,foo]"], ["unknown intervention 'foo'", "weight_tying"]),
        (["scale=huge"], ["unknown scale 'huge'", "demo", "gpt2_small"]),
        (["model.n_lyer=3"], ["n_lyer", "n_layer"]),
        (["+model.n_lyer=3"], ["n_lyer", "n_layer"]),
        (["+nonsense=3"], ["nonsense", "study_name"]),
        (["train.batch_size=many"], ["many", "train.batch_size"]),
        (["model=3"], ["group", "string"]),
        (["+intervention=[qkv_bias"], ["cannot read '+intervention=[qkv_bias'", "'+intervention=[a,b]'"]),
        (["+intervention="], ["names no intervention", "python -m interventions"]),
        (["+intervention=qkv_bias", "interventions.qkv_bias.sumary=x"], ["interventions.qkv_bias.sumary", "allowed in a card: summary, source"]),
        (["model.n_head=7"], ["n_embd=128", "n_head=7", "n_head=2, 4, 8"]),
        (["model.dropout=1"], ["model.dropout=1", "[0, 1)"]),
        (["optim.lr=nan"], ["optim.lr=nan: must be a finite number"]),
        (["optim.grad_clip=inf"], ["optim.grad_clip=inf: must be a finite number"]),
        (["optim.betas=[0.9,nan]"], ["optim.betas=[0.9, nan]: must be a finite number"]),
        (["schedule=warmup_cosine", "schedule.warmup_frac=inf"], ["schedule.warmup_frac=inf: must be"]),
        (["hardware.usd_per_hour=-1"], ["hardware.usd_per_hour=-1.0: must be 0 or more"]),
        (["train.tokens=100"], ["train.tokens=100", "no step", "1024"]),
        (["model.vocab_size=100"], ["vocab_size=100", "257"]),
        (["study_name=../x"], ["study_name", "letters"]),
        (["seed=-1"], ["seeds", "0 or more"]),
        (["seed=1-4"], ["seed=1-4: a seed is one whole number", "-m: 'seed=range(1,5)'", "seed=1,2,3"]),
        (["interventions=qkv_bias"], ["interventions=qkv_bias: ", "'+intervention=qkv_bias'"]),
        (["+interventions=qkv_bias"], ["interventions=qkv_bias: ", "'+intervention=qkv_bias'"]),
        (["+intervention=[batch_size_half,batch_size_double]"], ["batch_size_half", "batch_size_double", "train.batch_size", "(8 and 32)"]),
        (["+intervention=[qkv_bias,qkv_bias]"], ["twice"]),
        (["+intervention=[higher_lr,scheduled_lr]"], ["'higher_lr' adds nothing to this stack"]),
        (["+intervention=no_amp"], ["no_amp", "changes nothing", "scale=demo"]),
        (["model.n_layer=["], ["model.n_layer=["]),
        (["data.document_separator=<|x|>"], ["""'data.document_separator="<|x|>"'"""]),
        (["data.path=~/books"], ['"data.path=$HOME/books"']),
        (["study_name=" + "a" * 201], ["at most 200"]),
        (["sample.prompts=hello"], ["'sample.prompts=[a,b]'"]),
        (["~hydra"], ["Could not delete 'hydra'. No match in the defaults list"]),
        (["statsu"], ["'statsu' is no setting, key=value", "did you mean: python -m harness.status"]),
        (["qkv_bias"], ["'qkv_bias' is no setting", "'+intervention=qkv_bias'"]),
        (["data=my_books"], ["unknown data 'my_books'", "your own text is data=text data.path=FOLDER"]),
        (["nose"], ["'nose' is no setting, key=value", "see: python -m harness --help"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line_that_names_the_way_out(
    overrides: list[str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def bounded(group: object, *path: str) -> Iterator[tuple[str, ...]]:
    for item in fields(group):
        value = getattr(group, item.name)
        if is_dataclass(value):
            yield from bounded(value, *path, item.name)
        elif BOUNDS.keys() & item.metadata.keys():
            yield (*path, item.name)


@pytest.mark.parametrize("path", list(bounded(Config())), ids=".".join)
def test_a_number_is_held_to_the_bounds_that_its_field_declares(path: tuple[str, ...]) -> None:
    group, name = path
    config = load()
    declared = next(i for i in fields(getattr(config, group)) if i.name == name).metadata
    metadata = {bound: declared[bound] for bound in BOUNDS if bound in declared}
    outside = {"above": 0, "at_least": -1, "below": 1, "at_most": 10**40}
    low = metadata.keys() - {"below", "at_most"}
    assert {bound: metadata[bound] for bound in low} in (
        {"above": 0},
        {"at_least": 0},
    )
    for bound in metadata:
        setattr(getattr(config, group), name, outside[bound])
        with pytest.raises(ConfigError, match=rf"^{group}\.{name}={outside[bound]}: must be "):
            validate(config)


def test_every_command_beside_the_engine_s_own_can_be_suggested() -> None:
    harness = CONF_DIR.parent / "harness"
    runnable = {
        path.stem for path in harness.glob("*.py") if '__name__ == "__main__"' in path.read_text()
    }
    runnable |= {path.parent.name for path in harness.glob("*/__main__.py")}
    assert {*COMMANDS, "__main__"} == runnable


def overlay(folder, name: str, body: str) -> str:
    path = folder / "intervention" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    card = f"interventions: {{{name}: {{summary: s, source: t}}}}\n"
    path.write_text(f"# @package _global_\n{card if 'interventions:' not in body else ''}{body}\n")
    return f"hydra.searchpath=[file://{folder}]"


def test_anyones_overlay_works_from_outside_the_repository(tmp_path) -> None:
    search = overlay(tmp_path, "narrow", "model: {n_embd: 64}")
    config = load([search, "+intervention=[narrow,qkv_bias]"])
    assert config.arm == "narrow+qkv_bias"
    assert config.changes == {"model.n_embd": [128, 64], "model.qkv_bias": [False, True]}


@pytest.mark.parametrize("folder", [".", "overlays", "my/conf"])
def test_an_unknown_overlay_that_lies_near_by_is_told_of_the_search_path(
    tmp_path, monkeypatch, folder: str
) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    overlay(tmp_path / folder, "narrow", "model: {n_embd: 64}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="unknown intervention 'narrow'; allowed: ") as caught:
        load(["+intervention=[narrow,qkv_bias]"])
    search = f"hydra.searchpath=[file://{folder}]"
    assert str(caught.value).endswith(
        f"; {Path(folder, 'intervention', 'narrow.yaml')} needs '{search}' in the command"
    )
    assert load([search, "+intervention=[narrow,qkv_bias]"]).arm == "narrow+qkv_bias"


@pytest.mark.parametrize("arm", ["slip", "[qkv_bias,slip]"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("model: {qkv_bais: true}", ["qkv_bais", "allowed in model: n_layer"]),
        ("interventions: {slip: {sumary: s, source: t}}", ["sumary", "allowed in a card: summary"]),
    ],
)
def test_a_typo_in_an_overlay_names_the_file_the_key_and_what_is_allowed(
    tmp_path, arm: str, body: str, words: list[str]
) -> None:
    search = overlay(tmp_path, "slip", body)
    with pytest.raises(ConfigError) as caught:
        load([search, f"+intervention={arm}"])
    for word in ["intervention/slip", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("order", ["a,b", "b,a"])
def test_two_overlays_that_disagree_are_refused_even_where_one_repeats_the_baseline(
    tmp_path, order: str
) -> None:
    overlay(tmp_path, "a", "optim: {weight_decay: 0.1, grad_clip: 1.0}")
    search = overlay(tmp_path, "b", "optim: {weight_decay: 0.01}")
    with pytest.raises(ConfigError, match=r"optim\.weight_decay"):
        load([search, f"+intervention=[{order}]"])


def test_overlays_that_agree_may_be_stacked(tmp_path) -> None:
    folder = tmp_path / "intervention"
    folder.mkdir()
    (folder / "fast.yaml").write_text(
        "# @package _global_\ninterventions: {fast: {summary: s, source: t}}\n"
        "optim: {lr: 3.5e-3, grad_clip: 1.0}\n"
    )
    search = f"hydra.searchpath=[file://{tmp_path}]"
    assert load([search, "+intervention=[fast,scheduled_lr]"]).optim.lr == 3.5e-3


@pytest.mark.parametrize(
    "key",
    [
        "eval: {test_sequences: 7}",
        "seeds: {init: 5}",
        "hardware: {threads: 2}",
        "data: {shuffle: false}",
    ],
)
def test_an_overlay_may_not_touch_data_evaluation_seeds_or_hardware_undeclared(
    tmp_path, key: str
) -> None:
    search = overlay(tmp_path, "cheat", key)
    group = key.split(":")[0]
    with pytest.raises(ConfigError, match=f"may not touch {group}"):
        load([search, "+intervention=cheat"])
    overlay(
        tmp_path, "cheat",
        f"interventions: {{cheat: {{summary: s, source: t, declares: [{group}]}}}}\n{key}",
    )  # fmt: skip
    assert load([search, "+intervention=cheat"]).arm == "cheat"


def test_a_declared_control_may_change_nothing(tmp_path) -> None:
    card = "interventions: {same: {summary: s, source: t, control: true}}"
    assert load([overlay(tmp_path, "same", card), "+intervention=same"]).changes == {}


def test_an_overlay_without_its_own_card_is_refused(tmp_path) -> None:
    card = "interventions: {other: {summary: s, source: t}}\nmodel: {qkv_bias: true}"
    with pytest.raises(ConfigError, match=r"interventions\.NAME"):
        load([overlay(tmp_path, "mine", card), "+intervention=mine"])


def test_an_event_without_its_function_is_refused(tmp_path) -> None:
    card = "interventions: {mine: {summary: s, source: t, event: loss}}"
    with pytest.raises(ConfigError, match="'mine' names the event loss, but no function"):
        load([overlay(tmp_path, "mine", card), "+intervention=mine"])


def test_broken_yaml_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"not valid YAML.*broken\.yaml"):
        load([overlay(tmp_path, "broken", "model: {a: b: c"), "+intervention=broken"])


def test_a_seed_sets_all_three_and_each_can_be_set_alone() -> None:
    seeds = load(["seed=4", "seeds.data=9"]).seeds
    assert (seeds.init, seeds.data, seeds.loop) == (4, 9, 4)


def test_the_published_scale_is_the_published_baseline() -> None:
    config = load(["scale=gpt2_small", "data=fineweb"])
    model, optim = config.model, config.optim
    assert (model.n_layer, model.n_head, model.n_embd, model.block_size) == (12, 12, 768, 1024)
    assert (model.vocab_size, model.dropout) == (50257, 0.1)
    assert not model.qkv_bias
    assert not model.tie_weights
    assert (optim.lr, optim.weight_decay, optim.betas) == (4e-4, 0.1, [0.9, 0.999])
    assert optim.grad_clip is None
    assert config.schedule == {"_target_": "harness.schedule.constant"}
    assert (config.precision.autocast, config.precision.matmul) == (Autocast.fp16, Matmul.high)
    assert (config.train.batch_size, config.n_steps) == (96, 33_164)
    assert config.eval.test_sequences == 19_200
    assert not config.data.shuffle


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("weight_tying", {"model.tie_weights": True}),
        ("qkv_bias", {"model.qkv_bias": True}),
        ("no_dropout", {"model.dropout": 0.0}),
        ("weight_decay_gpt2", {"optim.weight_decay": 0.01}),
        ("weight_decay_cerebras", {"optim.weight_decay": 0.33724}),
        ("no_amp", {"precision.autocast": "none", "precision.matmul": "highest"}),
        ("gradient_clipping", {"optim.grad_clip": 3.5}),
        ("higher_lr", {"optim.lr": 1.4e-3}),
        ("batch_size_small", {"train.batch_size": 6}),
        ("warmup_cosine", {"schedule._target_": "harness.schedule.warmup_cosine",
                           "schedule.warmup_frac": 0.05, "schedule.final_frac": 0.1}),
        ("scheduled_lr", {"optim.lr": 1.4e-3, "schedule._target_": "harness.schedule.warmup_cosine",
                          "schedule.warmup_frac": 0.05, "schedule.final_frac": 0.1}),
    ],
)  # fmt: skip
def test_overlays_have_the_published_values_at_the_published_scale(
    name: str, changes: dict
) -> None:
    config = load(["scale=gpt2_small", f"+intervention={name}"])
    assert {key: new for key, (_, new) in config.changes.items()} == changes


def test_the_baseline_and_every_smaller_stack_can_be_read_off_an_arm(tmp_path) -> None:
    overlay(tmp_path, "wide", "model: {mlp: {expansion: 8}, n_head: 8}")
    search = overlay(tmp_path, "fast", "optim: {lr: 3.5e-3}\nprecision: {matmul: high}")
    stack = load([search, "+intervention=[wide,fast,scheduled_lr]"])
    for part in (
        [],
        ["wide"],
        ["fast"],
        ["scheduled_lr"],
        ["wide", "fast"],
        ["fast", "scheduled_lr"],
    ):
        alone = load([search, f"+intervention=[{','.join(part)}]" if part else "seed=0"])
        assert asdict(stack_of(stack, part)) == asdict(alone)


ELSEWHERE = ("hydra", "intervention")
"""Hydra's own group, and overlays, each of which has tests of its own."""
GROUPS = sorted({path.name for path in CONF_DIR.iterdir() if path.is_dir()} - set(ELSEWHERE))
NEEDED = {"data=text": ["data.path=x"]}


@pytest.mark.parametrize("group", GROUPS)
def test_every_preset_composes(group: str) -> None:
    plus = "+" if group == "study" else ""
    presets = [f"{group}={file.stem}" for file in sorted((CONF_DIR / group).glob("*.yaml"))]
    composed = load_all([[*NEEDED.get(p, []), f"{plus}{p}"] for p in presets])
    assert len(composed) == len(presets) > 0


@pytest.mark.parametrize("path", sorted(CONF_DIR.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_file_opens_with_the_command_that_runs_it(path) -> None:
    head = path.read_text().splitlines()[:2]
    wanted = "python -m harness" if path.parent == CONF_DIR else f"{path.parent.name}={path.stem}"
    assert any(line.startswith("# python -m harness") and wanted in line for line in head)


@pytest.mark.parametrize(
    "seeds",
    [[], ["seed=3"], ["seeds.data=4"], ["seeds.data=4", "seed=3"], ["seed=3", "seeds.loop=5"]],
)
def test_the_seeds_of_an_arm_share_the_work_and_change_nothing_else(seeds: list[str]) -> None:
    arm = ["+intervention=qkv_bias", "model.dropout=0.2"]
    with our_hydra():
        resolve((), [*arm, "seed=8", "seeds.init=9"])
        shared = resolve((), [*arm, *seeds])
        at_one_go = _Arm(searchpath=(), others=(*arm[1:], *seeds), overlays=("qkv_bias",))
        whole = OmegaConf.to_object(_composed(at_one_go).with_seeds({}))
    whole.changes, whole.interventions = shared.changes, shared.interventions
    assert asdict(shared) == asdict(whole)


def test_what_refers_to_the_seed_follows_it() -> None:
    assert load(["tracking.tags=['s${seed}']", "seed=7"]).tracking.tags == ["s7"]


def test_a_forgotten_package_line_is_named(tmp_path) -> None:
    search = overlay(tmp_path, "bare", "model: {qkv_bias: true}")
    file = tmp_path / "intervention" / "bare.yaml"
    file.write_text(file.read_text().removeprefix("# @package _global_\n"))
    with pytest.raises(ConfigError, match="first line of an overlay must be: # @package _global_"):
        load([search, "+intervention=bare"])


def test_a_group_without_its_plus_is_told_of_it() -> None:
    hydras = ConfigCompositionException(
        "Could not override 'intervention'. No match in the defaults list.\n"
        "To append to your default list use +intervention=['a', 'b']"
    )
    assert explain(hydras) == "intervention is added with a plus: '+intervention=[a,b]'"


def test_an_intervention_given_twice_is_told_of_stacks() -> None:
    hydras = ConfigCompositionException("Multiple values for intervention. To override a value ...")
    assert explain(hydras) == (
        "intervention is given twice; a stack is one value: '+intervention=[a,b]'"
    )


def test_an_overlay_of_ones_own_with_the_name_of_one_of_ours_is_refused(tmp_path) -> None:
    own = tmp_path / "intervention" / "swiglu.yaml"
    own.parent.mkdir()
    own.write_text(
        "# @package _global_\ninterventions: {swiglu: {summary: s, source: t}}\n"
        "model: {dropout: 0.3}\n"
    )
    with pytest.raises(ConfigError, match=r"two interventions are called 'swiglu': .*rename yours"):
        load([f"hydra.searchpath=[file://{tmp_path}]", "+intervention=swiglu"])
    assert load([f"hydra.searchpath=[file://{tmp_path}]", "+intervention=geglu"]).changes
