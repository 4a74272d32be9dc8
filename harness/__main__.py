"""Train one cell, sweep with ``-m``, or run a saved study with ``+study=NAME``."""

from __future__ import annotations

import os
import sys
import textwrap
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.cell.console import (
    EXIT_REFUSED,
    EXIT_STOPPED,
    StudyFailed,
    same_command,
    say,
)
from harness.cell.start import one_of_several, start_cell
from harness.config import Config, ConfigError
from harness.config.compose import load, resolve
from harness.config.frozen import to_yaml
from harness.config.loader import CONFIG_NAME
from harness.config.messages import GROUPS, explain, options_of
from harness.config.typed import as_typed
from harness.records import Status
from harness.records.cell import describe
from harness.records.files import CONF_DIR
from harness.records.terminal import printing
from harness.study import process
from harness.study.outcome import over_budget, written_since
from harness.study.plan import PlannedCell, warn_of_tracker
from harness.study.slots import plan_slots

HELP = """\
Train language models, one intervention at a time, and keep evidence of every run.

usage: python -m harness [-m] [GROUP=OPTION ...] [KEY=VALUE ...]

EXAMPLES (quote what the shell would touch)
  python -m harness                                            the baseline
  python -m harness +intervention=weight_tying                 one arm
  python -m harness '+intervention=[qkv_bias,no_dropout]'      a stack
  python -m harness -m '+intervention=baseline,qkv_bias' 'seed=range(3)'
  python -m harness +study=demo                                a saved study
  python -m harness scale=gpt2_small data=fineweb --cfg job    print a config, train nothing

CONFIG GROUPS (+intervention=... and +study=... are added with a plus)
{groups}

CONFIG (override anything: train.batch_size=32; harness/config says what each key means)
{config}
MORE
  docs/cookbook.md, docs/config.md                             recipes to copy; every key
  python -m interventions                                      the catalogue with its sources
  python -m harness.prepare data=NAME                          tokenise a corpus
  python -m harness.status runs/NAME                           how a study stands
  python -m harness --hydra-help                               Hydra's own flags
"""
ALONE = (
    "start it once, as python -m harness; a sweep fills all devices, and hardware.n_devices=N "
    "trains one cell on several"
)
LONG_TOKENS = 10_000_000
"""A single cell with fewer training tokens meets its errors soon enough without a rehearsal."""


@hydra.main(config_path=str(CONF_DIR), config_name=CONFIG_NAME, version_base="1.3")
def run_one(_: DictConfig) -> None:
    """Freeze and run the one cell that the command line describes."""
    in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
    # as they were typed: what they refer to is looked up where their key is known
    chosen: Any = OmegaConf.to_container(HydraConfig.instance().cfg.hydra.overrides)  # type: ignore[union-attr]
    try:
        config = resolve(tuple(chosen["hydra"]), tuple(chosen["task"]))
        if config.study.arms and not in_sweep:
            raise ConfigError(f"study.arms={config.study.arms} is a sweep: add -m")
        plan_slots(config.hardware)  # refuses a device that is not here
        cell = PlannedCell(config)
        done = None if config.overwrite else cell.result()
        if done is None and (over := over_budget(config.budget, cell.study)):
            raise ConfigError(f"{over}: raise it to train this cell")
        if not in_sweep and done is None:
            warn_of_tracker(config.tracking.backend, config.tracking.mode)
        cell.freeze()
        if not in_sweep:  # a sweep has noted all of its cells
            cell.study.note_command([cell.entry])
    except ValueError as error:  # ConfigError, DataError, RecordError
        if in_sweep:
            raise
        sys.exit(_refuse(str(error)))
    if done is not None:
        say(f"nothing to do, already {describe(done, cell.folder)}")
        return
    if not in_sweep and (code := _rehearsed(cell, config)):
        sys.exit(code)
    code = start_cell(cell.folder, config.hardware.n_devices)
    if code and not in_sweep:  # a sweep looks at the records of all its cells
        record = written_since(cell)
        sys.exit(_stopped() if record and record.status is Status.STOPPED else code)


def _rehearsed(cell: PlannedCell, config: Config) -> int:
    """Take a first cheap step of a long cell that has not begun; 0, or 1 if it fails.

    Of a stack, too: training alone does not say that one of its parts has no effect.
    """
    record = cell.record()
    begun = record and record.status is not Status.FAILED
    short = config.train.tokens < LONG_TOKENS and len(config.interventions) < 2
    return 0 if begun or short else process.rehearse_alone(cell.folder)


@printing()
def main() -> None:
    """Run Hydra; turn what is wrong with a config into one line and exit code 2."""
    if {"-h", "--help"} & set(sys.argv):
        sys.exit(_print_help())
    if one_of_several():
        sys.exit(_refuse(f"torchrun starts this command {os.environ['WORLD_SIZE']} times: {ALONE}"))
    # Hydra's parser prints its whole usage
    ArgumentParser.error = _refuse_flag  # type: ignore[assignment, method-assign]
    # Hydra's parser takes no overrides on both sides of a flag
    given = get_args_parser().parse_intermixed_args()
    if given.experimental_rerun:  # it would run what a pickle says
        sys.exit(_refuse("--experimental-rerun: use python -m harness.cell FOLDER instead"))
    sys.argv[1:] = as_typed(sorted(sys.argv[1:], key=given.overrides.__contains__))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us instead of Hydra's own printer
    warnings.filterwarnings("error", "provider=.* is not available")  # a hydra.searchpath
    try:
        run_one()
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeError, UserWarning) as error:
        sys.exit(_refuse(explain(error)))
    except ValueError as error:  # ConfigError, DataError, RecordError
        sys.exit(_refuse(str(error)))
    except KeyboardInterrupt:
        sys.exit(_stopped())
    except StudyFailed as error:
        say(str(error))
        sys.exit(1)


def _print_help() -> int:
    """Print our own help: Hydra's copies the schema once for each config group, for seconds."""
    try:
        text = help_text([word for word in sys.argv[1:] if not word.startswith("-")])
    except ConfigError as error:
        return _refuse(str(error))
    sys.stdout.write(text)
    return 0


def help_text(overrides: Sequence[str]) -> str:
    """Return the help, with the config that the overrides compose."""
    groups = {group: options_of(group) for group in sorted(GROUPS)}
    lines = [
        textwrap.fill(
            f"{name}: {', '.join(options)}", 98, initial_indent="  ", subsequent_indent="      "
        )
        for name, options in groups.items()
    ]
    config = to_yaml(load(overrides))
    return HELP.format(groups="\n".join(lines), config=textwrap.indent(config, "  "))


def _refuse_flag(_: ArgumentParser, message: str) -> NoReturn:
    hint = "settings are written key=value, without dashes: python -m harness --help"
    sys.exit(_refuse(f"{message}; {hint}"))


def _refuse(message: str) -> int:
    say(f"error: {message}")
    return EXIT_REFUSED


def _stopped() -> int:
    say(f"stopped: run {same_command()} again to go on")
    return EXIT_STOPPED


if __name__ == "__main__":
    main()
