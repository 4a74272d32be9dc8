"""Overlays and studies in a folder beside the command."""

from pathlib import Path

import pytest

from harness.__main__ import help_text
from harness.config import ConfigError
from harness.config.compose import load
from harness.data.corpus import corpus_folder
from harness.records import Status
from tests.conftest import TINY
from tests.harness.cells import run


def overlay(folder, name: str, body: str) -> str:
    path = folder / "intervention" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    card = f"interventions: {{{name}: {{summary: s, source: t}}}}\n"
    path.write_text(f"# @package _global_\n{card if 'interventions:' not in body else ''}{body}\n")
    return f"hydra.searchpath=[file://{folder}]"


@pytest.mark.thorough
@pytest.mark.parametrize("folder", ["conf", "my_conf"])
def test_overlays_and_studies_beside_the_command_are_found(tmp_path, monkeypatch, folder) -> None:
    (tmp_path / folder / "study").mkdir(parents=True)
    overlay(tmp_path / folder, "narrow", "model: {n_embd: 64}")
    mine = "# @package _global_\nstudy_name: mine\n"
    (tmp_path / folder / "study" / "mine.yaml").write_text(mine)
    (tmp_path / folder / "study" / "demo.yaml").write_text(mine)
    monkeypatch.chdir(tmp_path)
    config = load(["+intervention=narrow", "+study=mine"])
    assert (config.arm, config.study_name) == ("narrow", "mine")
    assert load([f"hydra.searchpath=[file://{folder}]", "+intervention=narrow"]).arm == "narrow"
    with pytest.raises(ConfigError, match=r"two studies are called 'demo': .*rename yours"):
        load(["+study=demo"])


def test_help_and_errors_list_the_overlays_beside_the_command(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_conf").mkdir()
    overlay(tmp_path / "my_conf", "Narrow", "model: {n_embd: 64}")
    monkeypatch.chdir(tmp_path)
    groups = help_text([]).partition("\nCONFIG (")[0]
    assert " Narrow," in groups.partition("  intervention:")[2]
    with pytest.raises(ConfigError, match=r"did you mean Narrow\?\); allowed: Narrow, "):
        load(["+intervention=narrow"])
    with pytest.raises(ConfigError, match=r"chosen by '\+intervention=Narrow'"):
        load(["Narrow"])


def test_the_conf_of_another_program_changes_nothing(tmp_path, monkeypatch) -> None:
    before = load(["+intervention=swiglu"])
    for name in ("config", "schema", "model/gpt", "data/stdlib_docs"):
        file = tmp_path / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("not: [ours")
    monkeypatch.chdir(tmp_path)
    assert load(["+intervention=swiglu"]) == before


def test_runs_and_data_lie_in_the_folder_that_the_command_is_given_in(
    data_dir, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data_dir)
    folder, record = run(TINY)
    assert record.status is Status.COMPLETE
    assert (tmp_path / folder).parents[2] == tmp_path / "runs"
    assert corpus_folder(load(TINY).data, Path(load(TINY).data_dir)).parent == Path("data")
