"""A cell's id outlives what configs learn to say: new fields leave the old cells where they are."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml

from harness.config import recipe, scientific, stack_of
from harness.records.files import CONF_DIR, canonical_hash
from tests.configs import load

IDS = {
    "demo": {
        "baseline": "4e880c874a08",
        "batch_size_double": "82bbec4c35b8",
        "batch_size_half": "acf555ee60ce",
        "batch_size_small": "164292fa9a6a",
        "gradient_clipping": "27d03f7c6726",
        "higher_lr": "24d338b7255b",
        "no_dropout": "6b88108e219e",
        "qkv_bias": "e7419c4e45c5",
        "scheduled_lr": "e5c79ff4bc99",
        "warmup_cosine": "11840ae43a66",
        "weight_decay_cerebras": "52fddf214b8f",
        "weight_decay_gpt2": "b86f38639e98",
        "weight_tying": "73cfbc41dd99",
    },
    "proxy": {
        "baseline": "b991fcecc760",
        "batch_size_double": "861df465e68e",
        "batch_size_half": "79bf5f972690",
        "batch_size_small": "4a5c604f1ca7",
        "gradient_clipping": "fcb1bef6494b",
        "higher_lr": "3617430eaeae",
        "no_amp": "02eab41f961e",
        "no_dropout": "6766395140c6",
        "qkv_bias": "a28f91bb3161",
        "scheduled_lr": "cf4b2688d4b7",
        "warmup_cosine": "e446c5a45aae",
        "weight_decay_cerebras": "9774f65ea54b",
        "weight_decay_gpt2": "579124a57096",
        "weight_tying": "ed1a4f07da48",
    },
    "gpt2_small": {
        "baseline": "125ca1863bd6",
        "batch_size_double": "d280e63a9ff2",
        "batch_size_half": "7838f5c38940",
        "batch_size_small": "11ae99713d2f",
        "gradient_clipping": "36f28e742af4",
        "gradient_clipping+no_dropout+qkv_bias+scheduled_lr+weight_decay_gpt2": "a0c73ca5534f",
        "gradient_clipping+no_dropout+scheduled_lr": "20f86d56d27e",
        "gradient_clipping+no_dropout+scheduled_lr+weight_decay_gpt2": "1bb4b8d812c8",
        "higher_lr": "1e9c970f867e",
        "no_amp": "12b91546bcef",
        "no_dropout": "8e49c71dad76",
        "qkv_bias": "0d99a9802467",
        "scheduled_lr": "f5d2c729c30e",
        "scheduled_lr_exact": "ce65f5a2e479",
        "gradient_clipping+no_dropout+qkv_bias+scheduled_lr_exact+weight_decay_gpt2": "2dbf96746c6d",
        "gradient_clipping+no_dropout+scheduled_lr_exact": "ddb5dd189815",
        "gradient_clipping+no_dropout+scheduled_lr_exact+weight_decay_gpt2": "94aa9b407330",
        "warmup_cosine": "cfe083e74510",
        "weight_decay_cerebras": "52adf18a22f9",
        "weight_decay_gpt2": "2ff8fd4485ea",
        "weight_tying": "7d4b953e3a2c",
    },
}
"""Scale -> arm -> the identity of its cell with seed 0, its data set apart."""
OLD_TESTS = {
    "demo": "eval.test_sequences=320 eval.spread=false",
    "proxy": "eval.spread=false",
    "gpt2_small": "",
}
"""What the first releases tested on, where a scale says otherwise by now."""


@pytest.mark.parametrize(
    ("scale", "family"),
    [("demo", "51557ef150d5"), ("proxy", "b42e181bd6f0"), ("gpt2_small", "461c1629a261")],
)
def test_the_first_releases_cells_keep_their_ids(
    scale: str, family: str, compose_all: Callable
) -> None:
    arms = compose_all(f"{scale} {OLD_TESTS[scale]}", list(IDS[scale]))
    found = {arm: canonical_hash(scientific(config, "")) for arm, config in arms.items()}
    assert found == IDS[scale]
    assert {canonical_hash(recipe(config, "data")) for config in arms.values()} == {family}


def test_an_arm_without_autocast_keeps_its_id() -> None:
    config = load(["precision=amp_bf16", "+intervention=no_amp", *OLD_TESTS["demo"].split()])
    assert canonical_hash(scientific(config, "data")) == "29ed5accd705"
    assert canonical_hash(recipe(config, "data")) == "e2c70bf45cd6"


@pytest.mark.parametrize(("study", "scale"), [("demo", "demo"), ("published", "gpt2_small")])
def test_every_arm_of_the_saved_studies_is_among_them(study: str, scale: str) -> None:
    saved = yaml.safe_load((CONF_DIR / "study" / f"{study}.yaml").read_text())
    assert saved["defaults"] == [{"override /scale": scale}]
    assert set(saved["study"]["arms"]) <= IDS[scale].keys()


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
