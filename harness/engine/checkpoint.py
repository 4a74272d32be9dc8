"""Saved training states: written whole or not at all, the newest few kept."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.serialization import get_unsafe_globals_in_checkpoint

from harness.config import CheckpointConfig, ConfigError
from harness.engine.randomness import tensor_hash, weights_hash

FOLDER = "checkpoints"
WEIGHTS_FOLDER = "weights"
_NAME = re.compile(r"step_(\d+)\.pt")


def save(cell: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``checkpoints/step_N.pt`` atomically, then delete all but the newest `keep`."""
    path = cell / FOLDER / f"step_{step:09d}.pt"
    with _written_whole(path) as partial, partial.open("wb") as file:
        torch.save(state | {"cell": cell.name}, file)  # which flushes it
        os.fsync(file.fileno())  # before the older ones go
    for old in _saved(cell)[:-keep]:
        old.unlink()
    return path


def save_weights(cell: Path, step: int, model: nn.Module) -> Path:
    """Write the weights alone to ``weights/step_N.safetensors``, atomically; a tied one once."""
    path = cell / WEIGHTS_FOLDER / f"step_{step:09d}.safetensors"
    with _written_whole(path) as partial:
        save_tensors({n: p.detach().contiguous() for n, p in model.named_parameters()}, partial)
    return path


def save_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Write a safetensors file that those may read who may read the files beside it."""
    from safetensors.torch import save_file

    file.touch()
    mode = file.stat().st_mode  # by the umask; safetensors' own is for the owner alone
    save_file(tensors, file, metadata={"format": "pt"})  # transformers asks for it
    file.chmod(mode)


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Yield another path to write to, which takes the place of `path` if nothing goes wrong."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_room(cell: Path, model: nn.Module, config: CheckpointConfig, n_cells: int) -> None:
    """Refuse (`ConfigError`) to start what will not fit: `n_cells` such cells side by side.

    A state is the weights and two moments; one more than is kept exists while it is written.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    n_states = config.keep + 1 if config.every_steps else 1
    needed = n_cells * weights * (3 * n_states + config.n_weights)
    free = shutil.disk_usage(cell).free
    if needed > free:
        raise ConfigError(
            f"checkpoints will need {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free in "
            f"{cell}: free some, set runs_dir, or lower checkpoint.keep or checkpoint.n_weights"
        )


def check_readable(state: dict[str, Any]) -> None:
    """Refuse (`ConfigError`) a training's state that `load_newest` would not read again."""
    parts = {f"interventions.{name}.fn": held for name, held in state["events"].items()}
    for name, part in (parts | {"optim.optimizer": state["optimizer"]}).items():
        file = BytesIO()
        torch.save(_without_tensors(part), file)
        file.seek(0)
        if unreadable := sorted(get_unsafe_globals_in_checkpoint(file)):
            raise ConfigError(
                f"{name}: its state_dict holds {' and '.join(unreadable)}, which a resumed run "
                "does not read: return tensors, Python's own numbers, text, lists and dictionaries"
            )


def contents(item: object, model: nn.Module | None) -> dict[str, str | None]:
    """Return a hash of what each attribute holds; None for a function or a part of the training."""
    return {key: _hash(value, model) for key, value in getattr(item, "__dict__", {}).items()}


def _hash(value: Any, model: nn.Module | None) -> str | None:
    file = BytesIO()
    try:
        _Data(file, model).dump(value)
    except Exception:  # whatever a class of anyone's own raises, it is not told apart
        return None
    return sha256(file.getbuffer()).hexdigest()


class _Data(pickle.Pickler):
    """Writes data down, tensors by their hashes, and nothing of the training, which is saved."""

    def __init__(self, file: BytesIO, model: nn.Module | None) -> None:
        super().__init__(file)
        self.fast = True  # equal data are equal bytes, whichever objects hold them
        parts = [*model.modules(), *model.parameters(), *model.buffers()] if model else []
        self.saved = {id(part) for part in parts}

    def persistent_id(self, value: Any) -> Any:
        """Return what stands for a tensor or a module; None for all else."""
        if id(value) in self.saved or isinstance(value, Optimizer):
            raise TypeError("a part of the training")
        if isinstance(value, Tensor):
            return tensor_hash(value)
        return weights_hash(value) if isinstance(value, nn.Module) else None


def _without_tensors(value: Any) -> Any:
    """Return nested dictionaries, lists and tuples with None for each tensor."""
    if isinstance(value, Tensor):
        return None
    if type(value) in (dict, OrderedDict):
        return {key: _without_tensors(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_without_tensors(item) for item in value]
    return value


def load_newest(cell: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the cell's newest sound state, None if there is none, and a line for each other one.

    Only tensors and plain data are read (``weights_only=True``), never code.
    """
    complaints: list[str] = []
    for path in reversed(_saved(cell)):
        try:
            return _read(path, cell.name), complaints
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            complaints.append(f"{path.name} cannot be read ({first}): {_instead(cell, path)}")
    return None, complaints


def _read(path: Path, cell: str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("cell") != cell:
        raise ValueError(f"it is of cell {state.get('cell')}")
    return state | {"file": path}


class UnusableError(RuntimeError):
    """A sound state that does not fit the training; it is set aside, to begin anew without it."""


def set_aside(file: Path) -> None:
    """Rename a state so that it is not found again."""
    file.rename(file.with_suffix(".unusable"))


def delete_all(cell: Path) -> None:
    """Delete the checkpoints of a finished cell, leftovers of a killed save included."""
    shutil.rmtree(cell / FOLDER, ignore_errors=True)


def _instead(cell: Path, broken: Path) -> str:
    older = [path for path in _saved(cell) if path < broken]
    return f"using {older[-1].name}, the one before it" if older else "starting from step 0"


def _saved(cell: Path) -> list[Path]:
    return sorted(p for p in (cell / FOLDER).glob("step_*.pt") if _NAME.fullmatch(p.name))
