"""What a person reads of a cell that failed."""

import re
import sys
from pathlib import Path

import pytest

from harness.cell import rehearsal
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.records import read_record
from harness.records.versions import rank, superseded_by
from tests.configs import load
from tests.harness.cells import run


def test_a_device_that_is_not_there_is_refused_by_name(tiny) -> None:
    with pytest.raises(
        ValueError, match=r"hardware\.device=cuda:93 is not here; available: auto, cpu"
    ):
        run([*tiny, "hardware.device=cuda:93"])


def test_a_cell_that_failed_its_rehearsal_is_superseded_by_the_mended_one(tiny, own_idea) -> None:
    folder, arm = own_idea
    module = folder / "own_idea.py"
    text = module.read_text()
    module.write_text(f"{text}    return nonsense\n".replace("return loss", "loss"))
    broken = freeze(load([*tiny, *arm]))
    assert rehearsal.rehearse(broken, 1) == 1
    module.write_text(text)
    del sys.modules["own_idea"]
    mended = freeze(load([*tiny, *arm]))
    cell.run(mended)
    records = [read_record(broken), read_record(mended)]
    assert [record.status for record in records] == ["failed", "complete"]
    asked = {broken.name: "first", mended.name: "last"}
    ranked = [(record, rank(record, [], asked)) for record in records]
    assert superseded_by(ranked) == [records[1], None]


def test_an_error_of_ones_own_code_names_the_line_to_fix(tiny, own_idea) -> None:
    folder, arm = own_idea
    helper = folder / "own_helper.py"
    helper.write_text(
        "class Factor:\n    def __rmul__(self, other):\n        return other @ other.nose\nFACTOR = Factor()\n"
    )
    (folder / "own_idea.py").write_text(
        (folder / "own_idea.py").read_text().replace("loss * FACTOR", "FACTOR.__rmul__(loss)")
    )
    frozen = freeze(load([*tiny, *arm]))
    assert rehearsal.rehearse(frozen, 1) == 1
    wanted = f"'nose'; fix {helper}:3 and run it again"
    assert read_record(frozen).error.endswith(wanted)
    assert cell.run(frozen).error.endswith(wanted)


@pytest.mark.parametrize(
    ("body", "what"), [("loss * FACTOR", "None"), ("return logits", r"shape \[\d+, \d+, \d+\]")]
)
def test_a_loss_that_is_not_one_number_is_refused_by_name(tiny, own_idea, body, what) -> None:
    folder, arm = own_idea
    module = folder / "own_idea.py"
    module.write_text(module.read_text().replace("return loss * FACTOR", body))
    error = cell.run(freeze(load([*tiny, *arm]))).error
    assert re.search(rf"interventions\.own\.fn returned {what}: a function of the event", error)


def test_own_code_that_takes_other_arguments_is_named(tiny, own_idea) -> None:
    folder, arm = own_idea
    idea = folder / "own_idea.py"
    idea.write_text("import torch\ndef scale(loss):\n    return loss\n")
    error = cell.run(freeze(load([*tiny, *arm]))).error
    assert error.startswith("TypeError: scale() takes 1 positional argument but 4 were given")
    assert error.endswith(f"; fix {idea}:2 and run it again")


@pytest.mark.parametrize(
    ("line", "words"),
    [("import nose_", "ModuleNotFoundError: No module named 'nose_'; fix {}:1 and run it again"),
     ("raise MemoryError", "MemoryError: ")],
)  # fmt: skip
def test_an_error_while_own_code_is_imported_is_told_as_it_is(tiny, own_idea, line, words) -> None:
    folder, arm = own_idea
    helper = folder / "own_helper.py"
    helper.write_text(line)
    assert cell.run(freeze(load([*tiny, *arm]))).error == words.format(helper)


def test_an_error_of_a_slot_is_told_in_the_words_of_its_author(tiny, own_idea) -> None:
    folder, _ = own_idea
    (folder / "own_slot.py").write_text(
        "def inner():\n    try:\n        {}['even']\n"
        "    except KeyError as error:\n        raise ValueError('must be even') from error\n"
    )
    frozen = freeze(load([*tiny, "+model.mlp.inner={_target_: own_slot.inner}"]))
    error = cell.run(frozen).error
    assert error == f"ValueError: must be even; fix {folder / 'own_slot.py'}:5 and run it again"


def test_an_error_of_own_code_that_was_edited_meanwhile_names_no_line(
    tiny, own_idea, monkeypatch
) -> None:
    folder, arm = own_idea
    helper = folder / "own_helper.py"
    helper.write_text("FACTOR = None\n")
    idea = folder / "own_idea.py"
    frozen = freeze(load([*tiny, *arm]))
    idea.write_text(idea.read_text().replace("FACTOR\n", "FACTOR\n\n"))
    monkeypatch.chdir(frozen.parent)  # as one types it
    assert "fix" not in cell.run(Path(frozen.name)).error


def test_a_failed_rehearsal_does_not_touch_what_another_process_has_or_had(
    tiny, monkeypatch
) -> None:
    from harness.cell.lock import locked

    def fail(*_: object) -> None:
        raise RuntimeError("no room")

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(rehearsal, "train", fail)
        with locked(folder):
            assert rehearsal.rehearse(folder, 1) == 0
            assert not (folder / "record.json").exists()
        assert rehearsal.rehearse(folder, 1) == 1
        assert read_record(folder).error == "RuntimeError: no room"
    done = cell.run(folder)
    with monkeypatch.context() as patch:
        patch.setattr(rehearsal, "train", fail)
        assert rehearsal.rehearse(folder, 1) == 0
    assert read_record(folder) == done
