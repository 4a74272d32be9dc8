"""Saved states: what is written, what is kept, what is read again, and what is said of the rest."""

import os
import shutil
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from harness.config import CheckpointConfig, ConfigError
from harness.engine import checkpoint
from harness.engine.checkpoint import (
    check_readable,
    check_room,
    contents,
    delete_all,
    load_newest,
    save,
    save_weights,
    set_aside,
)


def names(cell: Path, folder: str = "checkpoints") -> list[str]:
    return sorted(path.name for path in (cell / folder).iterdir())


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_states_are_kept_and_the_newest_is_read(tmp_path, keep: int) -> None:
    for step in (2, 10, 5):
        path = save(tmp_path, step, {"step": step, "x": torch.arange(step)}, keep)
    assert path == tmp_path / "checkpoints" / "step_000000005.pt"
    assert names(tmp_path) == ["step_000000005.pt", "step_000000010.pt"][-keep:]
    for other in ("step_x.pt", "step_000000099.pt.bak", "step_000000099.partial"):
        (tmp_path / "checkpoints" / other).write_text("of another program")
    state, complaints = load_newest(tmp_path)
    assert complaints == []
    assert state.pop("x").tolist() == list(range(10))
    newest = tmp_path / "checkpoints" / "step_000000010.pt"
    assert state == {"step": 10, "cell": tmp_path.name, "file": newest}
    set_aside(newest)
    assert "step_000000010.unusable" in names(tmp_path)
    older, _ = load_newest(tmp_path)
    assert older and older["step"] == 5 if keep == 2 else older is None
    delete_all(tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    delete_all(tmp_path)
    assert load_newest(tmp_path) == (None, [])


class Own:
    """What a checkpoint may not bring back: it would be code."""


def test_a_state_that_cannot_be_read_is_told_with_what_serves_instead(
    tmp_path, monkeypatch
) -> None:
    sound = {"step": 1}
    for step in range(1, 6):
        save(tmp_path, step, sound, keep=9)
    files = [tmp_path / "checkpoints" / f"step_00000000{step}.pt" for step in range(6)]
    torch.save({"cell": "other"}, files[2])
    torch.save({"cell": tmp_path.name, "own": Own()}, files[3])
    content = bytearray(files[4].read_bytes())
    content[content.index(b"step") + 6] ^= 1
    files[4].write_bytes(content)
    files[5].write_bytes(b"")
    state, complaints = load_newest(tmp_path)
    assert (state["step"], state["file"]) == (1, files[1])
    assert complaints[0] == (
        "step_000000005.pt cannot be read (File is not a zip file): "
        "using step_000000004.pt, the one before it"
    )
    assert complaints[1] == (
        "step_000000004.pt cannot be read (archive/data.pkl is damaged): "
        "using step_000000003.pt, the one before it"
    )
    assert complaints[2].startswith("step_000000003.pt cannot be read (Weights only load failed.")
    assert "\n" not in "".join(complaints)
    assert complaints[3] == (
        "step_000000002.pt cannot be read (it is of cell other): "
        "using step_000000001.pt, the one before it"
    )
    assert len(complaints) == 4

    def nothing(*_: object, **__: object) -> None:
        raise EOFError

    monkeypatch.setattr(torch, "load", nothing)
    state, complaints = load_newest(tmp_path)
    assert state is None
    assert complaints[-1] == "step_000000001.pt cannot be read (EOFError): starting from step 0"


def test_a_state_that_cannot_be_written_leaves_those_before_it(tmp_path, monkeypatch) -> None:
    save(tmp_path, 1, {"step": 1}, keep=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path, 2, {"step": 2}, keep=1)
    assert names(tmp_path) == ["step_000000001.pt"]


def test_weights_are_written_alone_and_whole(tmp_path) -> None:
    model = nn.Linear(3, 2)
    for step in (1, 2):
        path = save_weights(tmp_path, step, model)
    assert path == tmp_path / "weights" / "step_000000002.safetensors"
    assert names(tmp_path, "weights") == [
        "step_000000001.safetensors",
        "step_000000002.safetensors",
    ]
    found = load_file(path)
    assert found.keys() == {"weight", "bias"}
    assert torch.equal(found["weight"], model.weight)


@pytest.mark.parametrize(
    ("config", "n_cells", "n_weights"),
    # a state is the weights and two moments; one more than is kept exists while it is written
    [({"keep": 2, "every_steps": 5}, 1, 10), ({"keep": 2, "every_steps": 0}, 1, 4),
     ({"keep": 1, "every_steps": 5, "n_weights": 4}, 3, 30)],
)  # fmt: skip
def test_room_is_asked_for_to_the_byte(tmp_path, monkeypatch, config, n_cells, n_weights) -> None:
    model = nn.Sequential(nn.Linear(1000, 999), nn.Linear(2, 1).double())
    size = (4 * 999_999 + 8 * 3) * n_weights
    free = SimpleNamespace(free=size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    check_room(tmp_path, model, CheckpointConfig(**config), n_cells)
    free.free = size - 1
    with pytest.raises(ConfigError) as caught:
        check_room(tmp_path, model, CheckpointConfig(**config), n_cells)
    shown = f"{size / 10**9:.2f} GB"
    assert str(caught.value) == (
        f"checkpoints will need {shown} and {shown} are free in {tmp_path}: "
        "free some, set runs_dir, or lower checkpoint.keep or checkpoint.n_weights"
    )


def test_a_state_that_would_not_be_read_again_is_refused_by_the_part_that_holds_it() -> None:
    plain = {"a": [1, (torch.ones(2), "s")], "b": OrderedDict(c=None)}
    check_readable({"events": {"mine": plain}, "optimizer": plain})
    with pytest.raises(ConfigError) as caught:
        check_readable({"events": {"mine": {"a": [Own()]}}, "optimizer": {}})
    assert str(caught.value) == (
        f"interventions.mine.fn: its state_dict holds {Own.__module__}.Own, which a resumed run "
        "does not read: return tensors, Python's own numbers, text, lists and dictionaries"
    )
    with pytest.raises(
        ConfigError, match=r"^optim\.optimizer: its state_dict holds .*\.Own, which"
    ):
        check_readable({"events": {"mine": plain}, "optimizer": {"a": (Own(),)}})


def test_no_tensor_is_written_to_find_out_what_could_be_read() -> None:
    tensor = torch.ones(1)
    given = {
        "a": [tensor, (tensor, 1)],
        "b": OrderedDict(c=tensor),
        "d": "s",
        "e": nn.Parameter(tensor),
    }
    assert checkpoint._without_tensors(given) == {
        "a": [None, [None, 1]], "b": {"c": None}, "d": "s", "e": None
    }  # fmt: skip
    own = Own()
    assert checkpoint._without_tensors([own])[0] is own


def test_what_an_event_holds_is_told_apart_by_its_content(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    shared = [1, 2]

    def held(model: nn.Module | None = model, **attributes: object) -> dict[str, str | None]:
        return contents(SimpleNamespace(**attributes), model)

    one = held(
        number=1, tensor=torch.ones(2), both=[shared, shared], module=nn.Linear(1, 1, bias=False)
    )
    assert len(set(one.values())) == 4
    assert all(len(value) == 64 for value in one.values())
    assert held(both=[[1, 2], [1, 2]])["both"] == one["both"]
    assert held(tensor=torch.ones(2))["tensor"] == held(None, tensor=torch.ones(2))["tensor"]
    assert held(tensor=torch.zeros(2))["tensor"] != one["tensor"]
    other = nn.Linear(1, 1)
    before = held(module=other)["module"]
    other.weight.data += 1
    assert held(module=other)["module"] not in (before, None)
    of_training = {"function": lambda: None, "whole": model, "part": model[0], "weight": [model[0].weight],
                   "buffer": model[1].running_mean, "optimizer": torch.optim.SGD(model.parameters())}  # fmt: skip
    assert held(**of_training) == dict.fromkeys(of_training)
    without = held(None, weight=model[0].weight, optimizer=of_training["optimizer"])
    assert (without["weight"] is None, without["optimizer"]) == (False, None)
    assert contents(3, None) == {}


def test_a_state_is_whole_on_the_disk_before_the_older_ones_go(tmp_path, monkeypatch) -> None:
    save(tmp_path, 1, {"step": 1}, keep=1)
    synced: list[tuple[int, list[str]]] = []

    def fsync(file: int) -> None:
        synced.append((os.fstat(file).st_size, names(tmp_path)))

    monkeypatch.setattr(os, "fsync", fsync)
    path = save(tmp_path, 2, {"step": 2, "x": torch.ones(5000)}, keep=1)
    assert synced == [(path.stat().st_size, ["step_000000001.pt", "step_000000002.partial"])]
    assert names(tmp_path) == ["step_000000002.pt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o077, 0o600)])
def test_weights_may_be_read_by_whom_the_umask_lets(tmp_path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        weights = save_weights(tmp_path, 1, nn.Linear(1, 1))
    finally:
        os.umask(before)
    assert weights.stat().st_mode & 0o777 == mode
