"""The catalogue's commands: new, show, publish and the page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.loop import evaluated_weights, train_step
from interventions.__main__ import main
from interventions.card import read_cards
from interventions.catalogue.measured import publish, read_measured
from interventions.catalogue.new import create
from interventions.catalogue.page import PAGE, render
from interventions.catalogue.stubs import EVENTS, SLOTS

WORDS = ["--summary", "Quotes \"and\" 'more': a {brace}", "--source", "mine: 2026"]
BASELINE: dict = {}
"""Its weights after one step, once they were needed."""
OWN = ["+intervention=mine"]
KINDS = [
    ("knob", "optim.grad_clip=1e-3"),
    *(("slot", slot) for slot in SLOTS),
    *(("event", event) for event in EVENTS),
]


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_mine", None)


def step(training) -> dict:
    """Take one step and return the weights that are evaluated."""
    training.model.train()
    assert train_step(training, 0).loss.isfinite()
    with evaluated_weights(training) as model:
        return {n: p.detach().clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize(("kind", "what"), KINDS)
def test_what_new_writes_trains_as_it_is_and_differs(
    kind: str, what: str, own_folder: Path, make_training
) -> None:
    assert main(["new", "mine", f"--{kind}", what, *WORDS]) == 0
    (card,) = read_cards(own_folder / "conf" / "intervention")
    assert (card.summary, card.source) == (WORDS[1], WORDS[3])
    compile((own_folder / "test_my_mine.py").read_text(), "test", "exec")
    if what == "metrics":
        training = make_training(OWN)
        assert len(training.events.metrics(training.model)) == 4
        return
    if not BASELINE:
        BASELINE.update(step(make_training([])))
    ours = step(make_training(OWN))
    assert ours.keys() == BASELINE.keys()
    assert any(not ours[name].equal(BASELINE[name]) for name in ours)


@pytest.mark.proof
def test_the_test_that_new_writes_passes(own_folder: Path) -> None:
    assert main(["new", "mine", "--event", "metrics", *WORDS]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_my_mine.py"],
        cwd=own_folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_checkout_gets_the_files_where_the_project_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "conf" / "intervention").mkdir(parents=True)
    (tmp_path / "conf" / "intervention" / "baseline.yaml").touch()
    create(["mine", "--event", "loss", *WORDS, "--folder", str(tmp_path)])
    overlay = (tmp_path / "conf" / "intervention" / "mine.yaml").read_text()
    assert "_target_: interventions.mine.mine" in overlay
    assert "# python -m harness +intervention=mine\n" in overlay
    assert (tmp_path / "interventions" / "mine.py").is_file()
    assert "parents[2]" in (tmp_path / "tests" / "interventions" / "test_mine.py").read_text()


def test_what_the_options_leave_open_is_asked_for(own_folder: Path) -> None:
    answers = iter(["slot", "head", "one line", "a paper"])
    create(["mine"], ask=lambda _: next(answers))
    (card,) = read_cards(own_folder / "conf" / "intervention")
    assert card.sets == {"model": {"head": {"_target_": "my_mine.Mine", "strength": 0.9}}}
    assert card.summary == "one line"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Mine", "--knob", "a=1", *WORDS], "small letters"),
        (["qk_norm", "--knob", "a=1", *WORDS], "qk_norm.yaml exists: choose another name"),
        (["mine", "--knob", "a", *WORDS], "KEY=VALUE"),
        (["mine", "--slot", "mpl", *WORDS], "slot 'mpl': one of norm, attention, mlp"),
        (["mine", "--event", "epoch", *WORDS], "event 'epoch': one of loss"),
        (["mine"], "nobody to ask: give --knob, --slot or --event"),
    ],
)
def test_answers_that_lead_nowhere_are_one_line(arguments, words, own_folder, capsys) -> None:
    assert main(["new", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not list(own_folder.iterdir())


def test_show_prints_card_differences_and_what_was_measured(capsys) -> None:
    assert main(["show", "higher_lr", "scale=gpt2_small"]) == 0
    said = capsys.readouterr().out
    assert "against the baseline (scale=gpt2_small):\n    optim.lr: 0.0004 -> 0.0014" in said
    assert "source: Giles Thomas" in said
    assert "measured here" in said
    assert main(["show", "polar_express"]) == 0
    assert "optim.optimizer.matrices.beta2: not set -> none" in capsys.readouterr().out
    assert main(["show", "no_such"]) == 2
    assert "no_such" in capsys.readouterr().err


STUDY = """\
arm,n,n_diverged,mean_loss,delta,ci_low,ci_high,p_adj,verdict,usd
qk_norm,3,0,2.6,-0.0512345678,-0.06,-0.04,0.001,better,
baseline,3,0,2.65,0,,,,,
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a folder of results that were kept of a study with one arm."""
    cell = tmp_path / "runs" / "tried" / "baseline" / "c0ffee"
    cell.mkdir(parents=True)
    (cell.parents[1] / "results.csv").write_text(STUDY)
    (cell / "config.yaml").write_text("scale_name: demo\nstudy_name: tried\n")
    made = {"git_sha": "abc", "device": "cpu", "platform": "Linux", "python": "3.11.7"}
    made |= {"packages": {"torch": "2.13.0"}, "dataset_sha256": "d"}
    record = {"finished": "2026-11-28T06:00:00+00:00", "provenance": made}
    (cell / "record.json").write_text(json.dumps(record))
    publish(cell.parents[1], tmp_path / "results")
    return tmp_path / "results"


def test_a_study_s_results_are_kept_with_where_they_come_from(results: Path) -> None:
    assert (results / "tried.csv").read_text().splitlines()[2] == (
        "qk_norm,3,0,2.6,-0.051235,-0.06,-0.04,0.001,better"
    )
    origin = json.loads((results / "tried.json").read_text())
    assert (origin["scale"], origin["torch"]) == ("demo", "2.13.0")
    (found,) = read_measured(results)["qk_norm"]
    assert str(found) == "-0.0512 [-0.0600, -0.0400]: better (scale=demo, 3 seeds)"
    assert set(read_measured(results)) == {"qk_norm"}


def test_the_page_labels_the_demo_s_verdicts(results: Path) -> None:
    page = render(results)
    assert "**These are verdicts at the demo's scale**" in page
    assert "python -m harness +study=tried" in page
    row = next(line for line in page.splitlines() if line.startswith("| [qk_norm]"))
    assert row.endswith("| -0.0512 [-0.0600, -0.0400]: better (scale=demo, 3 seeds) |")


def test_a_study_without_results_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run `python -m analysis .*` first"):
        publish(tmp_path, tmp_path)


def test_the_page_of_interventions_is_fresh() -> None:
    assert PAGE.read_text() == render(), "run: python -m interventions page"
