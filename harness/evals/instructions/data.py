"""Instructions with reference answers: where they come from, how they are split and worded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import ConfigError
from harness.evals.instructions.settings import Template, TuneConfig
from harness.evals.rows import read_rows
from harness.records.files import canonical_hash

DEMO_FILE = Path(__file__).with_name("demo.yaml")
PUBLISHED_FILE = Path("data/instruction-data.json")
PUBLISHED_URL = (
    "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch07/01_main-chapter-code/"
    "instruction-data.json"
)
ALPACA = "tatsu-lab/alpaca"
PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
)
ANSWER_HEADER = "\n\n### Response:\n"


@dataclass(frozen=True, slots=True)
class Example:
    """One instruction with its reference answer."""

    id: str
    instruction: str
    input: str
    output: str

    def prompt(self, template: Template) -> str:
        """Return what stands before the answer's header; "### Input" has no colon, as published."""
        before = PREAMBLE if template is Template.alpaca else ""
        context = f"\n\n### Input\n{self.input}" if self.input else ""
        return f"{before}### Instruction:\n{self.instruction}{context}"


@dataclass(frozen=True, slots=True)
class Instructions:
    """A data set in its three parts, in file order."""

    name: str
    train: list[Example]
    test: list[Example]
    val: list[Example]
    sha256: str
    """Of all examples, the first 12 digits."""


def read_instructions(config: TuneConfig) -> Instructions:
    """Read and split the data that the settings name; `ConfigError` says how to get them."""
    rows = _rows(config.data)
    examples = [_example(config.data, i, row) for i, row in enumerate(rows)]
    n = len(examples)
    n_train = int(n * (1 - config.test_frac - config.val_frac) + 1e-9)
    n_test = round(n * config.test_frac)
    parts = examples[:n_train], examples[n_train : n_train + n_test], examples[n_train + n_test :]
    if not all(parts):
        raise ConfigError(
            f"{config.data} has {n} examples, {', '.join(str(len(p)) for p in parts)} to train, "
            "test and validate on: none may be 0; set test_frac and val_frac"
        )
    if n_train < config.batch_size:
        raise ConfigError(
            f"{n_train} examples to train on do not fill a batch of {config.batch_size}: "
            "set batch_size"
        )
    texts = [[e.instruction, e.input, e.output] for e in examples]
    return Instructions(config.data, *parts, sha256=canonical_hash(texts))


def _rows(name: str) -> list[Any]:
    if name == "alpaca":
        return _alpaca()
    path = {"demo": DEMO_FILE, "instruction_data": PUBLISHED_FILE}.get(name, Path(name))
    if name == "instruction_data" and not path.exists():
        raise ConfigError(
            f"{path} is not there; get it with: mkdir -p {path.parent} && "
            f"curl -fLo {path} {PUBLISHED_URL}"
        )
    allowed = "allowed are demo, instruction_data, alpaca, or a JSON, JSON-lines or YAML file"
    rows = read_rows(path, f"data={name}", allowed)
    if not isinstance(rows, list):
        raise ConfigError(f"{path} is no list of instructions")
    return rows


def _alpaca() -> list[Any]:
    from datasets import load_dataset

    try:
        return list(load_dataset(ALPACA, split="train"))
    except Exception as error:  # of several libraries, all mean that it is not there
        raise ConfigError(
            f"cannot get {ALPACA} from the hub ({type(error).__name__}); with network access: "
            f"hf download --repo-type dataset {ALPACA}, then run this again"
        ) from error


def _example(name: str, index: int, row: Any) -> Example:
    try:
        texts = [row["instruction"], row.get("input") or "", row["output"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{name}, example {index}: it needs the texts instruction, output and perhaps input"
        ) from error
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{name}, example {index}: {texts} are not all texts (quote them)")
    return Example(f"{index:05}", *texts)
