"""Every entry of docs/cookbook.md is followed to the letter, in one folder of a person's own."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import __main__ as analysis
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.records import Status
from tests.configs import load
from tests.conftest import REPOSITORY, TINY

PAGE = REPOSITORY / "docs" / "cookbook.md"
ENTRIES = dict(
    re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MOST_LINES = 12
COMPOSED = ("hardware.n_devices=", "hydra/launcher=")
"""What this machine may not have: its commands are composed, and print the config."""


def blocks(entry: str) -> list[tuple[str, str]]:
    return BLOCK.findall(ENTRIES[entry])


def write(text: str) -> None:
    """Write a block's other lines to the file that its first one names."""
    first, _, content = text.partition("\n")
    path = Path(first.removeprefix("# "))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def run(line: str) -> None:
    """Run a command, with tiny sizes where it trains; in this process where it starts no other."""
    words = shlex.split(line)
    if words[:3] == ["python", "-m", "analysis"]:
        assert analysis.main(words[3:]) == 0, line
    elif words[:3] != ["python", "-m", "harness"]:
        shell(line)
    elif any(word.startswith(COMPOSED) for word in words):
        shell(f"{line} --cfg all")
    elif any(word == "-m" or word.startswith("+study=") for word in words[3:]):
        shell(" ".join([line, *TINY]))
    else:
        assert cell.run(freeze(load([*TINY, *words[3:]]))).status is Status.COMPLETE, line


def shell(line: str) -> None:
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    if "tracking=wandb" in line:
        last = done.stderr.splitlines()[-1]
        assert re.fullmatch(r"upload with: wandb sync \S+/tracked/\*/\*/wandb/offline-run-\*", last)


def test_an_entry_is_short() -> None:
    assert 10 <= len(ENTRIES) <= 15
    longest = {
        entry: max(
            len([line for line in text.splitlines() if line][1:]) for _, text in blocks(entry)
        )
        for entry in ENTRIES
    }
    assert [entry for entry, lines in longest.items() if lines > MOST_LINES] == []


def test_the_first_screen_of_the_readme_and_the_help_name_the_page(command) -> None:
    assert "docs/cookbook.md" in "".join((REPOSITORY / "README.md").read_text().splitlines()[:40])
    assert "docs/cookbook.md" in command("harness", "--help").stdout


@pytest.mark.proof
def test_every_entry_runs_in_the_order_of_the_page(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stdlib_docs").symlink_to(data_dir / "stdlib_docs")
    (tmp_path / "my_books").mkdir()
    paragraphs = [f"Paragraph {i} of {i * i % 97} words and more.\n\n" for i in range(600)]
    (tmp_path / "my_books" / "one.txt").write_text("".join(paragraphs))
    for entry in ENTRIES:
        for language, text in blocks(entry):
            if language != "sh":
                write(text)
                continue
            for line in text.replace("\\\n", " ").splitlines():
                run(line)
