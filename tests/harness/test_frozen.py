from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import Config, ConfigError
from harness.config.frozen import read_config, to_yaml
from tests.configs import load

ARM = ["+intervention=[higher_lr,qkv_bias]", "seed=3"]


@pytest.fixture(scope="module")
def config() -> Config:
    return load(ARM)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cell") / "config.yaml"


def test_a_config_is_read_as_it_was_written(config: Config, file: Path) -> None:
    file.write_text(to_yaml(config))
    assert asdict(read_config(file)) == asdict(config)


@pytest.mark.thorough
@settings(max_examples=40)
@given(st.lists(st.text(st.sampled_from("\\${}:ab'\"\n1e-3 é"))))
def test_no_text_in_a_config_is_taken_for_a_reference(
    config: Config, file: Path, texts: list[str]
) -> None:
    mine = replace(config, sample=replace(config.sample, prompts=[*texts, "${oc.env:HOME}"]))
    file.write_text(to_yaml(mine), newline="")
    assert read_config(file).sample.prompts == mine.sample.prompts


def test_a_config_of_an_earlier_version_is_read_without_what_was_retired(
    config: Config, file: Path
) -> None:
    file.write_text(to_yaml(config) + "reference: {higher_lr: 0.0035, grad_clip: 1.0}\n")
    assert read_config(file) == config
    file.write_text(to_yaml(config) + "refrence: {higher_lr: 0.0035}\n")
    with pytest.raises(Exception, match="refrence"):
        read_config(file)


def test_a_practical_size_is_read_under_its_former_name(file: Path) -> None:
    text = to_yaml(load(["study.practical_size=0.02"]))
    former = text.replace("  practical_size: 0.02\n  rope: null\n", "  rope: 0.02\n")
    file.write_text(former)
    assert former != text
    assert read_config(file).study.practical_size == 0.02
    assert load(["study.rope=0.02"]) == load(["study.practical_size=0.02"])


@pytest.mark.parametrize("text", ["", "- 1\n"])
def test_a_file_without_keys_is_named(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml: it holds no keys"):
        read_config(file)
