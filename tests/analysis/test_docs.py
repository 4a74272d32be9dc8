import argparse
import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import analysis
import analysis.cli
from analysis.__main__ import build_parser, main
from analysis.cli import COMMANDS
from analysis.comparison.verdict import JUDGED, Kind

MODULES = [
    "harness.records",
    *(
        module.name
        for module in pkgutil.walk_packages(analysis.__path__, "analysis.")
        if not module.ispkg and module.name != "analysis.__main__"
    ),
]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_is_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_name_has_a_docstring():
    for name in analysis.__all__:
        assert getattr(analysis, name).__doc__, name


def test_the_page_on_statistics_names_every_column_of_the_results():
    from analysis.comparison.table import COLUMNS

    page = (ROOT / "docs" / "statistics.md").read_text()
    missing = [column for column in COLUMNS if f"`{column}`" not in page]
    assert missing == []


def test_the_page_on_statistics_names_every_command():
    page = (ROOT / "docs" / "statistics.md").read_text()
    assert [name for name in COMMANDS if name != "table" and not re.search(rf"\b{name}\b", page)
            and name not in ("report", "watch")] == []  # fmt: skip


@pytest.mark.parametrize("page", ["README.md", "docs/statistics.md"])
def test_every_verdict_is_explained(page):
    text = (ROOT / page).read_text()
    verdicts = [f"`{kind}`" for kind in (*JUDGED, Kind.NO_RUN)]
    assert [
        word
        for word in [*verdicts, "(below practical size)", "(k of n diverged)"]
        if word not in text
    ] == []


def test_the_page_on_statistics_names_every_option_and_no_other():
    text = (ROOT / "docs" / "statistics.md").read_text()
    text = text[text.index("## Options") : text.index("## Noise")]
    kinds = argparse._SubParsersAction
    commands = next(a for a in build_parser()._actions if isinstance(a, kinds)).choices.values()
    known = {name for c in commands for a in c._actions for name in a.option_strings}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) == {name for name in known if name[:2] == "--"}


def commands_of(page: Path) -> list[list[str]]:
    """Return the words of each `python -m analysis` in a page's shell blocks, comments left out."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    split = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words[3:] for words in split if words[:3] == ["python", "-m", "analysis"]]


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_every_command_that_a_page_shows_has_arguments_that_it_takes(page):
    assert [words for words in commands_of(page) if is_refused(words)] == []


def is_refused(words: list[str]) -> bool:
    try:
        build_parser().parse_args(words if words[0] in COMMANDS else ["table", *words])
    except SystemExit:
        return True
    return False


def test_the_tables_of_public_records_are_what_their_commands_print(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "reanalysis.md").read_text()
    commands = re.findall(r"^python -m analysis (.*)$", page, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        out = [] if command.startswith("speed") else ["--out", str(tmp_path)]
        main([*shlex.split(command), *out])
        (table,) = re.findall(r"(?:^\|.*\n)+", capsys.readouterr().out, re.MULTILINE)
        assert table in page
