"""Our models under the real lm_eval, offline. Left out where it is not installed, as in `make test`:
it takes python-dateutil back. `make test-lm-eval` makes an environment for it.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.config import ConfigError
from harness.evals.benchmarks.items import read_items
from harness.evals.benchmarks.run import Done, run_task
from harness.evals.models import load

pytestmark = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm_eval is not installed: make test-lm-eval"
)


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled items as lm_eval's task files, the right choice first and last in turn."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    choices = [
        {"context": item.prompts[0][0], "choices": [c[1:] for _, c in item.prompts][:: 1 - 2 * (i % 2)], "label": i % 2}
        for i, item in enumerate(read_items("demo_choices").items)
        if all(c.startswith(" ") for _, c in item.prompts)
    ]  # fmt: skip
    words = [
        {"context": item.prompts[0][0], "word": item.prompts[0][1]}
        for item in read_items("demo_words").items
    ]
    kinds = {
        "two": (choices, "multiple_choice", {"doc_to_choice": "{{choices}}", "doc_to_target": "{{label}}"}),
        "last": (words, "loglikelihood", {"doc_to_target": "{{word}}"}),
        "write": (words, "generate_until", {"doc_to_target": "{{word}}"}),
    }  # fmt: skip
    for name, (rows, kind, more) in kinds.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {
            "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test", "output_type": kind, "doc_to_text": "{{context}}", "metric_list": [{"metric": "acc"}], **more,
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(json.dumps(task))
    (folder / "both.yaml").write_text(json.dumps({"group": "both", "task": ["two", "last"]}))
    return folder


@pytest.fixture
def ask(gpt2_folder: Path, tasks: Path, tmp_path: Path):
    model = load(f"hf:{gpt2_folder}", "cpu")

    def run(name: str, folder: Path | None = tasks) -> Done:
        return run_task(model, name, tmp_path / "study", task_files=folder)

    return run


def test_it_asks_what_the_plain_scorer_asks(ask) -> None:
    plain = {item.nats[item.answer] for item in ask("demo_choices", None).scores}
    two = ask("two")
    assert {item.nats[item.answer] for item in two.scores} <= plain
    right = sum(item.right() for item in two.scores) / len(two.scores)
    assert two.run.metrics["two/acc"] == pytest.approx(right)
    assert {item.answer for item in two.scores} == {0, 1}
    words = [item.nats for item in ask("demo_words", None).scores]
    assert [item.nats for item in ask("last").scores] == words
    assert two.run.source.startswith("lm_eval ")


def test_the_tasks_of_a_group_are_clusters(ask) -> None:
    both = ask("both")
    assert {item.group for item in both.scores} == {"two", "last"}
    assert len({item.group for item in ask("two").scores}) == len(ask("two").scores)


def test_what_cannot_be_asked_is_said(ask) -> None:
    with pytest.raises(ConfigError, match="no task is called twoo; there are two"):
        ask("twoo")
    with pytest.raises(ConfigError, match="generate_until"):
        ask("write")
