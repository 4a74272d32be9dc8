"""Every page in docs/extending is followed to the letter, in a folder of one's own."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.records import Status
from tests.configs import load

FOLDER = Path(__file__).parent.parent / "docs" / "extending"
PAGES = sorted(FOLDER.glob("*.md"))
BLOCK = re.compile(r"^```(yaml|python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = "python -m harness "


def blocks(page: Path) -> dict[str, str]:
    """Return language -> its block; a page has one of each at most."""
    found = BLOCK.findall(page.read_text())
    assert len(dict(found)) == len(found), f"{page.name}: two blocks of one language"
    return dict(found)


def written(text: str) -> Path:
    """Write a block's other lines to the file that its first one names."""
    first, _, content = text.partition("\n")
    path = Path(first.removeprefix("# "))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_s_example_trains_two_steps(page: Path, own_folder: Path, tiny: list[str]) -> None:
    parts = blocks(page)
    overlay = written(parts["yaml"])
    assert overlay.parent == Path("conf/intervention")
    if "python" in parts:
        assert written(parts["python"]) == Path(f"my_{overlay.stem}.py")
    commands = [line for line in parts["sh"].splitlines() if line.startswith(COMMAND)]
    for command in commands:
        overrides = shlex.split(command.removeprefix(COMMAND))
        record = cell.run(freeze(load([*tiny, "train.tokens=512", *overrides])))
    assert f"+intervention={overlay.stem}" in overrides
    assert (record.arm, record.status, record.step) == (overlay.stem, Status.COMPLETE, 2)


def test_the_contents_name_every_page() -> None:
    contents = (FOLDER.parent / "extending.md").read_text()
    linked = set(re.findall(r"\]\(extending/(\w+\.md)\)", contents))
    assert linked == {page.name for page in PAGES}
