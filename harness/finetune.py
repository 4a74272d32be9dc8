"""Fine-tune models on instructions: ``python -m harness.finetune MODEL... [KEY=VALUE...]``.

MODEL is a study (all its complete cells), a cell, a saved step of it or a GPT-2-shaped model, as
``harness.hub.weights`` says; each is tuned once for every seed of seeds=[...], and answers the
held-out instructions into a file that ``python -m harness.judge`` takes. Settings, with the
published study's values as defaults:
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys

from harness.evals.instructions.settings import TuneConfig, parse
from harness.records.terminal import Parser, complain, printing, source


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Fine-tune, and return the exit code: 2 where the input was refused."""
    parser = Parser(
        prog="python -m harness.finetune",
        description=f"{__doc__}\n{_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", type=source, metavar="MODEL")
    given = list(sys.argv[1:] if arguments is None else arguments)
    settings = [text for text in given if "=" in text]
    models = parser.parse_args([text for text in given if "=" not in text]).models
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _finetune_all(models, parse(settings))
    except (ValueError, OSError) as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command goes on from the last epoch", file=sys.stderr)
        return 130
    return 0


def _finetune_all(models: list[str], config: TuneConfig) -> None:
    from harness.config import HardwareConfig
    from harness.engine.devices import settle_process
    from harness.evals.instructions.data import read_instructions
    from harness.evals.instructions.finetune import finetune
    from harness.extras import require
    from harness.hub.weights import find_weights, named_models

    if config.lora_rank:
        require("peft", f"lora_rank={config.lora_rank}", "leave it out to tune all weights")
    settle_process(HardwareConfig(threads=config.threads))
    data = read_instructions(config)
    named = [find_weights(model) for model in named_models(models)]
    for weights in named:
        for seed in config.seeds:
            print(finetune(weights, config, data, seed).describe(), flush=True)


def _settings() -> str:
    config = TuneConfig()
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return "\n".join(f"  {name}={getattr(value, 'value', value)}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main())
