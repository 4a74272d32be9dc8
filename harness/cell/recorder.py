"""What a cell writes while it trains: metrics, validation, samples, checkpoints, progress."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.cell.build import Setup
from harness.cell.console import Progress
from harness.cell.speed.device import peak_memory
from harness.cell.speed.flops import StepFlops, counted_or_estimated
from harness.cell.stopping import Stopped, StopRequest
from harness.config import ConfigError
from harness.data.evaluated import val_sequences
from harness.data.tokens import get_tokenizer
from harness.engine import checkpoint
from harness.engine.randomness import generator
from harness.evaluation import complete
from harness.loop import Training, evaluate, evaluated_weights
from harness.model import flops_per_token
from harness.records import METRICS_FILE, SAMPLES_FILE, RunRecord, write_record
from harness.records.files import append_json_lines, as_json, write_atomic
from harness.records.reading import RecordError, read_json_lines, stepped
from harness.tracking.live import Tracker

log = logging.getLogger(__name__)


def evenly_spaced(n_times: int, n_steps: int) -> set[int]:
    """Return `n_times` steps up to and including the last, as evenly spaced as whole numbers go."""
    return {round(n_steps * (i + 1) / n_times) for i in range(n_times)} - {0}


class Recorder:
    """The loop's observer: it reads the training and writes files, and changes no result."""

    def __init__(self, setup: Setup, training: Training) -> None:
        self.folder, self.record, self.lock = setup.folder, setup.record, setup.lock
        self.training = training
        self.is_main = training.world.is_main
        self.pending: dict[str, list[Tensor]] = {}
        """Metric -> its values in the steps since the last logged one."""
        self.stop = StopRequest()
        self._resume()
        config, n_steps = training.config, training.config.n_steps
        self.val_sequences = val_sequences(setup.config, setup.corpus.main).tokens
        self.encoding = get_tokenizer(config.data.tokenizer)
        self.log_steps = evenly_spaced(config.log.n_points, n_steps)
        self.val_steps = evenly_spaced(config.eval.n_val, n_steps)
        self.weights_steps = evenly_spaced(config.checkpoint.n_weights, n_steps)
        self.sample_steps = (
            evenly_spaced(config.sample.n_times, n_steps)
            if config.sample.steps is None
            else set(config.sample.steps)
        )
        self.flops = counted_or_estimated(training)
        self.clock = Stopwatch(self.record.cost.train_seconds, training.device)
        self.compiling = config.hardware.compile
        self.speed_since = (0.0, 0)
        """Seconds and step from which on the speed is measured."""
        if self.is_main:
            self.progress = Progress(self.record.arm, n_steps, training.step, config.tokens_after)
            self.tracker = Tracker(config, self.record, self.folder)
            self._truncate(METRICS_FILE)
            self._truncate(SAMPLES_FILE)

    def step_done(self, loss: Tensor, grad_norm: Tensor, lr: float) -> None:
        """Log, validate, sample and save where this step is due."""
        step = self.training.step
        if self.compiling:  # in its first step, once more in every process
            loss.item()
            self.compiling, self.speed_since = False, (self.clock.seconds, step)
        self._note(loss, grad_norm)
        if step in self.log_steps | self.val_steps:
            self._log(grad_norm, lr)
        if self.is_main and step in self.sample_steps:
            self._sample()
        if self.is_main and step in self.weights_steps:
            with self.clock.paused(), evaluated_weights(self.training) as model:
                self.lock.check()
                checkpoint.save_weights(self.folder, step, model)
        if self.lock.lost:
            self.lock.check()
        self._save_or_stop()

    def _save_or_stop(self) -> None:
        step, n_steps = self.training.step, self.training.config.n_steps
        every = self.training.config.checkpoint.every_steps
        due = every and (step % every == 0 or step == n_steps)  # testing the last may take minutes
        stop = self.training.world.any(self.stop.made)
        if stop or due:
            self.save()
        if stop:
            raise Stopped(f"stopped at step {step} of {n_steps}: run it again to go on")

    def save(self) -> None:
        """Write a checkpoint and bring the record up to it."""
        with self.clock.paused():
            t = self.training
            pending = {
                name: [t.world.mean(value).cpu() for value in values]
                for name, values in self.pending.items()
            }
            try:
                own = t.state_dict()
            except ConfigError as error:  # the rehearsal refuses what changes from the first step
                log.warning("%s; not saved: a stop goes back to the last checkpoint, if any", error)
                return
            state = own | {
                "pending": pending,
                "measured": [self.record.losses.train, self.record.losses.val],
                "train_seconds": self.clock.seconds,
            }
            if self.is_main:
                checkpoint.check_readable(state)
                self.lock.check()
                checkpoint.save(self.folder, t.step, state, t.config.checkpoint.keep)
                self.update_record()

    def update_record(self) -> None:
        """Write how far the cell has come, and at what cost."""
        t, record = self.training, self.record
        record.step, record.tokens = t.step, t.config.tokens_after(t.step)
        t.count_skipped()
        record.skipped_steps = t.skipped_steps
        record.cost.train_seconds = round(self.clock.seconds, 3)
        record.cost.tokens_per_second = self._tokens_per_second()
        fill_cost(record, t, self.flops)
        if self.is_main:
            self.lock.check()
            write_record(self.folder, record)

    def close(self) -> None:
        """Release the terminal and the tracker."""
        if self.is_main:
            self.progress.close()
            self.tracker.finish()

    def _resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        saved, complaints = checkpoint.load_newest(self.folder)
        for line in complaints:
            log.warning(line)
        if saved is not None:
            try:
                self._load(saved)
            except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
                if self.training.world.size > 1:  # all of them begin anew, or none
                    raise
                checkpoint.set_aside(saved["file"])
                what = " ".join(str(error).split())[:200]
                raise checkpoint.UnusableError(
                    f"{saved['file'].name} does not fit this cell ({what}): trying without it"
                ) from error
            log.info("going on from step %d", self.training.step)

    def _load(self, saved: dict[str, Any]) -> None:
        self.training.load_state_dict(saved)
        # a checkpoint of an older version knows the training loss alone
        pending = saved["pending"] if "pending" in saved else {"train_loss": saved["losses"]}
        for name, values in pending.items():
            self.pending[name] = [value.to(self.training.device) for value in values]
        self.record.losses.train, self.record.losses.val = saved["measured"]
        self.record.cost.train_seconds = float(saved["train_seconds"])

    def _tokens_per_second(self) -> float:
        """Return the speed, without the step that compiled unless there is no other."""
        t, seconds = self.training, self.clock.seconds
        since = self.speed_since if t.step > self.speed_since[1] else (0.0, 0)
        tokens = t.config.tokens_after(t.step) - t.config.tokens_after(since[1])
        return round(tokens / max(seconds - since[0], 1e-9), 1)

    def _log(self, grad_norm: Tensor, lr: float) -> None:
        metrics = self._measure(grad_norm, lr)
        if self.training.step in self.val_steps:
            metrics["val_loss"] = self.record.losses.val = self._val_loss()
        if self.is_main:
            self._append(METRICS_FILE, [metrics])
            self.tracker.log(metrics)
            self.progress.update(metrics)

    def _note(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Keep what is averaged over the steps from one logged line to the next."""
        t, values = self.training, {"train_loss": loss}
        if t.extra_loss is not None:
            values["extra_loss"] = t.extra_loss
        if t.config.optim.grad_clip is not None:
            values["clipped_frac"] = (grad_norm > t.config.optim.grad_clip).float()
        for name, value in values.items():
            self.pending.setdefault(name, []).append(value)

    def _measure(self, grad_norm: Tensor, lr: float) -> dict[str, Any]:
        t = self.training
        t.count_skipped()
        means = {name: torch.stack(values).mean() for name, values in self.pending.items()}
        self.pending.clear()
        averages = self._over_processes(means | t.events.metrics(t.model))
        self.record.losses.train = averages["train_loss"]
        return {
            "step": t.step,
            "tokens": t.config.tokens_after(t.step),
            **averages,
            "lr": lr,
            "grad_norm": finite(grad_norm.item()),
            "skipped_steps": t.skipped_steps,
            "train_seconds": round(self.clock.seconds, 3),
            "tokens_per_second": self._tokens_per_second(),
        }

    def _over_processes(self, figures: dict[str, Tensor]) -> dict[str, float | None]:
        """Return figures as numbers, each the mean over the processes."""
        device = self.training.device
        stacked = torch.stack([value.detach().float().to(device) for value in figures.values()])
        means = self.training.world.mean(stacked).tolist()
        return {name: finite(value) for name, value in zip(figures, means, strict=True)}

    def _val_loss(self) -> float | None:
        with self.clock.paused():
            losses = evaluate(self.training, self.val_sequences)
        return finite(float(losses.mean(dtype=np.float64)))

    def _sample(self) -> None:
        t, config = self.training, self.training.config
        with self.clock.paused(), evaluated_weights(t) as model:
            rows = []
            tokens = config.tokens_after(t.step)
            for i, prompt in enumerate(config.sample.prompts):
                stream = generator(config.seeds.loop, "sample", t.step, i)
                text = complete(model, self.encoding, prompt, config.sample, stream)
                row = {"step": t.step, "tokens": tokens, "prompt": prompt, "completion": text}
                rows.append(row)
            self._append(SAMPLES_FILE, rows)

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.lock.check()
        append_json_lines(self.folder / name, rows)

    def _truncate(self, name: str) -> None:
        """Drop what an interrupted try wrote after the step that this one resumes from."""
        path = self.folder / name
        if path.exists():
            self.lock.check()
            broken: list[RecordError] = []
            rows = read_json_lines(path, stepped, skip_torn=True, broken=broken)
            for error in broken:
                log.warning("%s: the line is left out", error)
            kept = [row for row in rows if row["step"] <= self.training.step]
            write_atomic(path, "".join(as_json(row) + "\n" for row in kept))


def fill_cost(record: RunRecord, training: Training, flops: StepFlops) -> None:
    """Enter what the tokens so far cost."""
    cost, hardware = record.cost, training.config.hardware
    cost.flops = flops.per_token(training.config) * record.tokens
    per_token = flops_per_token(training.model, training.config.model)
    n_devices = training.world.size
    if hardware.peak_flops and cost.tokens_per_second:
        cost.mfu = per_token * cost.tokens_per_second / (n_devices * hardware.peak_flops)
    if hardware.usd_per_hour is not None:
        cost.usd = cost.train_seconds / 3600 * hardware.usd_per_hour * n_devices
    cost.peak_memory_bytes = peak_memory(training.device)


class Stopwatch:
    """Seconds of training; stands still while something else is done."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.device = device
        self._zero = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._zero

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens in this context."""
        if self.device.type == "cuda":  # what is still queued belongs to training
            torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._zero += time.perf_counter() - start


def finite(value: float) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None
