"""The README's example of an intervention, made by an outsider in a folder of their own."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from harness.config import ConfigError
from harness.loop import micro_loss
from tests.configs import load

REPOSITORY = Path(__file__).parents[2]
PENALISE = """\
from torch.distributions import Categorical


def penalise(loss, logits_BTV, y_BT, model, beta):
    return loss - beta * Categorical(logits=logits_BTV).entropy().mean()
"""
OWN = ["+intervention=confidence_penalty"]


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work where ``my_ideas.py`` and the README's overlay lie."""
    (overlay,) = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    folder = tmp_path / "my_conf" / "intervention"
    folder.mkdir(parents=True)
    (folder / "confidence_penalty.yaml").write_text(overlay)
    (tmp_path / "my_ideas.py").write_text(PENALISE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_readmes_example_trains_two_steps_from_outside_the_repository(
    own_folder: Path, tiny: list[str], command
) -> None:
    done = command("harness", *tiny, *OWN, "train.tokens=512")
    assert done.returncode == 0, done.stderr
    (record,) = (json.loads(path.read_text()) for path in own_folder.rglob("record.json"))
    assert (record["arm"], record["status"], record["step"]) == (
        "confidence_penalty",
        "complete",
        2,
    )


def test_a_loss_event_gets_the_targets_whose_cross_entropy_the_loss_is(
    own_folder: Path, make_training
) -> None:
    assert "my_ideas.penalise" in str(load(OWN).interventions["confidence_penalty"].fn)
    training = make_training(OWN)
    training.model.eval()  # no dropout between two passes
    x_BT, y_BT = (part.long() for part in training.batches(0))
    logits_NV = training.model(x_BT).flatten(0, 1)
    plain = F.cross_entropy(logits_NV, y_BT.flatten())
    p_NV = logits_NV.softmax(-1)
    wanted = plain + 0.1 * (p_NV * p_NV.log()).sum(-1).mean()
    torch.testing.assert_close(micro_loss(training, x_BT, y_BT).objective, wanted)
    assert wanted < plain - 0.1


def test_a_function_that_the_loop_shall_call_needs_partial(own_folder: Path, make_training) -> None:
    overlay = own_folder / "my_conf" / "intervention" / "confidence_penalty.yaml"
    overlay.write_text(overlay.read_text().replace("_partial_: true", "_partial_: false"))
    with pytest.raises(ConfigError, match=r"cannot be made: .*missing 4 .*add `_partial_: true`"):
        make_training(OWN)


def test_a_loss_function_that_forgets_its_return_is_one_line(
    own_folder: Path, make_training
) -> None:
    overlay = own_folder / "my_conf" / "intervention" / "confidence_penalty.yaml"
    overlay.write_text(overlay.read_text().replace("my_ideas", "forgetful_ideas"))
    (own_folder / "forgetful_ideas.py").write_text(PENALISE.replace("return ", ""))
    training = make_training(OWN)
    x_BT, y_BT = (part.long() for part in training.batches(0))
    with pytest.raises(ConfigError, match=r"confidence_penalty\.fn returned None: .* a tensor"):
        micro_loss(training, x_BT, y_BT)
