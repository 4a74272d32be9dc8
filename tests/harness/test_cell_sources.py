"""A cell's own code: found without being run, part of its identity, kept with it."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cell import provenance
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.records import read_record
from harness.records.sources import closure
from tests.configs import load
from tests.harness.cells import run


def test_uncommitted_changes_are_kept_as_a_patch(tmp_path, monkeypatch) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (repository / "a.py").write_text("x = 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    monkeypatch.setattr(provenance, "_SOURCE", repository)
    monkeypatch.setattr(provenance, "__file__", str(repository / "a.py"))

    cell_folder = tmp_path / "study" / "arm" / "cell"
    cell_folder.mkdir(parents=True)

    def collect() -> provenance.Provenance:
        provenance.code_state.cache_clear()
        return provenance.collect(cell_folder, device="cpu", config_sha256="")

    clean = collect()
    assert (clean.git_dirty, clean.dirty_patch) == (False, None)
    assert len(clean.git_sha) == 40
    (repository / "a.py").write_text("x = 2\n")
    (repository / "conf").mkdir()
    (repository / "conf" / "idée.yaml").write_text("y: 3\n")
    (repository / "results" / "run").mkdir(parents=True)
    (repository / "results" / "run" / "config.yaml").write_text("z: 4\n")
    dirty = collect()
    assert dirty.git_dirty
    patch = (cell_folder / dirty.dirty_patch).read_text()
    assert "+x = 2" in patch
    assert "y: 3" not in patch  # what git does not know is named and hashed, whatever it holds
    assert list(dirty.untracked) == ["conf/idée.yaml"]
    assert collect().dirty_patch == dirty.dirty_patch
    assert len(list((tmp_path / "study" / "patches").iterdir())) == 1
    monkeypatch.setattr(provenance, "MOST_BYTES", 10)
    assert collect().dirty_patch is None
    provenance.code_state.cache_clear()


def test_without_a_checkout_the_files_are_the_version(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(provenance, "_SOURCE", tmp_path)
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "loop.py").write_text("x = 1\n")
    found = []
    for text in ("x = 1\n", "x = 1\n", "x = 2\n"):
        (tmp_path / "harness" / "loop.py").write_text(text)
        provenance.code_state.cache_clear()
        found.append(provenance.collect(tmp_path, device="cpu", config_sha256="").code)
    provenance.code_state.cache_clear()
    assert found[0] == found[1] != found[2]
    assert None not in found


@pytest.mark.parametrize("git", ["exec sleep 60", "echo fatal: dubious ownership >&2; exit 128"])
def test_a_git_that_hangs_or_refuses_is_a_field_of_the_record(git, tmp_path, monkeypatch) -> None:
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\n{git}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(provenance, "GIT_SECONDS", 0.2)
    provenance.code_state.cache_clear()
    found = provenance.collect(tmp_path, device="cpu", config_sha256="")
    provenance.code_state.cache_clear()
    assert found.git_error
    assert found.code == found.code_sha256


@pytest.mark.slow
def test_a_secret_on_the_command_line_is_written_nowhere(tiny, command, tmp_path) -> None:
    secret = "hunter2hunter2"
    given = [f"+hydra.job.env_set.SOME_NAME={secret}1", "tracking=wandb", "tracking.mode=offline"]
    for more in (["seed=0"], ["-m", "seed=1"]):
        done = command("harness", *tiny, *given, *more, WANDB_API_KEY=f"{secret}2")
        assert done.returncode == 0, done.stderr
        assert secret not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert any(b"SOME_NAME=***" in path.read_bytes() for path in files)


def test_editing_an_interventions_own_code_makes_another_cell(tiny, own_idea) -> None:
    folder, arm = own_idea
    module = folder / "own_idea.py"
    module.write_text("def scale(loss, logits, y, model):\n    return loss * 1.0\n")
    first = freeze(load([*tiny, *arm]))
    assert freeze(load([*tiny, *arm])) == first
    record = cell.run(first)
    assert (first / "sources" / "own_idea.py").read_text() == module.read_text()
    assert record.provenance.kept_sources == ["own_idea"]
    module.write_text("def scale(loss, logits, y, model):\n    return loss * 0.5\n")
    second = freeze(load([*tiny, *arm]))
    assert second != first
    assert cell.run(second).provenance.sources.keys() == {"own_idea.scale"}
    assert read_record(second).provenance.sources != record.provenance.sources
    del sys.modules["own_idea"]
    module.write_text("def skale(loss, logits, y, model):\n    return loss\n")
    with pytest.raises(ValueError, match=r"own_idea\.py defines no 'scale'; it has: skale"):
        freeze(load([*tiny, *arm]))
    module.unlink()
    with pytest.raises(ValueError, match=r"no module 'own_idea'; put it into"):
        freeze(load([*tiny, *arm]))


def test_the_cells_of_an_arm_share_their_version_and_its_edits_do_not(tiny, own_idea) -> None:
    folder, arm = own_idea
    versions = [run([*tiny, *arm, f"seed={seed}"])[1].version for seed in (0, 1)]
    (folder / "own_helper.py").write_text("FACTOR = 0.5\n")
    assert run([*tiny, *arm])[1].version not in {*versions, None}
    assert versions[0] == versions[1]


@pytest.mark.parametrize("edited", ["own_idea", "own_helper"])
def test_a_frozen_cell_trains_with_the_sources_it_was_frozen_with(
    tiny, own_idea, trained, edited: str, capsys
) -> None:
    folder, arm = own_idea
    frozen = freeze(load([*tiny, *arm]))
    with (folder / f"{edited}.py").open("a") as file:
        file.write("FACTOR = 0.0\n")
    assert freeze(load([*tiny, *arm])) != frozen
    importlib.import_module("own_idea")  # as an earlier cell of this process may have done
    record = cell.run(frozen)
    assert f"{edited} was edited since this cell was frozen" in capsys.readouterr().err
    assert record.provenance.sources == {"own_idea.scale": read_record(frozen).provenance.sources[
        "own_idea.scale"]}  # fmt: skip
    assert record.losses.test == pytest.approx(plain_loss(trained), abs=1e-5)  # times 1, not 0
    assert {path.name for path in (frozen / "sources").iterdir()} == {
        "own_idea.py", "own_helper.py"}  # fmt: skip


@pytest.mark.parametrize("target", ["own_package.scale", "own_package.inner.scale"])
@pytest.mark.parametrize("edited", ["__init__", "inner", "deep/__init__", "deep/part"])
def test_a_package_s_sources_are_all_that_it_imports(
    tiny, own_idea, trained, target: str, edited: str, capsys
) -> None:
    folder, arm = own_idea
    package = folder / "own_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import scale\n")
    (package / "inner.py").write_text(
        "from .deep import FACTOR\ndef scale(loss, logits, y, model):\n    return loss * FACTOR\n"
    )
    (package / "deep" / "__init__.py").write_text("from .part import FACTOR\n")
    (package / "deep" / "part.py").write_text("FACTOR = 1.0\n")
    (package / "part.py").write_text("raise RuntimeError('beside, and not imported')\n")
    overlay = folder / "conf" / "intervention" / "own.yaml"
    overlay.write_text(overlay.read_text().replace("own_idea.scale", target))
    frozen = freeze(load([*tiny, *arm]))
    assert {path.name for path in (frozen / "sources").iterdir()} == {
        "own_package.__init__.py", "own_package.inner.py", "own_package.deep.__init__.py",
        "own_package.deep.part.py"}  # fmt: skip
    with (package / f"{edited}.py").open("a") as file:
        file.write("FACTOR = 0.0\nscale = None\n")
    assert freeze(load([*tiny, *arm])) != frozen
    record = cell.run(frozen)
    assert " was edited since this cell was frozen" in capsys.readouterr().err
    assert record.losses.test == pytest.approx(plain_loss(trained), abs=1e-5)


def test_imports_are_found_from_where_a_package_and_a_module_stand(tmp_path: Path) -> None:
    texts = {
        "own": "from .a import f",
        "own.a": "from . import b\nfrom .deep import c\nimport harness.loop",
        "own.b": "",
        "own.deep": "from ..beside import d",
        "own.deep.c": "",
        "own.beside": "",
        "beside": "",
        "harness.loop": "",
    }
    for name, text in texts.items():
        package = name in ("own", "own.deep")
        file = tmp_path / name.replace(".", "/") / "__init__.py" if package else None
        file = file or tmp_path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = closure("own.a.f", lambda name: (
        next(tmp_path.glob(f"{name.replace('.', '/')}.py"), None)
        or next(tmp_path.glob(f"{name.replace('.', '/')}/__init__.py"), None)
    ))  # fmt: skip
    assert {*found} == {"own", "own.a", "own.b", "own.deep", "own.deep.c", "own.beside"}


def plain_loss(trained: Path) -> float:
    """Return the loss of the cell without the idea, which multiplies the loss by 1."""
    (file,) = trained.glob("baseline/*/record.json")
    return read_record(file).losses.test


def test_a_package_is_not_run_to_find_its_sources(tiny, own_idea) -> None:
    folder, arm = own_idea
    package = folder / "own_folder" / "own_deeper" / "own_package"  # two without __init__.py
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this was run')\n")
    (package / "idea.py").write_text("def scale(loss, logits, y, model):\n    return loss\n")
    overlay = folder / "conf" / "intervention" / "own.yaml"
    target = "own_folder.own_deeper.own_package.idea.scale"
    overlay.write_text(overlay.read_text().replace("own_idea.scale", target))
    frozen = freeze(load([*tiny, *arm]))
    assert {path.name for path in (frozen / "sources").iterdir()} == {
        f"{target.removesuffix('.idea.scale')}.__init__.py", f"{target.removesuffix('.scale')}.py"
    }  # fmt: skip
    shutil.rmtree(package)
    assert "RuntimeError: this was run" in cell.run(frozen).error  # with what it keeps


def test_the_package_around_a_folder_without_init_is_a_source_and_not_run(tiny, own_idea) -> None:
    folder, arm = own_idea
    package = folder / "own_package"
    (package / "own_deeper").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this was run')\n")
    (package / "own_deeper" / "idea.py").write_text("def scale(*_):\n    pass\n")
    overlay = folder / "conf" / "intervention" / "own.yaml"
    target = "own_package.own_deeper.idea.scale"
    overlay.write_text(overlay.read_text().replace("own_idea.scale", target))
    assert {path.name for path in (freeze(load([*tiny, *arm])) / "sources").iterdir()} == {
        "own_package.__init__.py", "own_package.own_deeper.idea.py"
    }  # fmt: skip


def test_a_source_with_a_typo_is_one_line(tiny, own_idea) -> None:
    folder, arm = own_idea
    (folder / "own_idea.py").write_text("def scale(:\n")
    with pytest.raises(ValueError, match=r"own_idea\.py, line 1: invalid syntax"):
        freeze(load([*tiny, *arm]))
    (folder / "own_idea.py").write_text("scale, other = max, min\n")
    freeze(load([*tiny, *arm]))
