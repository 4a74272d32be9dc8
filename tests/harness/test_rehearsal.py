"""Interventions that erase each other in a stack are found before the stack is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records import read_record
from tests.harness.studies import overlay

IDEAS = """\
from torch import nn


def parallel(model):
    for block in model.blocks:
        block.mlp.forward = lambda x, mlp=block.mlp: 0.5 * type(mlp).forward(mlp, x)


def value_emb(model):
    for block in model.blocks:
        block.mlp.forward = lambda x, mlp=block.mlp: 2.0 * type(mlp).forward(mlp, x)


def double_embedding(model):
    model.tok_emb.weight.data.mul_(2)


def relies_on_parallel(model):
    assert "forward" in vars(model.blocks[0].mlp)
    model.tok_emb.weight.data.mul_(3)
"""


@pytest.fixture
def sweep(tmp_path: Path, tiny: list[str], command) -> Callable:
    """Return a function that sweeps one arm through the real command."""
    (tmp_path / "ideas.py").write_text(IDEAS)
    (tmp_path / "intervention").mkdir()
    for name in ("parallel", "value_emb", "double_embedding", "relies_on_parallel"):
        fn = f"{{_target_: ideas.{name}, _partial_: true}}"
        (tmp_path / "intervention" / f"{name}.yaml").write_text(
            f"# @package _global_\ninterventions: {{{name}: {{summary: s, source: t, "
            f"event: model_built, fn: {fn}}}}}\n"
        )

    def run(arm: str, *flags: str):
        search = f"hydra.searchpath=[file://{tmp_path}]"
        return command(
            "harness", *tiny, search, *(flags or ["-m"]), f"+intervention=[{arm}]",
            PYTHONPATH=str(tmp_path),
        )  # fmt: skip

    return run


def test_two_interventions_that_replace_one_method_are_refused_by_name(
    sweep, tmp_path: Path
) -> None:
    done = sweep("parallel,value_emb")
    said = (
        "'parallel' has no effect in the stack parallel+value_emb: the weights are those of "
        "value_emb, as if the same method or setting were replaced twice; merge them into one "
        "class, or leave 'parallel' out"
    )
    assert done.returncode == 1
    assert f"parallel+value_emb cannot take a step: {said}" in done.stderr
    (record,) = (read_record(file.parent) for file in tmp_path.rglob("record.json"))
    assert (record.status, record.error) == ("failed", said)


def test_the_one_that_is_erased_is_found_in_a_larger_stack(sweep) -> None:
    done = sweep("parallel,value_emb,double_embedding,weight_decay_gpt2")
    assert "'parallel' has no effect in the stack" in done.stderr


def test_a_single_stack_is_held_against_its_parts_as_one_of_a_sweep_is(sweep, tmp_path) -> None:
    done = sweep("parallel,value_emb", "train.tokens=256")
    assert done.returncode == 1
    assert "error: 'parallel' has no effect in the stack parallel+value_emb" in done.stderr
    (record,) = (read_record(file.parent) for file in tmp_path.rglob("record.json"))
    assert (record.status, record.step) == ("failed", 0)


@pytest.mark.parametrize(
    "arm",
    [
        "parallel,double_embedding",
        "parallel,qkv_bias",
        "parallel,relies_on_parallel",
        "gradient_clipping,weight_decay_gpt2",
        "batch_size_half,warmup_cosine",
        "lion,momentum_warmup",  # alike after two steps, which see the first of the warmup alone
    ],
)
def test_a_stack_whose_parts_all_count_or_cannot_be_told_yet_is_trained(
    sweep, tmp_path: Path, arm: str
) -> None:
    done = sweep(arm)
    assert done.returncode == 0, done.stderr
    (record,) = (read_record(file.parent) for file in tmp_path.rglob("record.json"))
    assert record.status == "complete"


def test_a_long_single_cell_is_rehearsed_before_its_hours_are_spent(
    command, tmp_path, tiny
) -> None:
    (tmp_path / "late.py").write_text(
        "def fail(model):\n    raise RuntimeError('only at the end')\n"
    )
    search = overlay(tmp_path, "late", "after_eval", "late.fail")
    arguments = [*tiny, search, "+intervention=late", "train.tokens=100000000", "eval.n_val=0"]
    done = command("harness", *arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "only at the end" in done.stderr
    (path,) = tmp_path.rglob("record.json")
    assert read_record(path).step == 0
