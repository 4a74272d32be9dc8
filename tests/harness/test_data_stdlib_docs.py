from pathlib import Path

import pytest

from harness.config import DataConfig
from harness.data import stdlib_docs
from harness.data.corpus import open_corpus
from harness.data.manifest import SPLITS, DataError

MODULE = '''"""The module."""
raise SystemExit("imported")
class Outer:
    """A class."""
    def method(self):
        """
        A method,
            indented.
        """
        if True:
            async def inner():
                """Inside a branch."""
    def undocumented(self): "\\d"; return """not a docstring"""
'''


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the standard library with three files, one of them not Python."""
    contents = {"a.py": MODULE, "b.py": "not python (", "c.py": '"""New."""\ndef f(): "A class."'}
    files = [tmp_path / name for name in contents]
    for file, content in zip(files, contents.values(), strict=True):
        file.write_text(content)
    monkeypatch.setattr(stdlib_docs, "stdlib_files", lambda: files)
    return tmp_path


@pytest.mark.usefixtures("library")
def test_a_module_is_one_document_of_its_docstrings_in_order_each_once() -> None:
    found = [text for text, _ in stdlib_docs.documents()]
    assert found[0] == (
        "The module.\n\nA class.\n\nA method,\n    indented.\n\nInside a branch.\n\n\\d"
    )
    assert found[1] == ""
    assert found[2] == "New."


@pytest.mark.usefixtures("library")
def test_each_help_topic_is_one_document() -> None:
    found = [text for text, _ in stdlib_docs.documents()]
    assert len(found) > 3 + 50
    assert any(text.startswith('The "with" statement') for text in found[3:])


def test_files_come_sorted_without_tests_and_what_distributions_leave_out() -> None:
    files = stdlib_docs.stdlib_files()
    names = {file.stem for file in files}
    assert {"argparse", "cmd", "random"} <= names
    assert not {"turtle", "test_random", "six", "pytest"} & names
    assert not any({"test", "tests", "idlelib", "site-packages"} & {*file.parts} for file in files)
    assert files == stdlib_docs.stdlib_files()


def test_a_python_without_sources_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(DataError, match=r"no library source below .*data=text"):
        next(stdlib_docs.documents())


def test_the_prepared_corpus_holds_prose_of_this_python(data_dir: Path) -> None:
    corpus = open_corpus(DataConfig(), data_dir)
    prose = b"".join(
        corpus.tokens(split)[corpus.tokens(split) < 256].astype("uint8").tobytes()
        for split in SPLITS
    ).decode()
    assert "A generic class to build line-oriented command interpreters." in prose
    assert "Dict subclass for counting hashable items." in prose
