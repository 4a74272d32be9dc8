"""docs/config.md: every key of the config."""

import re
from dataclasses import asdict

from harness.config_page import PAGE, render
from harness.records.files import flatten
from tests.configs import load


def test_the_page_is_what_its_command_writes() -> None:
    assert PAGE.read_text() == render(), "renew it: python -m harness.config_page"


def test_the_page_has_a_sentence_for_every_key() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert [key for key, sentence in rows if not sentence.strip()] == []
    flat = flatten(asdict(load()))
    listed = tuple(key for key, _ in rows)
    assert [key for key in flat if not key.startswith(listed)] == []
    assert "interventions.NAME.published_delta" in listed
