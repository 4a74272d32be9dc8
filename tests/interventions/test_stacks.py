"""Stacks of interventions: pairs and threes, drawn at random."""

import io
import random
from copy import deepcopy
from itertools import combinations

import pytest
import torch

from harness.config import ConfigError, stack_of
from harness.loop import evaluated_weights
from harness.model import build
from harness.records.files import flatten
from interventions.card import read_cards
from tests.interventions.arms import (
    NAMES,
    NEEDS,
    TWIN,
    composed,
    evaluated,
    same,
    started,
    steps,
    take,
    trained,
)  # fmt: skip

pytestmark = pytest.mark.thorough

WORDS = ("event", "fn._target_", "fn._partial_")
"""Of a card; each intervention has its own."""
PAIRED = sorted(set(NAMES) - set(NEEDS) - {TWIN})


def some(values, n):
    """Leave all but the first `n` to the proofs."""
    return [pytest.param(v, marks=[pytest.mark.proof] * (i >= n)) for i, v in enumerate(values)]


PAIRS = random.Random(0).sample(list(combinations(PAIRED, 2)), 20)


@pytest.mark.parametrize("pair", some(PAIRS, 8), ids="+".join)
def test_a_pair_trains_as_neither_of_its_parts_or_is_refused_by_name(pair: tuple[str, str]) -> None:
    try:
        stack = trained(pair)
    except ConfigError as error:
        slots = [key for name in pair for key in composed((name,)).changes]
        assert any(word in str(error) for word in (*pair, *slots))  # noqa: PT017
        return
    assert not any(same(stack, trained((name,))) for name in pair)


def compatible(names: tuple[str, ...]) -> bool:
    """Tell whether the overlays' own changes say nothing different of any setting."""
    pairs = [item for name in names for item in composed((name,)).changes.items()]
    return all(value == dict(pairs)[key] for key, value in pairs)


def test_pairs_are_refused_where_their_files_set_something_differently() -> None:
    sets = {card.name: flatten(card.sets) for card in read_cards() if card.name in PAIRED}
    apart = [
        pair for pair in combinations(PAIRED, 2)
        if any(sets[pair[1]].get(key, value) != value and key not in WORDS
               for key, value in sets[pair[0]].items())
    ]  # fmt: skip
    for pair in random.Random(0).sample(apart, 6):
        with pytest.raises(ConfigError, match="differently"):
            composed(pair)


@pytest.mark.parametrize(
    "pair",
    [
        ("ema", "schedule_free"),
        ("schedule_free", "tail_ema"),
        ("schedule_free", "snoo"),
        ("cautious_wd", "schedule_free"),
        ("momentum_warmup", "schedule_free"),
        ("ema", "tail_ema"),
        ("ema_nesterov", "lawa"),
    ],
    ids="+".join,
)
def test_a_stack_that_would_train_and_be_muddled_is_refused_by_name(pair: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="does not combine with") as refusal:
        composed(pair)
    assert all(repr(name) in str(refusal.value) for name in pair)


@pytest.mark.parametrize("mover", ["a_mover", "the_mover"])
@pytest.mark.parametrize("average", ["ema", "tail_ema"])
def test_an_average_is_of_the_weights_as_the_rest_of_the_stack_left_them(average, mover) -> None:
    config = deepcopy(composed((average, "snoo")))
    cards = config.interventions
    cards[average].fn |= {"horizon_frac": 1e-9, "start_frac": 0.0, "blend": 1.0}  # the last weights
    cards["snoo"].fn |= {"every": 1, "lr": 0.5}
    cards[mover] = cards.pop("snoo")
    training = started(config)
    take(training, steps(config)[:2])
    assert same(evaluated(training), dict(training.model.state_dict()))


def test_rotary_positions_stay_exact_beside_weights_in_bfloat16() -> None:
    training = started(composed(("bf16_weights", "rope")))
    take(training, (0,))
    x_BT = training.batches(0)[0].long()
    loaded = build(training.config.model).eval()
    loaded.load_state_dict(evaluated(training), strict=False)
    with evaluated_weights(training) as model:
        assert torch.equal(model.eval()(x_BT), loaded(x_BT))


def test_what_is_left_of_a_stack_is_what_it_would_be_without_the_others() -> None:
    stack = composed(("polar_express", "qk_norm"))  # an argument of the one is null
    for name in ("polar_express", "qk_norm"):
        left, alone = stack_of(stack, (name,)), composed((name,))
        assert (left.optim, left.model) == (alone.optim, alone.model)


def drawn(seed: int) -> tuple[str, ...]:
    """Draw three interventions whose settings agree."""
    draw = random.Random(seed)
    while not compatible(stack := tuple(sorted(draw.sample(PAIRED, 3)))):
        pass
    return stack


@pytest.mark.slow
@pytest.mark.parametrize("seed", some(range(4), 1))
def test_a_stack_trains_resumes_and_needs_each_of_its_parts(seed: int) -> None:
    stack = drawn(seed)
    config, file = composed(stack), io.BytesIO()
    before, after = started(config), started(config)
    take(before, steps(config)[:-1])
    torch.save(before.state_dict(), file)
    file.seek(0)
    after.load_state_dict(torch.load(file, weights_only=True))
    take(after, steps(config)[-1:])
    whole = trained(stack)
    assert same(evaluated(after), whole)
    assert all(weight.isfinite().all() for weight in whole.values())
    for part in stack:
        rest = tuple(name for name in stack if name != part)
        assert not same(trained(rest), whole), f"{part} does nothing in {stack}"
