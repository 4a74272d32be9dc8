import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import analysis
import analysis.commands
from analysis.commands import COMMANDS

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
    from analysis.rows import COLUMNS

    page = (ROOT / "docs" / "statistics.md").read_text()
    missing = [column for column in COLUMNS if f"`{column}`" not in page]
    assert missing == []


def test_the_page_on_statistics_names_every_command():
    page = (ROOT / "docs" / "statistics.md").read_text()
    assert [name for name in COMMANDS if name != "table" and not re.search(rf"\b{name}\b", page)
            and name not in ("report", "watch")] == []  # fmt: skip
