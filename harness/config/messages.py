"""Errors of Hydra and OmegaConf in one line: what, where, what is allowed, what to do next."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from traceback import walk_tb
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from yaml import YAMLError

from harness.config import CardConfig, Config, ConfigError
from harness.extras import EXTRAS, installation
from harness.records.files import CONF_DIR, conf_folders, flatten

os.environ["OC_CAUSE"] = "0"
"""Else OmegaConf words its errors otherwise under a debugger, and makes some their own cause."""

COMMANDS = (
    *("bill", "cell", "config_page", "evaluate", "export", "finetune", "judge", "label"),
    *("prepare", "sample", "schedule", "status", "sync", "throughput"),
)
"""Of ``python -m harness.COMMAND``."""
GROUPS = sorted(
    {str(p.parent.relative_to(CONF_DIR)) for p in CONF_DIR.rglob("*/*.yaml")}, key=len, reverse=True
)
_HINTS = {
    "data": "; your own text is data=text data.path=FOLDER",
    "intervention": "; see: python -m interventions",
}
"""What to do about an unknown member of a group."""


def explain(error: Exception) -> str:
    """Return one line for an error of Hydra or OmegaConf: what, where, what is allowed."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown(error.missing_cfg_file, error.options)
    if isinstance(error, OverrideParseException):
        if "=" not in (word := error.override or ""):
            return f"{word!r} is no setting, key=value; {_command(word)}"
        reason = error.message.splitlines()[0]
        return f"cannot read {word!r}: {reason}; {_quoted(word)}"
    if ours := _of_hydra(str(error)):
        return ours
    if isinstance(error, UnicodeDecodeError):
        return f"{_being_read(error)} is not UTF-8, at byte {error.start}: save it as that"
    if isinstance(error, YAMLError):
        return f"not valid YAML: {' '.join(str(error).split())}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        error = error.__cause__
    return _of_omegaconf(error)


def _being_read(error: UnicodeDecodeError) -> str:
    """Return the file that Hydra was reading: the error does not name it, the open file does."""
    found = "a config file"
    for frame, _ in walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            found = value.name if isinstance(value, TextIOWrapper) else found
    return str(found)


def _of_hydra(text: str) -> str:
    """Return in our words what Hydra words badly; empty for the rest."""
    if text.startswith("provider=hydra.searchpath"):
        missing = text.rpartition("path=")[2].removesuffix(" is not available.")
        return f"hydra.searchpath: there is no folder {missing}, seen from {Path.cwd()}"
    if "Ambiguous value" in text or "requires --multirun" in text:
        return (
            f"{text.splitlines()[0].rstrip(':')}: several values are a sweep, add -m; "
            "a stack is one value: '+intervention=[a,b]'"
        )
    if text.startswith("Could not append") and "already at 'interventions'" in text:
        return _cards(text.rpartition("interventions=")[2].rstrip("'\n"))
    if text.startswith("Multiple values for intervention"):
        return "intervention is given twice; a stack is one value: '+intervention=[a,b]'"
    if (
        "No match in the defaults list" in text and " use " in text
    ):  # Hydra's hint cannot be pasted into a shell
        added = text.rpartition(" use ")[2].replace("'", "").replace(" ", "")
        return f"{added[1:].partition('=')[0]} is added with a plus: '{added}'"
    return ""


def _of_omegaconf(error: Exception) -> str:
    if isinstance(error, OmegaConfBaseException) and (ours := _raised_by_us(error)):
        return f"{error.full_key}: {ours}" if error.full_key else str(ours)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line for line in lines if line.startswith("full_key:")), None)
    # "In 'intervention/NAME': ... raised while composing config:" has the reason on a line below.
    text = " ".join(lines[: 2 if key is None or lines[0].endswith(":") else 1])
    if key is None:
        return text or type(error).__name__
    name = key.removeprefix("full_key:").strip()
    if "is not a ListConfig" in text:
        return f"{name} is a list: '{name}=[a,b]'"
    value = getattr(error, "value", None)
    if name == "interventions":
        return _cards(value)
    if name.partition(".")[0] in ("seed", "seeds") and " not in '" not in text:
        return _one_seed(name, value)
    if "is not in struct" in text:
        return _no_place(name, error)
    siblings = f"; {_siblings(name)}" if " not in '" in text else ""
    if name == "intervention":
        siblings = "; the first line of an overlay must be: # @package _global_"
    if isinstance(value, float) and value.is_integer() and isinstance(error, ValidationError):
        siblings += f"; a whole number is written without an exponent: {name}={int(value)}"
    return f"{text} (at {name}){siblings}"


def _no_place(key: str, error: Exception) -> str:
    """Say how a value is set that an overlay brings, or that a part of the model does not have."""
    parent, _, name = key.rpartition(".")
    if parent == "interventions":
        return (
            f"{key}: an arm of this command has no overlay {name}: choose it, "
            f"'+intervention={name}', and sweep its values in a command without other arms, with "
            "the same study_name"
        )
    node = getattr(error, "parent_node", None) or ()
    has = ", ".join(str(item) for item in node if item != "_target_")
    return (
        f"{parent} sets no {name} here{f', but {has}' if has else ''}: an argument that it does "
        f"not set yet is added with a plus, +{key}=VALUE"
    )


def _cards(value: Any) -> str:
    """Say how an overlay is chosen to one who set ``interventions``, which overlays fill in."""
    name = value if isinstance(value, str) and re.fullmatch(r"\w+", value) else "NAME"
    return (
        f"interventions={name}: interventions holds the cards that overlays bring; choose an "
        f"overlay with '+intervention={name}', a stack with '+intervention=[a,b]'"
    )


def _one_seed(key: str, value: Any) -> str:
    """Say how several seeds are asked for, as near to what was typed as can be told."""
    ends = re.fullmatch(r"(\d+)\s*(?:-|:|\.\.+)\s*(\d+)", str(value))
    sweep = f"range({ends[1]},{int(ends[2]) + 1})" if ends else "range(4)"
    return (
        f"{key}={value}: a seed is one whole number, 0 or more; several are a sweep, with -m: "
        f"'{'seed' if key == 'seeds' else key}={sweep}', or one by one, seed=1,2,3"
    )


def _raised_by_us(error: BaseException) -> ConfigError | None:
    """Find what a resolver of ours raised below OmegaConf's own error."""
    below = error.__cause__ or error.__context__
    return below if below is None or isinstance(below, ConfigError) else _raised_by_us(below)


def _unknown(file: str, options: Sequence[str] | None) -> str:
    """Name what is there instead of a config file that is not."""
    name = file.removesuffix(".yaml")
    group = next((g for g in GROUPS if name.startswith(f"{g}/")), name.rpartition("/")[0])
    stem = name[len(group) :].removeprefix("/")
    if group == "hydra/launcher" and (launcher := stem.removesuffix("_schema")) in EXTRAS:
        return (
            f"hydra/launcher={launcher} needs its plugin, which is not installed here: "
            f"{installation(launcher)}; or leave it out to train on this machine"
        )
    known = options or options_of(group)
    near = _meant(group, stem, known)
    hint = _searchpath(Path(group, f"{stem}.yaml")) or _HINTS.get(group, "")
    allowed = ", ".join(known) or "none"
    return f"unknown {group or 'config'} {stem!r}{near}; allowed: {allowed}{hint}"


def options_of(group: str) -> list[str]:
    """Return the names of a config group's files, with those beside the command."""
    files = (file for folder in conf_folders() for file in (folder / group).glob("*.yaml"))
    return sorted({file.stem for file in files})


def _meant(group: str, name: str, known: Sequence[str]) -> str:
    """Name what was perhaps meant: a stack, or other capitals or letters."""
    parts = name.split("+")
    if group == "intervention" and len(parts) > 1 and {*parts} <= {*known}:
        return f" (a stack is '+intervention=[{','.join(parts)}]')"
    plain = {option: re.sub(r"[\W_]", "", option.lower()) for option in known}
    wanted = re.sub(r"[\W_]", "", name.lower())
    near = get_close_matches(wanted, plain.values(), n=2, cutoff=0.8)
    found = [option for option, text in plain.items() if text in near]
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def _searchpath(file: Path) -> str:
    """Say how Hydra finds a person's own file that lies in a folder near by."""
    if file.is_absolute():
        return ""
    found = [path for depth in ("", "*/", "*/*/") for path in sorted(Path().glob(f"{depth}{file}"))]
    if not found:
        return ""
    folder = found[0].parents[len(file.parents) - 1].as_posix()
    return f"; {found[0]} needs 'hydra.searchpath=[file://{folder}]' in the command"


def _command(word: str) -> str:
    """Name the command that was perhaps meant."""
    if word in options_of("intervention"):
        return (
            f"an intervention is chosen by '+intervention={word}', several by '=a,b' without spaces"
        )
    near = get_close_matches(word, COMMANDS, n=1)
    return f"did you mean: python -m harness.{near[0]}" if near else "see: python -m harness --help"


def _quoted(override: str) -> str:
    """Say how a value is written that Hydra's grammar does not let through."""
    key, _, value = override.partition("=")
    if key.lstrip("+") == "intervention":
        return "quote it: '+intervention=[a,b]'"
    if value.startswith("~"):
        return f'write the folder out: "{key}=$HOME{value[1:]}"'
    return f"quote the value once more, for Hydra: '{key}=\"{value}\"'"


def _siblings(key: str) -> str:
    """Name the keys that stand beside a dotted one, so that a typo is found at a glance."""
    parent, _, _ = key.rpartition(".")
    card = parent.partition(".")[0] == "interventions" != parent
    node = OmegaConf.structured(CardConfig if card else Config)
    if card:
        return f"allowed in a card: {', '.join(map(str, node))}"
    with suppress(OmegaConfBaseException):
        node = OmegaConf.select(node, parent) if parent else node
    if not isinstance(node, DictConfig) or not node:
        return "see: python -m harness --help"
    allowed = f"allowed{' in ' + parent if parent else ''}: {', '.join(map(str, node))}"
    return f"{_elsewhere(key)}{allowed}"


def _elsewhere(key: str) -> str:
    """Name the keys of other groups that end in the same word: ``lr`` is ``optim.lr``."""
    ending = key.rpartition(".")[2]
    dotted = flatten(OmegaConf.to_container(OmegaConf.structured(Config), resolve=False))  # type: ignore[arg-type]
    found = [known for known in dotted if known.rpartition(".")[2] == ending]
    return f"did you mean {' or '.join(found)}? " if found else ""
