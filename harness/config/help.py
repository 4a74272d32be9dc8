"""The text of ``python -m harness --help``: groups, config and examples.

Hydra's own help copies the whole schema once for each config group, which takes seconds.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.config.compose import load
from harness.config.frozen import to_yaml
from harness.config.messages import GROUPS, options_of

TEMPLATE = """\
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


def help_text(overrides: Sequence[str]) -> str:
    """Return the help, with the config that the overrides compose."""
    lines = [
        textwrap.fill(
            f"{group}: {', '.join(options_of(group))}",
            98,
            initial_indent="  ",
            subsequent_indent="      ",
        )
        for group in sorted(GROUPS)
    ]
    config = to_yaml(load(overrides))
    return TEMPLATE.format(groups="\n".join(lines), config=textwrap.indent(config, "  "))
