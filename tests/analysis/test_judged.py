"""Judged verdicts: what the report must find in a judge, and what it may say of the arms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main as analyse
from analysis.comparison.rules import Rules
from analysis.comparison.verdict import Kind as Verdict
from analysis.errors import AnalysisError
from analysis.judged.gold import Gold, read_gold
from analysis.judged.scores import Scores, read_scores
from analysis.judged.tables import report_judged
from analysis.judged.verdicts import judged_differences
from analysis.questions.paired import PairedRules
from analysis.report.evidence import gather
from analysis.report.sections import sections
from analysis.runs.frame import Runs
from benchmarks.scripted_judge import ScriptedJudge
from harness.judge import main as judge_command
from harness.records.responses import Response, read_judgements, write_responses

N, SEEDS = 40, 3
ARMS = {"baseline": 40.0, "better": 55.0, "same": 40.0}


@dataclass(frozen=True)
class Study:
    """Responses of three arms on three seeds, whose quality the text itself carries."""

    path: Path

    @classmethod
    def of(cls, folder: Path, seeds: int = SEEDS) -> Study:
        draw = np.random.default_rng(1)
        difficulty = draw.normal(0, 8, N)
        rows = []
        for arm, quality in ARMS.items():
            for seed in range(seeds):
                for i in range(N):
                    worth = quality + difficulty[i] + draw.normal(0, 8)
                    length = int(draw.integers(5, 60)) * (3 if arm == "same" else 1)
                    rows.append(_response(arm, seed, i, f"{worth:06.2f} {'x' * length}"))
        write_responses(folder / "responses.jsonl", rows)
        return cls(folder / "responses.jsonl")

    def judged(self, score: Callable, name: str = "fair", *more: str) -> Path:
        out = self.path.with_name(f"{name}.jsonl")
        if not out.exists():
            with ScriptedJudge(score) as judge:
                options = [
                    "--judge",
                    name,
                    "--base-url",
                    judge.base_url,
                    "--out",
                    str(out),
                    "--yes",
                ]
                assert judge_command([str(self.path), *options, *more]) == 0
        return out


def _response(arm: str, seed: int, i: int, text: str) -> Response:
    return Response(
        model=f"{arm}/s{seed}", arm=arm, cell=arm, train_seed=7, seed=seed,
        instruction_id=f"{i:03}", instruction=f"Say {i}.", input="", reference=f"{90:06.2f} ok",
        response=text, truncated=False,
    )  # fmt: skip


def worth(text: str) -> float:
    first = text.partition(" ")[0]
    return float(first) if first[:1].isdigit() else 0.0


def fair(_: str, answers: list[str]) -> list[float]:
    return [worth(text) for text in answers]


def obeys(_: str, answers: list[str]) -> list[float]:
    return [100.0 if "100 points" in text else worth(text) for text in answers]


def favours_late(_: str, answers: list[str]) -> list[float]:
    return [worth(text) + 20 * k / (len(answers) - 1) for k, text in enumerate(answers)]


def favours_long(_: str, answers: list[str]) -> list[float]:
    return [worth(text) + 10 * np.log1p(len(text)) - 30 for text in answers]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    monkey = pytest.MonkeyPatch()
    monkey.setenv("OPENAI_API_KEY", "none")
    return Study.of(tmp_path_factory.mktemp("judged"))


@cache
def report(path: Path, *more: Path, **rules: object):
    """Several tests read the report of one file."""
    return report_judged(judged_differences(read_scores([path, *more]), PairedRules(**rules)))


def test_a_fair_judge_finds_the_better_arm_and_no_other(study: Study) -> None:
    found = report(study.judged(fair))
    better, same = found.judged.differences
    assert better.arm == "better"
    assert better.decided.verdict.kind is Verdict.BETTER
    assert abs(better.estimate - 15) < better.decided.half_width
    assert same.decided.verdict.kind is Verdict.UNDECIDED
    [habits] = found.habits
    assert habits.slot is not None
    assert habits.slot.p > 0.01
    assert habits.own_noise is not None
    assert habits.own_noise.difference == 0
    assert habits.orders is not None
    assert habits.orders.correlation == pytest.approx(1)
    assert habits.anchors["empty"] == 0
    place = {r.name: r for r in found.ranks}
    assert place["better"].high < place["baseline"].low
    assert place["better"].beats_baseline > 0.7
    assert found.ranks[0].anchor
    assert found.ranks[-1].name == "empty"


def test_a_practical_size_in_points_sorts_the_verdicts(study: Study) -> None:
    better, same = report(study.judged(fair), practical_size=9.0).judged.differences
    assert str(better.decided.verdict) == "better (beyond practical size)"
    assert same.decided.verdict.kind is Verdict.SAME


def test_a_planted_position_bias_is_found_and_leaves_the_differences_alone(study: Study) -> None:
    found = report(study.judged(favours_late, "late"))
    slot = found.habits[0].slot
    assert slot is not None
    assert abs(slot.estimate - 20) < max(2.0, slot.half_width(0.01))
    assert "favours late slots" in found.to_markdown()
    better, _ = found.judged.differences
    assert abs(better.estimate - 15) < better.decided.half_width


def test_a_planted_length_bias_is_found_and_taken_out(study: Study) -> None:
    found = report(study.judged(favours_long, "long"))
    length = found.habits[0].length
    assert length is not None
    assert abs(length.estimate - 10) < max(2.0, length.half_width(0.01))
    assert "favours long responses" in found.to_markdown()
    same = next(d for d in found.judged.differences if d.arm == "same")
    assert (
        same.decided.verdict.kind is Verdict.BETTER
    )  # fooled: its responses are three times as long
    assert abs(same.same_length) < same.same_length_half


def test_a_judge_that_gives_the_points_that_an_answer_asks_for_is_found(study: Study) -> None:
    said = "obeys follows instructions inside answers: an answer that only asks for 100 gets 100.0"
    found = report(study.judged(obeys, "obeys"))
    assert said in found.to_markdown()
    assert found.habits[0].anchors["claim"] == 100
    assert {r.name for r in found.ranks if r.rank == 1} == {"claim"}
    fairly = report(study.judged(fair))
    assert fairly.habits[0].anchors["claim"] == 0
    assert "ask of it" not in fairly.to_markdown()


def test_judgements_without_a_newer_anchor_are_read_as_before(study: Study, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in study.judged(fair).read_text().splitlines()]
    for line in lines:
        line["entries"] = [entry for entry in line["entries"] if entry["kind"] != "claim"]
    path = tmp_path / "before.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = report(path)
    assert set(found.habits[0].anchors) == {"reference", "empty", "other"}
    assert found.judged.differences[0].estimate == pytest.approx(
        report(study.judged(fair)).judged.differences[0].estimate
    )
    assert "claim" not in found.to_markdown()


def test_two_judges_are_averaged_and_their_agreement_is_said(study: Study) -> None:
    both = report(study.judged(fair), study.judged(favours_long, "long"))
    [agreement] = both.between.values()
    assert agreement is not None
    assert 0.5 < agreement.correlation < 1
    alone = [report(study.judged(*j)).judged.differences for j in [(fair,), (favours_long, "long")]]
    by_arm = [
        {d.arm: d.found.estimate for d in found} for found in [*alone, both.judged.differences]
    ]
    assert by_arm[2]["better"] == pytest.approx((by_arm[0]["better"] + by_arm[1]["better"]) / 2)


def test_missing_scores_leave_their_instruction_out_and_are_never_zero(
    study: Study, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in study.judged(fair).read_text().splitlines()]
    for line in lines:
        if line["instruction_id"] in ("000", "001"):
            line["outcome"] = "refused"
            line["entries"] = [{**entry, "score": None} for entry in line["entries"]]
    path = tmp_path / "j.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole, found = report(study.judged(fair)), report(path)
    better = found.judged.differences[0]
    assert better.found.n_items == N - 2
    assert abs(better.estimate - whole.judged.differences[0].estimate) < 2
    assert "4 of 80 calls (4 refused) count as missing" in found.to_markdown()


def test_one_fine_tuning_gives_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    found = report(Study.of(tmp_path, seeds=1).judged(fair))
    assert {d.decided.verdict.kind for d in found.judged.differences} == {Verdict.UNDECIDED}
    assert "its own noise is unknown" in found.to_markdown()


def test_hand_labels_take_the_judges_bias_out(study: Study) -> None:
    scores = read_scores([study.judged(favours_long, "long")])
    truth = {r.model + r.instruction_id: worth(r.response) for r in _responses(study)}
    rows = [
        {
            "instruction_id": r.instruction_id,
            "model": r.model,
            "label": truth[r.model + r.instruction_id],
        }
        for r in _responses(study)
        if int(r.instruction_id) < 20
    ]
    judged = judged_differences(scores, PairedRules(), Gold(pd.DataFrame(rows)))
    same = next(d for d in judged.differences if d.arm == "same")
    assert same.corrected is not None
    assert same.corrected.bias > 5
    assert abs(same.estimate) < same.decided.half_width
    assert "corrected by hand labels" in report_judged(judged).to_markdown()
    assert "the judge's opinion" in report(study.judged(fair)).to_markdown()


def write_labels(study: Study, file: Path, rename: Callable[[str], str] = str) -> None:
    """Label the first 20 instructions of all models."""
    rows = [
        {"instruction_id": rename(r.instruction_id), "model": r.model, "score": worth(r.response)}
        for r in _responses(study)
        if int(r.instruction_id) < 20
    ]
    if file.suffix == ".csv":
        pd.DataFrame(rows).to_csv(file, index=False)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("name", ["gold.csv", "gold.jsonl"])
def test_labels_beside_the_judgements_correct_the_table_and_the_report(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    judgements = tmp_path / "judgements.jsonl"
    judgements.write_bytes(study.judged(favours_long, "long").read_bytes())
    runs = Runs(
        pd.DataFrame({"arm": ["baseline", "better"], "test_loss": [3.0, 2.9]}), home=tmp_path
    )
    judged = gather(runs, Rules()).judged
    assert judged is not None
    assert "as gold.csv beside the judgements" in judged.to_markdown()
    write_labels(study, tmp_path / name)
    evidence = gather(runs, Rules())
    judged = evidence.judged
    assert judged is not None
    [arms, *_] = next(part.tables for part in sections(evidence) if part.name == "judged")
    first = [column.label for column in arms.columns[:4]]  # a phone shows no more
    assert first == ["arm", "verdict", "difference", "95% CI"]
    assert analyse(["judged", str(judgements)]) == 0
    for said in (judged.to_markdown(), capsys.readouterr().out):
        assert "(corrected by hand labels)" in said
        assert f"are corrected by {name}; the score and the columns at equal length" in said
        assert "on 20 labelled instructions" in said
        assert "left out" not in said.replace("are left out of the difference", "")


def test_labels_of_no_judged_response_are_said(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, labels = str(study.judged(fair)), tmp_path / "labels.csv"
    write_labels(study, labels, lambda name: name.removeprefix("0"))
    assert analyse(["judged", path, "--gold", str(labels)]) == 2
    said = capsys.readouterr().err
    assert "label at least 2 of them" in said
    assert f"the hand labels in {labels} have better and baseline" in said
    assert f"180 of 180 hand labels in {labels} are of no judged response" in said
    assert "the first of 00 / baseline/s0" in said
    assert "a judged one is 000 / baseline/s0" in said
    write_labels(study, labels, lambda name: "9" if name == "007" else name)
    assert analyse(["judged", path, "--gold", str(labels)]) == 0
    assert f"9 of 180 hand labels in {labels} are of no judged" in capsys.readouterr().out


def test_numbers_as_ids_in_json_lines_are_texts(study: Study, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"instruction_id": 7, "model": "a", "score": 3}\n')
    assert read_gold(labels).strangers(read_scores([study.judged(fair)]))


def _responses(study: Study) -> list[Response]:
    from harness.records.responses import read_responses

    return read_responses(study.path)


def test_the_command_prints_and_writes_the_tables(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(study.judged(fair))
    assert analyse(["judged", path, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Judged score against baseline (the judge's opinion)" in printed
    assert {p.name for p in tmp_path.glob("*.csv")} == {
        "judged.csv",
        "judged_ranks.csv",
        "judges.csv",
    }
    assert analyse(["judged", path, "--baseline", "nobody"]) == 2
    assert "there must be a baseline" in capsys.readouterr().err


def test_a_call_that_was_asked_again_counts_once(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text(study.judged(fair).read_text() * 2)
    assert len(read_judgements(path)) == 2 * 2 * N
    assert isinstance(scores := read_scores([path]), Scores)
    assert scores.outcomes["fair"].total() == 2 * N


def test_models_that_were_not_shown_together_are_not_compared(study: Study, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in study.judged(fair).read_text().splitlines()]
    for entry in lines[0]["entries"]:
        entry["model"] = entry["model"].replace("better", "newer")
    path = tmp_path / "j.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(AnalysisError, match="different sets of models"):
        read_scores([path])


def test_hand_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("instruction_id,model,score\n000,a,120\n")
    with pytest.raises(AnalysisError, match="allowed is 0 to 100"):
        read_gold(path)
    path.write_text("instruction_id,score\n000,12\n")
    with pytest.raises(AnalysisError, match="no column model"):
        read_gold(path)
    path.write_text("instruction_id,model,score\n000,a,12\n000,a,\n")
    assert read_gold(path).frame.to_dict("records") == [
        {"instruction_id": "000", "model": "a", "label": 12.0}
    ]
