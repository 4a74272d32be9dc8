"""One object with a method for every event and a state, through a whole cell, a stop and a resume."""

import re
from pathlib import Path

import pytest

from harness import events
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.cell.rehearsal import rehearse
from harness.config import Event
from harness.records import Status
from harness.records.cell import Cell
from tests.configs import load
from tests.harness.cells import lines, run, run_until

EVERYTHING = """
import torch


class Everything:
    def __init__(self):
        self.n = {}

    def count(self, event):
        self.n[event] = self.n.get(event, 0) + 1

    def model_built(self, model):
        self.count("model_built")
        model.head.weight.data.mul_(0.5)

    def batch(self, x_BT, y_BT, step):
        self.count("batch")
        return x_BT.flip(0), y_BT.flip(0)

    def loss(self, loss, logits_BTV, y_BT, model):
        self.count("loss")
        return loss + 0.01 * logits_BTV.square().mean()

    def gradients_ready(self, model, step):
        self.count("gradients_ready")
        model.head.weight.grad[0] = 0

    def step_done(self, model, step):
        self.count("step_done")

    def before_eval(self, model):
        self.count("before_eval")
        model.head.weight.data.mul_(1 + self.n["step_done"] / 100)

    def after_eval(self, model):
        self.count("after_eval")
        model.head.weight.data.mul_(7)  # put back by the harness

    def metrics(self, model):
        self.count("metrics")
        return self.n

    def state_dict(self):
        return {"n": dict(self.n)}

    def load_state_dict(self, state):
        self.n = dict(state["n"])
"""


@pytest.fixture
def everything(own_idea) -> list[str]:
    folder, overrides = own_idea
    (folder / "own_idea.py").write_text(EVERYTHING)
    (folder / "conf" / "intervention" / "own.yaml").write_text(
        "# @package _global_\n"
        "interventions: {own: {summary: s, source: t, fn: {_target_: own_idea.Everything}}}\n"
    )
    return overrides


def counts(folder: Path) -> list[dict]:
    """Return how often each event was called, by logged line."""
    rows = [
        {k: v for k, v in row.items() if k.startswith("own/")}
        for row in lines(folder / "metrics.jsonl")
    ]
    return [{k.removeprefix("own/"): v for k, v in row.items()} for row in rows]


def test_an_object_hears_of_every_event_as_often_as_it_happens(tiny, everything) -> None:
    folder, record = run([*tiny, *everything])
    assert record.status is Status.COMPLETE, record.error
    once_a_step = dict.fromkeys(("batch", "loss", "gradients_ready", "step_done"), 10)
    looks = {"before_eval": 2, "after_eval": 2}  # validated and sampled at step 5
    assert counts(folder)[-1] == {"model_built": 1, **once_a_step, **looks, "metrics": 6}
    assert counts(folder)[-1].keys() == {event.name for event in Event}


def test_its_changes_of_the_fresh_model_are_in_the_first_fingerprints(tiny, everything) -> None:
    _, ours = run([*tiny, *everything])
    _, plain = run([*tiny, "study_name=plain"])
    theirs = plain.fingerprints.init
    changed = {name for name, value in ours.fingerprints.init.items() if theirs[name] != value}
    assert changed == {"head.weight"}


def test_it_goes_on_from_a_stop_with_its_state(tiny, everything, monkeypatch) -> None:
    undisturbed, expected = run([*tiny, *everything, "study_name=undisturbed"])
    folder = freeze(load([*tiny, *everything]))
    run_until(7, folder, monkeypatch)
    record = cell.run(folder)
    assert (record.fingerprints, record.losses) == (expected.fingerprints, expected.losses)
    assert counts(folder) == counts(undisturbed)


@pytest.mark.parametrize(
    "held", ["collections.deque([1.0])", "numpy.float64(1)", "collections.defaultdict(list)"]
)
def test_a_state_that_no_resume_could_read_fails_by_name_when_it_is_saved(
    tiny, own_idea, held: str
) -> None:
    folder, overrides = own_idea
    (folder / "own_idea.py").write_text(
        "import collections, numpy\n\n\nclass Keeps:\n    def step_done(self, model, step): ...\n\n"
        f"    def state_dict(self):\n        return {{'kept': [{held}]}}\n\n"
        "    def load_state_dict(self, state): ...\n"
    )
    (folder / "conf" / "intervention" / "own.yaml").write_text(
        "# @package _global_\n"
        "interventions: {own: {summary: s, source: t, fn: {_target_: own_idea.Keeps}}}\n"
    )
    _, record = run([*tiny, *overrides])
    assert record.status is Status.FAILED
    assert "interventions.own.fn: its state_dict holds" in record.error


OWN_STATES = """\
import copy, random, torch


class Counts:
    def __init__(self):
        self.n, self.seen = 0, []

    def step_done(self, model, step):
        self.n += 1
        self.seen.append(model)


class Averages:
    average = None

    @torch.no_grad()
    def step_done(self, model, step):
        self.average = self.average or copy.deepcopy(model)
        torch._foreach_lerp_([*self.average.parameters()], [*model.parameters()], 0.5)


class Draws:
    def __init__(self):
        self.generator = random.Random(0)

    def step_done(self, model, step):
        self.generator.random()


class Writes(Counts):
    def state_dict(self):
        return {}


class Harmless:
    def __init__(self):
        self.scratch, self.layer, self.optimizer = [], None, None

    def gradients_ready(self, model, step, optimizer):
        self.scratch = [p.clone() for p in model.parameters()]
        self.layer, self.optimizer = model.head, optimizer
        self.shape = lambda: model.head.weight.shape

    def step_done(self, model, step):
        self.scratch = []


class Late(Counts):
    def step_done(self, model, step):
        self.n += step > 0


class Waives(Counts):
    def state_dict(self):
        return {}

    def load_state_dict(self, state): ...
"""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Counts", "n changes in training, which a resumed run would not know: add state_dict"),
        ("Averages", "average changes in training"),
        ("Draws", "generator changes in training"),
        ("Writes", "has state_dict and no load_state_dict"),
        ("Harmless", None),
        ("Waives", None),
    ],
)
def test_a_state_that_a_resumed_run_would_lose_is_refused_by_name_before_it_trains(
    tiny, own_idea, kind: str, said: str | None
) -> None:
    folder = with_own_state(kind, tiny, own_idea)
    assert rehearse(folder, 1) == (said is not None)
    if said:
        error = Cell(folder).record().error
        assert f"interventions.own.fn{':' * ('changes' in said)} {said}" in error


def test_a_state_that_changes_late_costs_checkpoints_and_not_the_run(tiny, own_idea, caplog):
    folder = with_own_state("Late", [*tiny, "checkpoint.every_steps=1"], own_idea)
    assert rehearse(folder, 1) == 0
    assert cell.run(folder).error is None
    assert "n changes in training" in caplog.text
    assert "not saved: a stop goes back to the last checkpoint, if any" in caplog.text


def with_own_state(kind: str, tiny, own_idea) -> Path:
    folder, overrides = own_idea
    (folder / "own_idea.py").write_text(OWN_STATES)
    (folder / "conf" / "intervention" / "own.yaml").write_text(
        "# @package _global_\n"
        f"interventions: {{own: {{summary: s, source: t, fn: {{_target_: own_idea.{kind}}}}}}}\n"
    )
    return freeze(load([*tiny, *overrides]))


def test_the_page_and_the_class_know_the_same_events() -> None:
    rows = re.findall(r"^(\w+) +\(", events.__doc__, re.MULTILINE)
    assert rows == [event.name for event in Event]
