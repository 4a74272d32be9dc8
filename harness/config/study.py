"""What a study is made of: the cards of its interventions, its plan, its budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from harness.config.metadata import Slot, number


class Event(Enum):
    """Where an intervention's function is called; see `harness.events`."""

    model_built = "model_built"
    batch = "batch"
    loss = "loss"
    gradients_ready = "gradients_ready"
    step_done = "step_done"
    before_eval = "before_eval"
    after_eval = "after_eval"
    metrics = "metrics"


@dataclass(kw_only=True, slots=True)
class CardConfig:
    """An intervention's card: what it is, where it comes from, and what it hooks into."""

    summary: str
    """What it does, in a line."""
    source: str
    """Where it comes from: a paper, a post, a repository."""
    published_delta: float | None = number(None, unit="nats/token")
    """Test loss minus baseline, negative is better, as published."""
    published_where: str | None = None
    """Where `published_delta` stands, and at which scale."""
    claim: str | None = None
    """What sources report that is no difference of test losses, with scale and baseline."""
    claimed_negative: bool = False
    """A source reports that it does not help."""
    extra_cost: str | None = None
    """Parameters, memory or time beyond the baseline's."""
    event: Event | None = None
    """Where in the loop `fn` is called; None with `fn`: an object whose methods are events."""
    fn: Slot | None = None
    """Called at `event`."""
    declares: list[str] = field(default_factory=list)
    """Groups among data, eval, seeds and hardware that this intervention has to touch."""
    not_with: dict[str, str] = field(default_factory=dict)
    """What it does not combine with (an overlay's name, the module of its `fn`, a key) and why."""
    control: bool = False
    """An A/A control: what it trains equals the baseline, in truth or to the last bit."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What it changes by itself, as `Config.changes`. Filled in by the harness."""


@dataclass(kw_only=True, slots=True)
class BudgetConfig:
    """No new cell of a study is started beyond these; running ones finish. None: no limit."""

    hours: float | None = number(None, unit="hours", at_least=0)
    """Training time summed over devices."""
    usd: float | None = number(None, unit="dollars", at_least=0)
    """Needs ``hardware.usd_per_hour``."""
    tokens: int | None = number(None, unit="tokens", at_least=0, at_most=10**18)
    """Training tokens of all cells."""


@dataclass(kw_only=True, slots=True)
class StudyConfig:
    """The plan of a saved study: fixed before its first run."""

    arms: list[str] = field(default_factory=list)
    """``baseline``, an intervention, or several joined with ``+``."""
    scales: list[str] = field(default_factory=list)
    """Sizes that the whole study is run at, one after the other, each in a folder of its own,
    ``runs/NAME_SCALE``; none: at the config's ``scale`` alone."""
    seeds: int = number(3, above=0, at_most=10_000)
    """Seeds 0 … seeds-1 for every arm."""
    baseline_seeds: int | None = number(None, above=0, at_most=10_000)
    """Seeds of the baseline; None: as many as the others."""
    alpha: float = number(0.05, above=0, below=0.5)
    """Family-wise error of the study's verdicts."""
    practical_size: float | None = number(None, unit="nats/token", above=0)
    """Practically relevant difference; None: one sd of the runs, labelled so."""
    rope: float | None = number(None, above=0)
    """The former name of `practical_size`, which older files have."""
    tune: dict[str, list[Any]] = field(default_factory=dict)
    """Setting -> factors on each arm's own value, as ``optim.lr: [0.5, 1, 2]``: every arm is tried
    with each of them first, and judged with that of its lowest validation loss."""
    tune_seeds: int = number(1, above=0, at_most=10_000)
    """Seeds of each trial; none of them is judged."""
    tuned: dict[str, Any] = field(default_factory=dict)
    """The factors that this cell trains with. Filled in by the harness."""
    tuning: bool = False
    """This cell is a trial. Filled in by the harness."""

    def __post_init__(self) -> None:
        """Take a practical size under its former name."""
        if self.practical_size is None:
            self.practical_size = self.rope
        self.rope = None
