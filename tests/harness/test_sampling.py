"""Text of trained models: greedy, drawn, batched, over the saved steps of a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.config import ConfigError
from harness.data.tokens import get_tokenizer
from harness.evals.ladder import ladder
from harness.evals.models import LoadedModel, load
from harness.evals.sampling import Sampling, complete_all, draw
from harness.evaluation import complete
from harness.sample import main, shown
from tests.configs import load as load_config


@pytest.fixture
def folder(tiny: list[str]) -> Path:
    folder = freeze(load_config([*tiny, "checkpoint.n_weights=2"]))
    cell.run(folder)
    return folder


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load(str(folder), "cpu")


def test_temperature_zero_follows_the_likeliest_token(loaded: LoadedModel) -> None:
    done = complete_all(loaded, ["The cat"], Sampling(tokens=30, temperature=0))[0]
    ids = list(b"The cat")
    for _ in range(done.n_tokens):  # the context is 16 bytes
        ids.append(int(loaded.model(torch.tensor([ids[-16:]]))[0, -1].argmax()))
    assert bytes(ids[7:]).decode(errors="replace") == done.text


def test_a_prompt_is_continued_alike_alone_and_in_a_batch(loaded: LoadedModel) -> None:
    how = Sampling(tokens=12, top_k=20, top_p=0.9, seed=3)
    together = complete_all(loaded, ["A", "A much longer prompt than the context", ""], how)
    one_by_one = complete_all(loaded, [t.prompt for t in together], how, batch_size=1)
    assert together == one_by_one


def test_top_p_and_top_k_leave_the_likeliest_tokens() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    stream = torch.Generator().manual_seed(0)
    drawn = {draw(logits, Sampling(top_p=0.6), stream) for _ in range(100)}
    assert drawn == {0, 1}
    assert {draw(logits, Sampling(top_k=1), stream) for _ in range(20)} == {0}
    with pytest.raises(ConfigError, match="top_p=0"):
        Sampling(top_p=0)


def test_samples_along_training_have_no_dropout_and_keep_to_the_likeliest(make_training) -> None:
    training = make_training(["model.dropout=0.5", "sample.tokens=12"])
    model, encoding = training.model.train(), get_tokenizer(training.config.data.tokenizer)

    def text(seed: int, **settings: object) -> str:
        how = replace(training.config.sample, **settings)
        return complete(model, encoding, "The cat", how, torch.Generator().manual_seed(seed))

    assert text(0, top_k=1) == text(1, top_k=1)  # nothing is left to chance
    assert text(0, top_k=50) == text(0, top_k=50) != text(1, top_k=50)
    assert text(0, top_k=2) != text(0, top_k=50)
    assert model.training


def test_a_ladder_has_a_rung_for_every_saved_step(folder: Path) -> None:
    rungs = list(ladder(str(folder), "def ", Sampling(tokens=5), "cpu"))
    assert [(rung.step, rung.tokens) for rung in rungs] == [(5, 1280), (10, 2560)]
    half = complete_all(load(f"{folder}@5", "cpu"), ["def "], Sampling(tokens=5))[0]
    assert rungs[0].completion == half.text


def test_a_chat_goes_on_from_all_that_was_said(folder, loaded, monkeypatch, capsys) -> None:
    said = iter(["The cat", "and the dog"])

    def asked(prompt: str) -> str:
        if (line := next(said, None)) is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", asked)
    options = ["--chat", "--tokens=6", "--temperature=0", "--device=cpu"]
    monkeypatch.setattr("sys.argv", ["sample", str(folder), *options])
    main()
    how, text = Sampling(tokens=6, temperature=0), "The cat"
    printed = capsys.readouterr().out
    first = complete_all(loaded, [text], how)[0].text
    second = complete_all(loaded, [f"{text}{first}\nand the dog"], how)[0].text
    assert printed.endswith(f"{shown(first)}\n{shown(second)}\n")


def test_the_command_prints_what_cannot_steer_a_terminal(command, started, folder: Path) -> None:
    done = command("harness.sample", str(folder), "--prompt", "\x1b[31mred", "--tokens", "3")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith(r"\x1b[31mred")
    kept = command("harness.sample", str(folder), "--ladder", "--write", "--prompt", "own prompt")
    assert kept.stdout.count("step ") >= 2
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["prompt"] == "own prompt"] == [5, 10]
    assert started("harness.sample", "nothing").returncode == 2
