"""The saved studies of the catalogue: what they hold, that they compose, what they say they cost."""

import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from analysis.__main__ import main as analyse
from analysis.questions.design import design
from harness.config.compose import resolve
from harness.records.files import CONF_DIR
from interventions.card import OVERLAYS
from tests.configs import our_hydra

NAMES = {path.stem for path in OVERLAYS.glob("*.yaml")}


def file(study: str) -> Path:
    return CONF_DIR / "study" / f"{study}.yaml"


def arms(study: str) -> list[str]:
    return list(OmegaConf.load(file(study)).study.arms)


@pytest.mark.parametrize("study", ["catalogue", "modern"])
def test_a_study_of_the_catalogue_has_every_intervention_or_says_why_not(study: str) -> None:
    said = re.findall(r"^# Left out: (.*)$", file(study).read_text(), re.MULTILINE)
    left_out = {part.split()[0] for line in said for part in line.split("; ")}
    missing = NAMES - set(arms(study)) - left_out
    assert not missing, f"add them to {file(study)}, or to its line `# Left out:` with the reason"
    assert not left_out & set(arms(study))
    assert len(arms(study)) == len(set(arms(study)))


@pytest.mark.parametrize(("study", "every"), [("catalogue", 20), ("modern", 20), ("screen", 4)])
def test_a_study_and_its_arms_compose(study: str, every: int) -> None:
    scale = OmegaConf.load(file(study)).defaults[0]["override /scale"]
    with our_hydra():
        assert resolve((), [f"+study={study}"]).study.arms == arms(study)
        for arm in arms(study)[1::every]:
            stack = arm.replace("+", ",")
            assert resolve((), [f"scale={scale}", f"+intervention=[{stack}]"]).arm == arm


def test_the_screen_is_a_design_of_resolution_four() -> None:
    stacks = arms("screen")
    factors = sorted({name for arm in stacks for name in arm.split("+")} - {"baseline"})
    assert sorted(stacks) == sorted(design(factors, [], 2).arms)
    assert len(factors) == 8


@pytest.mark.parametrize("study", ["modern", "screen"])
def test_a_study_s_forecast_runs_as_its_file_says(study: str, capsys) -> None:
    (line,) = re.findall(r"^# python -m analysis (plan .*)$", file(study).read_text(), re.MULTILINE)
    words = shlex.split(line)
    n_arms = len(set(arms(study)) - {"baseline"}) if study == "modern" else len(arms(study))
    assert int(words[words.index("--arms") + 1]) == n_arms
    assert analyse(words) == 0
    assert "dollars" in capsys.readouterr().out
