from pathlib import Path

import pytest

from benchmarks.mutate import passing

TESTS = """
def test_sound():
    pass

def test_of_a_file_that_was_not_copied():
    open("docs/page.md")
"""


def test_a_test_that_fails_without_a_fault_notices_none(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(TESTS)
    both = ["test_a.py::test_sound", "test_a.py::test_of_a_file_that_was_not_copied"]
    (tmp_path / "pytest.ini").write_text("[pytest]\njunit_family = xunit1\n")
    assert passing(both, tmp_path) == {"test_a.py::test_sound"}
    with pytest.raises(SystemExit, match="do not start in a copy"):
        passing(["test_a.py::test_of_yesterday"], tmp_path)
