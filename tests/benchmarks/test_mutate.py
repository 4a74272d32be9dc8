from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import mutate
from benchmarks.mutate import FORKING, SECONDS, Copy, Fault, passing, started

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


@pytest.mark.slow
def test_a_fault_survives_where_no_test_fails_with_it(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\ny = 1\n")
    (tmp_path / "test_a.py").write_text(
        "import module\n\ndef test_x():\n    assert module.x == 1\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    tests = ["test_a.py::test_x"]
    codes = {"x = 22\ny = 1\n": "noticed", "x = 1\ny = 333\n": "survived"}
    with closing(started(tmp_path, tests)) as process:
        for code, outcome in codes.items():
            assert process.meet(Fault(Path("module.py"), 1, "1", "2", code), tests) == outcome
    (tmp_path / "module.py").write_text("x = 4444\n")
    with pytest.raises(SystemExit, match="not in a forked process"):
        started(tmp_path, tests)


@pytest.mark.slow
def test_a_fault_that_keeps_the_tests_busy_is_given_up(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "module.py").write_text("")
    (tmp_path / "test_a.py").write_text("def test_x():\n    import module\n")
    monkeypatch.setattr(mutate, "FORKING", FORKING.replace(f"alarm({SECONDS})", "alarm(1)"))
    endless = Fault(Path("module.py"), 1, "", "", "while True:\n    pass\n")
    with closing(Copy(tmp_path)) as process:
        assert process.meet(endless, ["test_a.py::test_x"]) == "busy"
