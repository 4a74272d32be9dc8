"""Weights by the name that a person gives them: a cell, a saved step of it, or a hub's model.

=============================  ===================================================================
runs/STUDY/ARM/CELL            a cell's folder: its last saved weights
CELL                           its id, looked for in runs/ below the current directory
runs/STUDY/ARM                 an arm: its cell with the seeds asked for, or its only one
...@STEP                       the weights saved at that step (``checkpoint.n_weights``)
hf:NAME[@REVISION]             a GPT-2-shaped model of the Hugging Face hub
hf:FOLDER, FOLDER              the same in a local folder with its ``config.json``
=============================  ===================================================================

Commands that take several models take a study's folder, too: all its complete cells.

The hub's own settings hold: ``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.config import ConfigError, ModelConfig
from harness.config.frozen import read_config
from harness.data.manifest import sha256_of
from harness.engine.checkpoint import WEIGHTS_FOLDER
from harness.hub.gpt2 import from_gpt2, model_config
from harness.hub.tokenizer import MERGES, VOCABULARY, WHOLE
from harness.records import CONFIG_FILE, Seeds, Status
from harness.records.cell import Cell
from harness.records.files import expanded
from harness.records.study import Study, meant

HUB = "hf:"
HUB_CONFIG = "config.json"
HUB_WEIGHTS = "model.safetensors"
HUB_FILES = (HUB_CONFIG, HUB_WEIGHTS)
TOKENIZER_FILES = (VOCABULARY, MERGES)
MOST_NAMED = 3
"""Of cells, in an error that asks for one."""
_WEIGHTS = re.compile(r"step_(\d+)\.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Trained weights in a file, under our names or GPT-2's."""

    name: str
    """What identifies them for a reader: ``ARM/CELL@STEP`` or ``hf:NAME@COMMIT``, of a local
    folder ``hf:PARENT/FOLDER@HASH``.
    """
    file: Path
    config: ModelConfig
    cell: Path | None = None
    """The cell's folder; None: in the hub's form."""
    step: int | None = None
    folder: Path | None = None
    """A local one in the hub's form."""

    @property
    def place(self) -> str:
        """What `find_weights` finds them by from anywhere."""
        if self.folder is not None:
            return f"{HUB}{self.folder}"
        return self.name if self.cell is None else f"{self.cell}@{self.step}"

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        status = self.file.stat()
        return _hashed(self.file, status.st_size, status.st_mtime_ns)

    def tensors(self) -> dict[str, Tensor]:
        """Read them under our names; a tied weight has both of its names."""
        from safetensors.torch import load_file

        found = load_file(self.file)
        if self.cell is None:
            found = from_gpt2(found, self.config)
        if self.config.tie_weights and "head.weight" not in found:
            found["head.weight"] = found["tok_emb.weight"]
        return found


@lru_cache(maxsize=64)
def _hashed(file: Path, _size: int, _modified_ns: int) -> str:
    return sha256_of(file)


def named_models(texts: Iterable[str]) -> list[str]:
    """Return the models' names; a study's folder stands for its complete cells."""
    names = []
    for text in texts:
        cells = [Cell(folder) for folder in Study(Path(text)).cells()]
        done = [cell for cell in cells if (r := cell.record()) and r.status is Status.COMPLETE]
        names += [str(cell.folder) for cell in done] or [text]
    return names


def find_weights(text: str, seeds: Seeds | None = None) -> Weights:
    """Return the weights that `text` names (see above); `ConfigError` where there are none."""
    if text.startswith(HUB):
        return _hub_weights(text.removeprefix(HUB))
    name, _, step = text.rpartition("@") if re.search(r"@\d+$", text) else (text, "", "")
    path = expanded(name)
    if (path / HUB_CONFIG).exists():
        return _local_weights(path.absolute())
    return _cell_weights(_cell_folder(path, seeds), int(step) if step else None)


def _cell_folder(path: Path, seeds: Seeds | None) -> Path:
    if (path / CONFIG_FILE).exists():
        return path.absolute()
    if path.is_dir() and (cells := sorted(file.parent for file in path.glob(f"*/{CONFIG_FILE}"))):
        return _cell_of_arm(cells, path, seeds).absolute()
    below = [file.parent for file in sorted(path.glob(f"*/*/*/{CONFIG_FILE}"))]
    if cells := Study(path).cells() or below:
        raise ConfigError(
            f"{path} holds {len(cells)} cells, where one model is wanted: {_one_of(cells)}"
        )
    pattern = f"*/*/{path}/{CONFIG_FILE}"
    found = sorted(file.parent for file in Path("runs").glob(pattern) if len(path.parts) == 1)
    if len(found) > 1:
        raise ConfigError(f"{len(found)} cells in runs/ are called {path}: {_one_of(found)}")
    if not found:
        kinds = "a cell's folder or id, an arm's folder, hf:NAME or a folder with config.json"
        raise ConfigError(f"{path}: there is no such model; {meant(path) or f'name {kinds}'}")
    return found[0].absolute()


def _one_of(cells: Sequence[Path]) -> str:
    """Say which cells can be named, an arm each as far as there are several."""
    arms = {cell.parent: cell for cell in reversed(cells)}
    chosen = sorted(arms.values()) if len(arms) > 1 else list(cells)
    more = " ..." if len(cells) > MOST_NAMED else ""
    return f"name one, as {', '.join(map(str, chosen[:MOST_NAMED]))}{more}"


def _cell_of_arm(cells: list[Path], arm: Path, seeds: Seeds | None) -> Path:
    every = cells
    if len(cells) > 1 and seeds is not None:
        records = {cell: Cell(cell).record() for cell in cells}
        cells = [cell for cell, record in records.items() if record and record.seeds == seeds]
    if len(cells) != 1:
        which = " with these seeds" if seeds else ""
        raise ConfigError(
            f"{arm} has {len(cells) or 'no'} cells{which}, where one model is wanted: "
            f"{_one_of(cells or every)}"
        )
    return cells[0]


def saved_steps(cell: Path) -> dict[int, Path]:
    """Return step -> file of the weights that a cell keeps, ascending."""
    files = sorted((cell / WEIGHTS_FOLDER).glob("step_*.safetensors"))
    return {int(m[1]): file for file in files if (m := _WEIGHTS.fullmatch(file.name))}


def _cell_weights(cell: Path, step: int | None) -> Weights:
    steps = saved_steps(cell)
    if not steps:
        raise ConfigError(
            f"{cell} keeps no weights: train it again with checkpoint.n_weights=1 overwrite=true"
        )
    if step is not None and step not in steps:
        raise ConfigError(f"{cell} has no weights of step {step}; it has: {_listed(steps)}")
    chosen = max(steps) if step is None else step
    name = f"{cell.parent.name}/{cell.name}@{chosen}"
    config = read_config(cell / CONFIG_FILE).model
    return Weights(name=name, file=steps[chosen], config=config, cell=cell, step=chosen)


def _listed(values: Collection[int]) -> str:
    return ", ".join(map(str, values))


def _hub_weights(name: str) -> Weights:
    local = expanded(name)
    if (local / HUB_CONFIG).exists():
        return _local_weights(local.absolute())
    repo, _, revision = name.partition("@")
    folder = fetch(repo, revision or None)
    return _folder_weights(folder, f"{HUB}{repo}@{folder.name}")


def _local_weights(folder: Path) -> Weights:
    """Name them in a row's room: the path is long, and two folders may end alike."""
    short = "/".join(folder.parts[-2:])
    found = _folder_weights(folder, f"{HUB}{folder}")
    return replace(found, name=f"{HUB}{short}@{found.sha256[:8]}", folder=folder)


def _folder_weights(folder: Path, name: str) -> Weights:
    if not (folder / HUB_WEIGHTS).exists():
        raise ConfigError(
            f"{folder} has no {HUB_WEIGHTS}: save the model in one safetensors file there"
        )
    raw: dict[str, Any] = json.loads((folder / HUB_CONFIG).read_text(encoding="utf-8"))
    return Weights(name=name, file=folder / HUB_WEIGHTS, config=model_config(raw, name))


def _answers() -> bool:
    """Tell whether the hub can be reached; its client would try for half a minute to find out."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # httpx's, and OfflineModeIsEnabled
        return False
    return True


def fetch(repo: str, revision: str | None) -> Path:
    """Return the folder of a hub model in the hub's cache, downloaded where needed."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    download = partial(
        hf_hub_download, repo, revision=revision, local_files_only=not (online := _answers())
    )
    try:
        found = [download(name) for name in HUB_FILES]
    except Exception as error:  # huggingface_hub, httpx, OSError: all mean that there is no file
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        said = said if online else "it cannot be reached, or HF_HUB_OFFLINE is set"
        pinned = f" --revision {revision}" if revision else ""
        raise ConfigError(
            f"cannot get {repo} from the hub: {said}; with network access: "
            f"hf download {repo} {' '.join((*HUB_FILES, *TOKENIZER_FILES, WHOLE))}{pinned} (a "
            "private one needs HF_TOKEN), then run this again, with HF_HUB_OFFLINE=1 if need be"
        ) from error
    for names in (TOKENIZER_FILES, (WHOLE,)):
        with suppress(EntryNotFoundError, OSError):  # GPT-2's own tokenizer may be left out
            for name in names:
                download(name)
            break
    return Path(found[0]).parent
