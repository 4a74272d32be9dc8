"""A cell's id outlives what configs learn to say: new fields leave the old cells where they are."""

from dataclasses import replace

import pytest

from harness.config import recipe, scientific, stack_of
from harness.config.compose import load
from harness.records.files import canonical_hash

FROZEN_IDS = {
    "baseline": "95098133d111",
    "batch_size_double": "d1650ddd2ad4",
    "batch_size_half": "9cf24571f1da",
    "batch_size_small": "f239d22fab5f",
    "gradient_clipping": "40afb52d7819",
    "higher_lr": "164029b77441",
    "no_amp": "29ed5accd705",
    "no_dropout": "21a46cb51f34",
    "qkv_bias": "fcf4c04f5da9",
    "scheduled_lr": "139a56bebfaf",
    "warmup_cosine": "a251b3e7e448",
    "weight_decay_cerebras": "90c5878758ab",
    "weight_decay_gpt2": "4c0a6f9f7eda",
    "weight_tying": "ce9c9acf4e10",
}
"""At the demo's scale, of a corpus with the hash ``data``, as of the first release."""


@pytest.mark.parametrize("name", FROZEN_IDS)
def test_the_first_releases_cells_keep_their_ids(name: str) -> None:
    precision = ["precision=amp_bf16"] if name == "no_amp" else []
    config = load([*precision, f"+intervention={name}"])
    assert canonical_hash(scientific(config, "data")) == FROZEN_IDS[name]
    family = "e2c70bf45cd6" if precision else "51557ef150d5"
    assert canonical_hash(recipe(config, "data")) == family


def test_the_published_scales_baseline_keeps_its_id() -> None:
    config = load(["scale=gpt2_small", "data=fineweb"])
    assert canonical_hash(scientific(config, "data")) == "261e521cfba5"


def test_a_field_added_later_counts_as_soon_as_it_is_set() -> None:
    plain = load()
    set_to_something = load(["+model.block.parallel=true"])
    assert "block" not in scientific(plain, "data")["model"]
    assert scientific(set_to_something, "data")["model"]["block"] == {
        "_target_": "harness.model.Block",
        "parallel": True,
    }


def test_an_arm_that_sets_a_field_added_later_is_undone_to_the_baseline() -> None:
    plain = load()
    arm = replace(
        load(["+model.block.parallel=true", "+model.attention.rope=100.0"]),
        changes={"model.block.parallel": [None, True], "model.attention.rope": [None, 100.0]},
    )
    assert recipe(arm, "data") == recipe(plain, "data")
    assert stack_of(arm, ()).model == plain.model
