"""A model card: what the model is, what the study found of its arm, and what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.evals.models import LoadedModel
from harness.model import count_parameters
from harness.records import RunRecord
from harness.records.cell import Cell

RESULTS_FILE = "results.json"


def model_card(loaded: LoadedModel, *, standard: bool) -> str:
    """Return the card as markdown, its metadata first."""
    header = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    header += ["tags: [llm-interventions, intervention-study]", "---", ""]
    record = loaded.record
    title = f"# {record.arm}, seed {record.seeds.init}" if record else f"# {loaded.name}"
    parts = [title, "", _use(standard=standard), _facts(loaded)]
    if record is not None:
        parts += [_interventions(record), _verdict(loaded, record), _provenance(record)]
    parts.append(_limits(loaded, standard=standard))
    return "\n".join([*header, *(part for part in parts if part)]) + "\n"


def _use(*, standard: bool) -> str:
    trust = "" if standard else ", trust_remote_code=True"
    note = "" if standard else "\nThe bundled Python file runs on your machine: read it first.\n"
    return (
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("FOLDER_OR_NAME"{trust})\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER_OR_NAME")\n'
        f"```\n{note}"
    )


def _facts(loaded: LoadedModel) -> str:
    config = loaded.model.config
    lines = [
        f"{count_parameters(loaded.model):,} parameters: {config.n_layer} layers, width "
        f"{config.n_embd}, {config.n_head} heads, context {config.block_size} tokens",
        f"Tokenizer: {loaded.encoding.name} ({config.vocab_size:,} tokens)",
        f"Weights: `{loaded.name}`, sha256 `{loaded.weights.sha256}`",
    ]
    return _listed("Model", lines)


def _interventions(record: RunRecord) -> str:
    cards = [f"**{n}**: {c.get('summary')} ({c.get('source')})" for n, c in record.cards.items()]
    changed = [f"`{key}`: {old} -> {new}" for key, (old, new) in record.changes.items()]
    return _listed("What was changed against the baseline", [*cards, *changed] or ["Nothing."])


def _verdict(loaded: LoadedModel, record: RunRecord) -> str:
    loss = record.losses.test
    lines = [f"Test loss of this run: {loss:.4f} nats per token"] if loss is not None else []
    lines.append(f"Verdict on the arm: {study_verdict(loaded, record)}")
    return _listed("What the study found", lines)


def study_verdict(loaded: LoadedModel, record: RunRecord) -> str:
    """Return what the study's ``results.json`` says of the arm, in its own words."""
    if record.arm == "baseline":
        return "it is the baseline that the others are compared with"
    file = _study(loaded) / RESULTS_FILE
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["table"]
        row = next(row for row in rows if row["arm"] == record.arm)
    except (OSError, ValueError, KeyError, StopIteration):
        return f"none was written yet (python -m analysis {_study(loaded).name})"
    low, high = row.get("ci_low"), row.get("ci_high")
    ends = f" [{low:+.4f}, {high:+.4f}]" if None not in (low, high) else ""
    return f"{row['verdict']} (delta {row['delta']:+.4f}{ends} nats per token, n = {row['n']})"


def _study(loaded: LoadedModel) -> Path:
    return Cell(loaded.weights.cell or Path()).study.folder


def _provenance(record: RunRecord) -> str:
    p, seeds = record.provenance, record.seeds
    packages = ", ".join(f"{name} {version}" for name, version in p.packages.items())
    return _listed(
        "Provenance",
        [
            f"Study {record.study}, cell {record.cell}, step {record.step:,} of "
            f"{record.n_steps:,} ({record.tokens:,} tokens)",
            f"Seeds: init {seeds.init}, data {seeds.data}, loop {seeds.loop}",
            f"Corpus sha256 `{p.dataset_sha256}`, test set `{p.test_set_sha256}`",
            f"Code {p.git_sha or 'of no commit'}{' with uncommitted changes' * bool(p.git_dirty)}",
            f"{p.device}; {packages}",
        ],
    )


def _limits(loaded: LoadedModel, *, standard: bool) -> str:
    lines = [
        "Trained to compare recipes, not to be used: it says false and offensive things.",
        "One run of one seed: its loss differs from its arm's mean by the noise of the study.",
        f"It sees {loaded.block_size} tokens at once.",
    ]
    if not standard:
        lines.append("Generation recomputes the whole context for each token: it has no cache.")
    return _listed("Limits", lines)


def _listed(title: str, lines: list[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines), ""])
