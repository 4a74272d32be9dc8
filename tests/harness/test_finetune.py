"""Fine-tuning on instructions: the published recipe, its options, resume, and what it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config import ConfigError, Tokenizer
from harness.data.tokens import get_tokenizer
from harness.evals.instructions import tune as tune_module
from harness.evals.instructions.data import Example, read_instructions
from harness.evals.instructions.finetune import RECORD_FILE, finetune
from harness.evals.instructions.settings import Template, TuneConfig, parse
from harness.evals.instructions.tune import IGNORED, Tokens, batch_loss, collate, encode
from harness.finetune import main
from harness.hub.weights import find_weights
from harness.records.responses import read_responses

FAST = [
    "template=short", "lr=1e-3", "max_epochs=3", "answer_tokens=4", "batch_size=4",
    "test_frac=0.1", "val_frac=0.1", "device=cpu", "max_length=64",
]  # fmt: skip


@pytest.fixture(scope="module")
def cell(trained: Path) -> str:
    return str(next(path.parent for path in trained.glob("baseline/*/record.json")))


def tuned(cell: str, out: Path, *more: str, seed: int = 0):
    config = parse([*FAST, f"out={out}", *more])
    return finetune(find_weights(cell), config, read_instructions(config), seed)


def test_the_words_are_those_of_the_published_study() -> None:
    example = Example("0", "Do it.", "this", "done")
    assert example.prompt(Template.alpaca) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nDo it.\n\n### Input\nthis"
    )
    assert replace(example, input="").prompt(Template.short) == "### Instruction:\nDo it."


def test_the_published_data_are_split_into_935_110_and_55_in_file_order(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"instruction": f"{i}", "output": "x"} for i in range(1100)]))
    found = read_instructions(TuneConfig(data=str(path)))
    assert [len(part) for part in (found.train, found.test, found.val)] == [935, 110, 55]
    assert [found.test[0].instruction, found.val[0].instruction] == ["935", "1045"]


def test_the_bundled_instructions_are_sixty_with_references() -> None:
    found = read_instructions(TuneConfig())
    examples = [*found.train, *found.test, *found.val]
    assert len(examples) == 60
    assert len({(e.instruction, e.input) for e in examples}) == 60
    assert all(e.output for e in examples)


def test_padding_is_no_target_but_the_first_end_of_text_is() -> None:
    x, y = collate([Tokens([1, 2, 3, 9], 2), Tokens([4, 9], 1)], end=9, masked=False)
    assert x.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert y.tolist() == [[2, 3, 9], [9, IGNORED, IGNORED]]
    _, masked = collate([Tokens([1, 2, 3, 9], 2), Tokens([4, 9], 1)], end=9, masked=True)
    assert masked.tolist() == [[IGNORED, 3, 9], [9, IGNORED, IGNORED]]


def test_long_examples_are_cut_to_the_context() -> None:
    encoding = get_tokenizer(Tokenizer.bytes)
    config = TuneConfig(template=Template.short)
    [tokens] = encode([Example("0", "x" * 100, "", "y")], encoding, config, longest=32)
    assert len(tokens.ids) == 33


def test_a_fine_tuning_lowers_the_loss_and_answers_the_held_out_set(
    cell: str, tmp_path: Path
) -> None:
    done = tuned(cell, tmp_path)
    assert done.record["val_losses"][1] < done.record["val_losses"][0]
    rows = read_responses(done.responses)
    assert len(rows) == 6
    assert {row.arm for row in rows} == {"baseline"}
    assert {row.train_seed for row in rows} == {0}
    assert done.record["n_truncated"] == sum(row.truncated for row in rows)
    assert rows[0].provenance["weights_sha256"]
    assert rows[0].settings["lr"] == 1e-3
    assert not (done.folder / "checkpoints").exists()
    assert tuned(cell, tmp_path).record == done.record  # read, not done again


def test_it_stops_at_the_first_rise_with_the_weights_before_it(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, seen = iter([4.0, 3.0, 2.0, 2.5, 1.0]), []

    def scripted(tuning: tune_module.Tuning) -> float:
        seen.append({n: p.detach().clone() for n, p in tuning.trained().items()})
        return next(losses)

    left = {}
    monkeypatch.setattr(tune_module, "mean_loss", scripted)
    monkeypatch.setattr(
        "harness.evals.instructions.finetune.weights_hash",
        lambda model: left.update(model.named_parameters()) or "",
    )
    done = tuned(cell, tmp_path, "max_epochs=9")
    assert done.record["stopped"]
    assert (done.record["epochs"], done.record["best_epoch"]) == (3, 2)
    assert all(torch.equal(left[name], value) for name, value in seen[2].items())
    assert not torch.equal(left["head.weight"], seen[3]["head.weight"])


def test_a_killed_fine_tuning_goes_on_to_the_same_weights(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(cell, tmp_path / "whole")
    save, saved = tune_module.checkpoint.save, []

    def killed(*arguments: object, **options: object) -> None:
        saved.append(save(*arguments, **options))
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tune_module.checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            tuned(cell, tmp_path / "killed")
    again = tuned(cell, tmp_path / "killed")
    names = ("final_weights", "val_losses", "train_losses")
    assert [again.record[n] for n in names] == [whole.record[n] for n in names]


def test_seeds_and_options_change_what_they_should(cell: str, tmp_path: Path) -> None:
    plain = tuned(cell, tmp_path)
    other = tuned(cell, tmp_path, seed=1)
    assert other.record["val_losses"][0] == plain.record["val_losses"][0]
    assert other.record["final_weights"] != plain.record["final_weights"]
    for option in ("dropout=off", "lr=2e-3"):
        changed = tuned(cell, tmp_path, option)
        assert changed.folder != plain.folder
        assert changed.record["final_weights"] != plain.record["final_weights"]
    assert tuned(cell, tmp_path, "dropout=model", "device=cpu").folder == plain.folder


def test_masked_prompts_that_fill_the_context_are_refused(cell: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="54 of 54 prompts fill the 16 tokens"):
        tuned(cell, tmp_path, "masked=true")


def test_adapters_alone_are_trained(cell: str, tmp_path: Path) -> None:
    seen = {}

    def spy(tuning: tune_module.Tuning, folder: Path) -> None:
        before = {n: p.detach().clone() for n, p in tuning.model.named_parameters()}
        tune_module.tune(tuning, folder)
        after = dict(tuning.model.named_parameters())
        seen.update({n: torch.equal(before[n], after[n]) for n in before})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.evals.instructions.finetune.tune", spy)
        done = tuned(cell, tmp_path, "lora_rank=2")
    adapters = {name for name in seen if "lora_" in name}
    assert adapters
    assert {name for name, same in seen.items() if not same} <= adapters
    assert not all(seen[name] for name in adapters)
    assert done.record["val_losses"][1] < done.record["val_losses"][0]


def test_a_command_line_with_a_mistake_is_refused(
    cell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong, said in {
        "lrr=1": "lrr",
        "lr=fast": "fast",
        "seeds=[1,1]": "each once",
        "batch_size=0": "must be above 0",
        "data=nothing.json": "allowed are demo, instruction_data, alpaca",
        "data=instruction_data": "curl -fLo",
        "test_frac=0.99": "leave something to train on",
    }.items():
        assert main([cell, wrong, f"out={tmp_path}"]) == 2
        assert said in capsys.readouterr().err


def test_a_damaged_example_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("- {instruction: a, output: b}\n- {instruction: a, output: 3}\n")
    with pytest.raises(ConfigError, match="example 1"):
        read_instructions(TuneConfig(data=str(path)))


def test_the_command_tunes_every_model_with_every_seed(
    cell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([cell, *FAST, f"out={tmp_path}", "seeds=[0,1]", "max_epochs=1"]) == 0
    assert len(list(tmp_path.rglob(RECORD_FILE))) == 2
    assert capsys.readouterr().out.count("responses.jsonl") == 2


def losses_of_trl(model: Any, tokens: list[Any], folder: Path) -> list[float]:
    """Train by trl on the same tokens in the same order; return the loss of every step."""
    from datasets import Dataset
    from tokenizers import Tokenizer as RawTokenizer
    from tokenizers.models import WordLevel
    from torch.utils.data import SequentialSampler
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_: object) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    rows = [
        {
            "input_ids": t.ids,
            "completion_mask": [int(i >= t.n_prompt) for i in range(len(t.ids))],
        }
        for t in tokens
    ]
    names = {chr(97 + i) if i else "<end>": i for i in range(20)} | {"<|endoftext|>": 256}
    words = PreTrainedTokenizerFast(
        tokenizer_object=RawTokenizer(WordLevel(names, unk_token="<end>")),
        eos_token="<|endoftext|>", pad_token="<|endoftext|>",
    )  # fmt: skip
    trainer = InOrder(
        model=model,
        processing_class=words,
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            output_dir=str(folder), per_device_train_batch_size=4, learning_rate=1e-2,
            lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=0.0, num_train_epochs=1,
            logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
            max_length=65, completion_only_loss=True, disable_tqdm=True,
        ),
    )  # fmt: skip
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_losses_are_those_of_trl_on_the_same_batches(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from harness.evals.models import load

    torch.manual_seed(0)
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64, "vocab_size": 257}
    drop = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    theirs = GPT2LMHeadModel(GPT2Config(**shape, **drop, bos_token_id=256, eos_token_id=256))
    theirs.save_pretrained(tmp_path / "model")
    ours = load(str(tmp_path / "model"), "cpu").model.train()
    examples = [Example(str(i), "a" * i, "", "b" * (12 - i)) for i in range(12)]
    config = TuneConfig(template=Template.short)
    tokens = encode(examples, get_tokenizer(Tokenizer.bytes), config, longest=64)

    expected = losses_of_trl(theirs, tokens, tmp_path / "trl")
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-2, weight_decay=0.0)
    found = []
    for first in range(0, 12, 4):
        loss = batch_loss(ours, *collate(tokens[first : first + 4], 256, masked=True))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()))
    assert found == pytest.approx(expected, abs=2e-5)
    assert len(found) == 3
