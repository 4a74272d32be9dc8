"""The packages that are optional, and which extra of this project installs each."""

from __future__ import annotations

from importlib.util import find_spec

from harness.config import ConfigError

EXTRAS = {
    "lion_pytorch": "optimizers",
    "lm_eval": "benchmarks",
    "openai": "judge",
    "peft": "finetune",
    "ray": "ray",
    "schedulefree": "optimizers",
    "submitit_slurm": "slurm",
    "trackio": "trackio",
    "wandb_workspaces": "workspace",
}
"""By what is imported; a Hydra launcher by its name."""


def installation(package: str) -> str:
    """Return the command that installs an optional package, from any folder."""
    name = package.partition(".")[0]
    wanted = f"'llm-interventions[{EXTRAS[name]}]'" if name in EXTRAS else name
    return f"pip install {wanted}"


def require(package: str, what: str, instead: str) -> None:
    """Refuse `what` where its package is not installed, and say what there is `instead`."""
    if find_spec(package) is None:
        raise ConfigError(
            f"{what} needs the package {package}, which is not installed here: "
            f"{installation(package)}; or {instead}"
        )
