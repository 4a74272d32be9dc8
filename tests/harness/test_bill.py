"""The price of a study on a card that is not at hand."""

import re

import pytest

from harness.bill import main
from harness.config import ConfigError
from harness.engine.cards import CARDS
from harness.study.price import speed_on
from tests.configs import load

pytestmark = pytest.mark.thorough

STUDY = ["+study=demo", "study.arms=[baseline,no_amp,qkv_bias+no_dropout]", "study.seeds=4"]
GPT2 = ["scale=gpt2_small", "precision=amp_bf16"]


def test_the_speed_is_the_published_one_at_the_published_mfu() -> None:
    """llm.c, 8 H100: about 475k tokens/s for each of them at 41% (github.com/karpathy/llm.c)."""
    tied = load([*GPT2, "+intervention=weight_tying"])
    assert speed_on(CARDS["h100"], 0.41, tied).tokens_per_second == pytest.approx(475e3, rel=0.01)


def test_a_number_format_has_its_own_peak() -> None:
    bf16, fp32 = (load(["scale=gpt2_small", f"precision={name}"]) for name in ("amp_bf16", "fp32"))
    card = CARDS["a100"]
    ratio = (
        speed_on(card, 0.4, bf16).tokens_per_second / speed_on(card, 0.4, fp32).tokens_per_second
    )
    assert ratio == pytest.approx(312 / 19.5)


def test_experts_that_are_not_asked_are_not_charged() -> None:
    """Two of six experts cost what one MLP of twice the width does; the router is small."""
    size = ["scale=gpt2_small", "model.n_layer=2", "model.n_embd=96", "precision=amp_bf16"]
    plain, experts, one = (
        speed_on(CARDS["h100"], 0.4, load([*size, *more])).tokens_per_second ** -1
        for more in (
            [],
            ["+intervention=moe"],
            ["+model.mlp.expansion=8"],
        )
    )
    assert plain < experts == pytest.approx(one, rel=0.01)


def test_a_study_is_priced_arm_by_arm(capsys) -> None:
    command = [*STUDY, *GPT2, "train.tokens=1e9", "device=h100", "mfu=0.4", "usd_per_hour=2.5"]
    assert main(command) == 0
    alike, alone, end, why = capsys.readouterr().out.splitlines()
    assert alike.endswith(": 4 x baseline, 4 x qkv_bias+no_dropout")
    assert alone.endswith(": 4 x no_amp")
    assert end.startswith("12 cells, ")
    assert re.search(r", \$[\d.,]+, assuming mfu=0.4$", end)
    assert "NVIDIA H100 data sheet" in why
    assert "0.33 here for the published baseline" in why
    assert main([*command[:-1]]) == 0
    assert "(set hardware.usd_per_hour for dollars)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["device=4090"], "no such card in the table (did you mean rtx4090?), which has"),
        (["device=A100-80GB"], "(did you mean a100?)"),
        (["device=tpu"], "device=tpu: no such card in the table, which has b200, h200"),
        ([], "name the card: device=h100"),
        (["device=h100", "mfu=40"], "mfu=40: a share"),
        (["device=h100", "mfu=much"], "mfu=much: a share"),
        (["device=h100", "scale=huge"], "unknown scale 'huge'"),
    ],
)
def test_what_cannot_be_priced_is_refused(capsys, given: list[str], message: str) -> None:
    assert main(given) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_is_told_how_a_study_is_named() -> None:
    with pytest.raises(ConfigError, match=r"is a sweep, .*'study\.arms=\[baseline,a\]'"):
        load(["+intervention=baseline,no_dropout"])
