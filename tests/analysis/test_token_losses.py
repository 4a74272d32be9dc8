"""What arms lost at each token of a text: read for the report, whose page test is in the browser."""

from pathlib import Path

import pytest
from full_study import EVIL, end_as, evidence_of, full_study, write_texts

from analysis.benchmarks.token_losses import read_texts
from analysis.errors import AnalysisError
from analysis.report.page import render
from analysis.report.sections import sections
from analysis.runs.tables import read_runs
from harness.records import Status
from harness.records.evaluation import TOKEN_LOSSES_FILE, read_evaluations, write_evaluation

ARMS = {"baseline": 0.0, "good": -0.1}
TOKENS = ["One", EVIL, " two"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = full_study(tmp_path / "study", ARMS, 3)
    write_texts(made, TOKENS, ARMS)
    return made


def texts(folder: Path):
    return read_texts(read_runs([str(folder)]))


def test_losses_are_the_mean_over_an_arms_runs(folder: Path) -> None:
    [text] = texts(folder)
    assert text.tokens == tuple(TOKENS)
    assert text.nats == {"baseline": [1.0, 1.0, 2.5], "good": [1.0, 1.0, 2.4]}
    assert text.n_runs == {"baseline": 2, "good": 2}


def test_runs_that_do_not_count_and_models_from_elsewhere_are_told_apart(folder: Path) -> None:
    end_as(folder, "good", 1, Status.FAILED)
    home, other = next(iter(read_evaluations(folder, []).items()))
    other.in_study, other.name = False, "hf:a/b@1"
    write_evaluation(home, other)
    [text] = texts(folder)
    assert text.n_runs == {"baseline": 1, "hf:a/b@1": 1, "good": 1}
    assert text.nats["good"][-1] == 1.9


def test_models_with_other_tokens_have_nothing_to_be_paired_with(folder: Path) -> None:
    write_texts(folder, ["Other"], {"good": 0.0})
    assert texts(folder) == []


def test_the_page_holds_the_tokens_as_data(folder: Path) -> None:
    evidence = evidence_of(folder)
    assert "tokens" in [part.name for part in sections(evidence)]
    html = render(evidence)
    assert EVIL not in html
    assert 'id="token-shown"' in html


def test_a_file_that_cannot_be_read_is_a_reason_and_no_crash(folder: Path) -> None:
    file = next(folder.glob(f"references/*/{TOKEN_LOSSES_FILE}"))
    file.write_text('{"sequences": [{"tokens": ["a"], "nats": []}]}')
    with pytest.raises(AnalysisError, match="1 tokens and 0 losses"):
        texts(folder)
    part = next(part for part in sections(evidence_of(folder)) if part.name == "unknown")
    assert "evaluate the model again" in " ".join(part.items)
