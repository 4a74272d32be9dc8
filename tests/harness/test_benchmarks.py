"""Multiple-choice and last-word tasks: log-likelihoods against known answers, and what is kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch

from harness.config import ConfigError
from harness.evals.benchmarks.items import BUNDLED, read_items
from harness.evals.benchmarks.run import run_task
from harness.evals.benchmarks.scoring import score
from harness.evals.models import LoadedModel, load
from harness.model import build
from harness.records.benchmarks import ItemScore, read_task, task_files
from harness.records.reading import RecordError

PROMPTS = [("Return the", " list."), ("", "A file"), ("It is ", "so"), ("x" * 40, " end")]


@pytest.fixture(scope="module")
def model(gpt2_folder: Path) -> LoadedModel:
    return load(f"hf:{gpt2_folder}", "cpu")


def likelihood(logits_V: torch.Tensor, token: int) -> float:
    return float(logits_V[token] - logits_V.logsumexp(-1))


def test_a_uniform_model_gives_each_token_one_over_its_vocabulary(model: LoadedModel) -> None:
    flat = build(model.model.config).eval()
    with torch.no_grad():
        flat.head.weight.zero_()
    uniform = replace(model, model=flat)
    lengths = [1, 9, 16, 17, 100]  # of a context of 16
    for length, found in zip(
        lengths, score(uniform, [("ab", " " * n) for n in lengths]), strict=True
    ):
        assert found.nats == pytest.approx(-length * np.log(257), rel=1e-6)
        assert found.cut == (2 + length - 1 > 16)


def test_a_continuation_has_the_tokens_that_it_has_behind_its_context(model: LoadedModel) -> None:
    """The context's last space belongs to it: "at" + " a" + "t" in pairs of letters, not " " first."""
    ranks = {bytes([i]): i for i in range(256)} | {b"at": 256, b" a": 257}
    pairs = tiktoken.Encoding(
        "pairs", pat_str=r" ?\p{L}+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 258}
    )
    flat = build(replace(model.model.config, vocab_size=259)).eval()
    with torch.no_grad():
        flat.head.weight.zero_()
    uniform = replace(model, model=flat, encoding=pairs)
    found = score(uniform, [("at", " at"), ("at ", "at"), ("", "at")])
    assert [s.nats / -np.log(259) for s in found] == pytest.approx([2, 2, 1])


def test_log_likelihoods_are_those_that_transformers_computes(
    model: LoadedModel, gpt2_folder: Path
) -> None:
    import transformers

    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder).eval()
    for (context, text), found in zip(PROMPTS, score(model, PROMPTS), strict=True):
        before, targets = list(context.rstrip().encode()) or [256], list(text.encode())
        if context.endswith(" "):
            targets = [32, *targets]
        ids = (before + targets)[-17:]
        with torch.no_grad():
            logits_TV = theirs(torch.tensor([ids[:-1]])).logits[0, -len(targets) :]
        nats = [likelihood(row, y) for row, y in zip(logits_TV, targets, strict=True)]
        assert found.nats == pytest.approx(sum(nats), abs=1e-5)
        assert found.greedy == (logits_TV.argmax(-1).tolist() == targets)


def test_what_is_longer_than_the_context_is_read_in_equal_pieces(model: LoadedModel) -> None:
    text = "The quick brown fox jumps over it"  # 33 tokens: three pieces of 11
    ids = [256, *text.encode()]
    expected = 0.0
    for end in (11, 22, 33):
        x = ids[max(0, end - 16) : end]
        with torch.no_grad():
            logits_TV = model.model(torch.tensor([x]))[0, -11:]
        y = ids[end - 10 : end + 1]
        expected += sum(likelihood(row, t) for row, t in zip(logits_TV, y, strict=True))
    assert score(model, [("", text)])[0].nats == pytest.approx(expected, abs=1e-4)


def test_a_score_depends_on_no_neighbour(model: LoadedModel) -> None:
    alone = [score(model, [prompt])[0] for prompt in PROMPTS]
    together = score(model, PROMPTS)
    assert [s.nats for s in together] == pytest.approx([s.nats for s in alone], abs=1e-5)


def test_the_likeliest_continuation_is_greedy_and_another_is_not(model: LoadedModel) -> None:
    with torch.no_grad():
        token = int(model.model(torch.tensor([list(b"abc")]))[0, -1, :128].argmax())
        best = int(model.model(torch.tensor([list(b"abc")]))[0, -1].argmax())
    right, wrong = score(model, [("abc", chr(token)), ("abc", chr((token + 1) % 128))])
    assert right.greedy == (token == best)
    assert not wrong.greedy
    assert right.nats > wrong.nats


def test_bundled_items_fit_the_demo_s_context_and_differ() -> None:
    for name in BUNDLED:
        items = read_items(name).items
        prompts = [prompt for item in items for prompt in item.prompts]
        assert len(items) >= 20
        assert len(set(prompts)) == len(prompts)
        assert max(len(f"{context}{text}".encode()) for context, text in prompts) <= 64
        assert all(text.startswith((" ", ".", "(", ")")) for _, text in prompts)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"context": "a"}, "choices"),
        ({"context": "a", "choices": [" b", True]}, "quote them"),
        ({"context": "a", "choices": [" b"], "answer": 1}, "allowed are 0 to 0"),
        ({"context": "a", "choices": [" b"], "right": 0}, "may have"),
    ],
)
def test_items_that_mean_nothing_are_refused_with_their_place(
    tmp_path: Path, row: dict, said: str
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"choices": [" b"]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=f"item 1: .*{said}"):
        read_items(str(file))


def test_a_continuation_that_is_no_token_is_refused(model: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="no token of its own"):
        score(model, [("a", "")])


def test_the_margin_is_to_the_best_wrong_choice() -> None:
    item = ItemScore(
        item="0", group="0", answer=1, nats=[-6.0, -4.0, -5.0], lengths=[12, 4, 5], greedy=False
    )
    assert (item.margin(), item.right()) == (1.0, True)
    assert item.margin(per_character=True) == -0.5  # -1 a character against -1/2
    assert not item.right(per_character=True)
    assert not replace(item, nats=[-4.0, -4.0, -5.0]).right()  # a tie is not right
    word = replace(item, answer=0, nats=[-3.0], lengths=[3])
    assert (word.margin(), word.right(), replace(word, greedy=True).right()) == (-3.0, False, True)


def test_answers_are_kept_with_the_hashes_of_items_and_weights(
    model: LoadedModel, tmp_path: Path
) -> None:
    done = run_task(model, "demo_choices", tmp_path)
    [file] = task_files(tmp_path)
    run, scores = read_task(file)
    assert (run, scores) == (done.run, done.scores)
    assert run.items_sha256 == read_items("demo_choices").sha256
    assert run.weights_sha256 == model.weights.sha256
    assert (run.in_study, run.n_items, run.n_cut) == (False, 44, 44)
    assert scores[0].group == scores[1].group == "letters of return"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RecordError, match="43 of 44 items"):
        read_task(file)


def test_the_command_asks_all_cells_of_a_study_and_refuses_what_is_no_task(
    command, study: Path
) -> None:
    own = study.parent / "own.yaml"
    own.write_text("- {context: 'One', choices: [' two', ' owt', ' too'], answer: 0}\n")
    done = command("harness.evaluate", str(study), "--tasks", f"demo_words,{own}")
    assert done.returncode == 0, done.stderr
    assert "demo_words: 0 of 24 last words right" in done.stdout
    runs = [read_task(file)[0] for file in task_files(study)]
    assert [(run.task, run.in_study) for run in runs] == [("demo_words", True), ("own", True)] * 2
    assert len({run.cell for run in runs}) == 2
    with pytest.raises(ConfigError, match=r"--tasks none.yaml: No such file"):
        read_items("none.yaml")
