"""An override that is refused is answered with the one that was meant."""

import pytest

from harness.config import ConfigError
from tests.configs import load


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+intervention=Qkv-Bais"], ["unknown intervention 'Qkv-Bais' (did you mean qkv_bias?)"]),
        (["+intervention=qkv_bias+no_dropout"], ["(a stack is '+intervention=[qkv_bias,no_dropout]')"]),
        (["lr=1e-3"], ["did you mean optim.lr?", "study_name"]),
        (["model.attention.rope=1"], ["model.attention sets no rope here", "+model.attention.rope=VALUE"]),
        (["+intervention=z_loss", "interventions.z_loss.fn.wait=1"], ["sets no wait here, but _partial_, weight"]),
        (["interventions.z_loss.fn.weight=1"], ["no overlay z_loss", "'+intervention=z_loss'", "same study_name"]),
    ],
)  # fmt: skip
def test_an_error_names_what_was_meant(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides)
    for word in words:
        assert word in str(caught.value)
