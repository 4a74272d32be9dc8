"""The console script: the same modules, from any folder, with a person's own modules beside it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TINY


@pytest.fixture
def script(tmp_path: Path):
    """Return a function that runs what pip would write as bin/llm-interventions."""
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["llm-interventions"].partition(":")
    file = tmp_path / "bin" / "llm-interventions"
    file.parent.mkdir()
    file.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(file), *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_module_is_run_with_what_lies_beside_the_command(script, tmp_path, data_dir) -> None:
    (tmp_path / "conf" / "intervention").mkdir(parents=True)
    (tmp_path / "conf" / "intervention" / "own.yaml").write_text(
        "# @package _global_\ninterventions: {own: {summary: s, source: t, event: loss,"
        " fn: {_target_: my_loss.squared, _partial_: true}}}\n"
    )
    (tmp_path / "my_loss.py").write_text("def squared(loss, *_, **__):\n    return loss**2\n")
    done = script("harness", *TINY, f"data_dir={data_dir}", "+intervention=own")
    assert done.returncode == 0, done.stderr
    assert "complete: own (seed 0" in done.stderr


def test_the_other_modules_have_their_names_too(script) -> None:
    assert script("analysis", "plan", "--help").returncode == 0
    assert "usage: llm-interventions MODULE" in script().stdout
    refused = script("harnes")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "'harnes' is no module of this program: harness, analysis" in refused.stderr
