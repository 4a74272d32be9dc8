"""docs/promises.md: what README and pages promise, and the tests that hold it."""

import ast
import re
from functools import cache

import pytest

from tests.conftest import REPOSITORY

ROW = re.compile(
    r"^\| (?P<promise>.+) \| (?P<where>[\w./]+\.md) \| (?P<tests>`.+`) \|$", re.MULTILINE
)
PAGE = (REPOSITORY / "docs" / "promises.md").read_text()
PROMISES = [row.groupdict() for row in ROW.finditer(PAGE)]
README = (REPOSITORY / "README.md").read_text()
RESULTS = re.compile(r"<!-- results: (?P<promise>.*?) -->.*?<!-- /results -->", re.DOTALL)
"""Rows that a command prints: one promise holds them all."""


def plain(text: str) -> str:
    return " ".join(text.split())


@cache
def functions_in(file: str) -> frozenset[str]:
    tree = ast.parse((REPOSITORY / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@cache
def words_of(page: str) -> str:
    return plain((REPOSITORY / page).read_text())


def of_the_readme() -> list[str]:
    return [plain(row["promise"]) for row in PROMISES if row["where"] == "README.md"]


def commands() -> list[str]:
    """Return the README's command lines, each with its remark."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [plain(line) for line in lines if line]


def rows() -> list[str]:
    """Return the rows of the README's tables, but for headings and what a command prints."""
    text = RESULTS.sub("", README)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [plain(row) for table in tables for row in table.splitlines()[2:]]


def test_every_row_of_the_page_has_its_three_parts() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    headings = [line for line in lines if line == "| promise | where | test |"]
    assert len(PROMISES) == len(lines) - len(headings) > 100


@pytest.mark.parametrize("page", sorted({row["where"] for row in PROMISES}))
def test_every_promise_stands_on_its_page(page: str) -> None:
    quoted = [plain(row["promise"]) for row in PROMISES if row["where"] == page]
    assert [promise for promise in quoted if promise not in words_of(page)] == []
    assert len(set(quoted)) == len(quoted)


def test_every_named_test_exists() -> None:
    named = [name for row in PROMISES for name in re.findall(r"`(.+?)`", row["tests"])]
    assert all(name.startswith("tests/") for name in named)
    missing = [
        name for name in named
        if (parts := name.split("::"))[1] not in functions_in(parts[0])
    ]  # fmt: skip
    assert missing == []


def test_every_command_and_every_table_row_of_the_readme_is_a_promise() -> None:
    assert len(commands()) > 25
    assert len(rows()) > 7
    promised = of_the_readme()
    assert [
        line for line in [*commands(), *rows()] if not any(words in line for words in promised)
    ] == []


def test_the_results_are_one_promise() -> None:
    (results,) = RESULTS.findall(README)
    assert any(plain(results) in words for words in of_the_readme())
