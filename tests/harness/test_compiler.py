"""What the compiler keeps for the cells of a study, and what happens when that is broken."""

import os

import pytest
import torch

from harness.engine import compiler
from tests.harness.cells import run


@pytest.fixture(autouse=True)
def own_environment(monkeypatch) -> None:
    monkeypatch.setenv(compiler.CACHE, "")  # so that it is restored
    monkeypatch.delenv(compiler.CACHE)


def failing_once(monkeypatch, error: Exception) -> list[str]:
    """Let the first compilation fail; return the caches of all of them."""
    caches = []

    def compile_model(model, **_):
        caches.append(os.environ[compiler.CACHE])
        if len(caches) == 1:
            raise error
        return model

    monkeypatch.setattr(torch, "compile", compile_model)
    return caches


def test_a_broken_cache_is_left_for_an_empty_one(tiny, monkeypatch, tmp_path) -> None:
    caches = failing_once(monkeypatch, OSError("x.so: file too short"))
    _, expected = run([*tiny, "study_name=undisturbed"])
    folder, record = run([*tiny, "hardware.compile=true"])
    assert record.fingerprints.final_weights == expected.fingerprints.final_weights
    kept = tmp_path / "runs" / "adhoc" / ".compiled"
    assert caches == [str(kept / "0"), str(kept / "1")]
    assert "trying with an empty one" in (folder / "log.txt").read_text()
    _, record = run([*tiny, "hardware.compile=true", "seed=1"])
    assert caches[2] == str(kept / "1")


def test_another_error_is_not_tried_again(tiny, monkeypatch) -> None:
    caches = failing_once(monkeypatch, RuntimeError("shapes differ"))
    _, record = run([*tiny, "hardware.compile=true"])
    assert "shapes differ" in record.error
    assert len(caches) == 1


def test_a_place_of_ones_own_stays(tiny, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(compiler.CACHE, str(tmp_path / "mine"))
    caches = failing_once(monkeypatch, OSError("x.so: file too short"))
    _, record = run([*tiny, "hardware.compile=true"])
    assert "file too short" in record.error
    assert caches == [str(tmp_path / "mine")]
