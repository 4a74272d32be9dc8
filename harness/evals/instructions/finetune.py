"""One fine-tuning from its settings to its responses, with a record of its own."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.cell import provenance
from harness.config import ConfigError
from harness.engine import checkpoint
from harness.engine.randomness import weights_hash
from harness.evals.instructions.data import ANSWER_HEADER, Instructions
from harness.evals.instructions.settings import NOT_SCIENCE, Dropout, TuneConfig
from harness.evals.instructions.tune import Tuning, add_lora, data_of, tune
from harness.evals.models import LoadedModel, load_weights
from harness.evals.sampling import Sampling, complete_all
from harness.hub.weights import Weights
from harness.records.files import canonical_hash, flocked, now, plain, write_atomic
from harness.records.responses import Response, write_responses

log = logging.getLogger(__name__)
RECORD_FILE = "finetune.json"
RESPONSES_FILE = "responses.jsonl"
DROPOUT_ON = 0.1


@dataclass(frozen=True, slots=True)
class Done:
    """A finished fine-tuning."""

    folder: Path
    record: dict[str, Any]

    @property
    def responses(self) -> Path:
        """The file to judge."""
        return self.folder / RESPONSES_FILE

    def describe(self) -> str:
        """Return one line on how it ended."""
        r = self.record
        rose = "then it rose" if r["stopped"] else "still falling at max_epochs"
        return (
            f"{r['model']}: validation loss {min(r['val_losses']):.4f} after {r['best_epoch']} "
            f"epochs ({rose}); {r['n_responses']} responses, {r['n_truncated']} truncated; "
            f"{self.responses}"
        )


def finetune(weights: Weights, config: TuneConfig, data: Instructions, seed: int) -> Done:
    """Fine-tune with one seed; a finished one is not done again, a killed one goes on.

    `ConfigError` where another process is at it, or the settings do not fit the model.
    """
    name = canonical_hash([weights.sha256, _science(config), data.sha256])
    model = weights.name.replace(":", "_").strip("/")
    folder = Path(config.out) / model / f"{name}-s{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    busy = ConfigError(f"{folder}: another process is at this fine-tuning")
    with flocked(folder / ".lock", busy=busy):
        file = folder / RECORD_FILE
        if file.exists():
            return Done(folder, json.loads(file.read_text(encoding="utf-8")))
        return _run(weights, config, data, seed, folder)


def _run(weights: Weights, config: TuneConfig, data: Instructions, seed: int, folder: Path) -> Done:
    started = now()
    loaded = load_weights(_with_dropout(weights, config.dropout), config.device)
    if config.lora_rank:
        add_lora(loaded.model, config, seed)
    train, val = data_of(data, loaded.encoding, config, loaded.block_size)
    tuning = Tuning(
        model=loaded.model, config=config, seed=seed, train=train, val=val,
        end=loaded.encoding.eot_token,
    )  # fmt: skip
    tune(tuning, folder)
    rows = _respond(loaded, tuning, data)
    record = _record(loaded, tuning, data, rows) | {"started": started, "finished": now()}
    responses = folder / RESPONSES_FILE
    responses.unlink(missing_ok=True)  # of a process that was killed while it wrote
    write_responses(responses, rows)
    write_atomic(folder / RECORD_FILE, json.dumps(record, indent=1) + "\n")
    checkpoint.delete_all(folder)
    return Done(folder, record)


def _with_dropout(weights: Weights, dropout: Dropout) -> Weights:
    if dropout is Dropout.model:
        return weights
    p = DROPOUT_ON if dropout is Dropout.on else 0.0
    return replace(weights, config=replace(weights.config, dropout=p))


def _respond(loaded: LoadedModel, tuning: Tuning, data: Instructions) -> list[Response]:
    """Answer the held-out instructions greedily.

    As published, the prompt stops before the answer's header, which is deleted from the answer.
    """
    config, record = tuning.config, loaded.record
    arm = record.arm if record else loaded.name
    cell = record.cell if record else None
    prompts = [example.prompt(config.template) for example in data.test]
    how = Sampling(tokens=config.answer_tokens, temperature=0.0)
    settings = {**_science(config), "temperature": how.temperature}
    source = {**loaded.provenance(), "data": data.name, "data_sha256": data.sha256}
    source |= {"packages": provenance.versions(), "git_sha": provenance.code_state().sha}
    return [
        Response(
            model=_model_name(loaded, tuning.seed),
            arm=arm,
            cell=cell,
            train_seed=record.seeds.init if record else None,
            seed=tuning.seed,
            instruction_id=example.id,
            instruction=example.instruction,
            input=example.input,
            reference=example.output,
            response=done.text.replace(ANSWER_HEADER.strip(), "").strip(),
            truncated=not done.ended,
            settings=settings,
            provenance=source,
        )
        for example, done in zip(data.test, complete_all(loaded, prompts, how), strict=True)
    ]


def _record(
    loaded: LoadedModel, tuning: Tuning, data: Instructions, rows: list[Response]
) -> dict[str, Any]:
    longest = min(tuning.config.max_length, loaded.block_size)
    n_full = sum(len(tokens.ids) == longest + 1 for tokens in tuning.train)
    return {
        "schema_version": 1,
        "model": _model_name(loaded, tuning.seed),
        "seed": tuning.seed,
        "settings": _science(tuning.config),
        "epochs": tuning.epoch,
        "best_epoch": tuning.epoch - tuning.stopped,
        "stopped": tuning.stopped,
        "train_losses": tuning.train_losses,
        "val_losses": tuning.val_losses,
        "n_train": len(data.train),
        "n_cut": n_full,  # what fills the context may have been cut
        "n_responses": len(rows),
        "n_truncated": sum(row.truncated for row in rows),
        "final_weights": weights_hash(tuning.model),
        "provenance": rows[0].provenance,
    }


def _science(config: TuneConfig) -> dict[str, Any]:
    """Return the settings that can change a number."""
    return {k: plain(v) for k, v in asdict(config).items() if k not in NOT_SCIENCE}


def _model_name(loaded: LoadedModel, seed: int) -> str:
    return f"{loaded.name}/s{seed}"
