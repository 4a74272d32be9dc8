"""What a new intervention starts from: for each slot and event a module that runs as it is."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import indent


@dataclass(frozen=True, kw_only=True, slots=True)
class Stub:
    """The code of a slot's class or function, or of an event's function."""

    code: str
    """With {title}, the name of what it defines, and {summary}."""
    imports: str = ""
    is_class: bool = False
    event: bool = False
    strength: float | None = None
    """Value of the argument `strength`; None: there is none."""
    key: str = ""
    """Dotted key of the slot in the config."""
    effect: str = "weights"
    """What differs from the baseline: ``weights`` or ``figures``."""

    def title(self, name: str) -> str:
        """Return what the module's class or function is called."""
        return "".join(part.title() for part in name.split("_")) if self.is_class else name

    def module(self, name: str, summary: str) -> str:
        """Return the module."""
        said = summary.replace("\\", "\\\\").replace('"""', "'''").rstrip(".") + "."
        head = f'"""{said}"""\n\nfrom __future__ import annotations\n\n{self.imports}'
        return f"{head}\n\n{self.code.format(title=self.title(name))}"

    def card(self, what: str, target: str) -> str:
        """Return the card's lines that name an event's function."""
        if not self.event:
            return ""
        return f"event: {what}\nfn: {{_target_: {target}, _partial_: true{self._argument()}}}\n"

    def setting(self, what: str, target: str) -> str:
        """Return the overlay's lines that fill a slot."""
        if self.event:
            return ""
        *parents, last = (self.key or f"model.{what}").split(".")
        lines = f"{last}: {{_target_: {target}{self._argument()}}}\n"
        for parent in reversed(parents):
            lines = f"{parent}:\n{indent(lines, '  ')}"
        return lines

    def _argument(self) -> str:
        return "" if self.strength is None else f", strength: {self.strength}"


def _part(base: str, called: str, *, layer: bool = False, options: bool = False) -> Stub:
    """Return a class that scales what its base class returns.

    `layer`: it gets its layer's number; `options`: it hands on what else the slot sets.
    """
    first, *more = called.split(", ")
    types = ", ".join([f"{first}: Tensor", *(f"{name}: Context" for name in more)])
    names = sorted(["ModelConfig", base, *("Context" for _ in more)], key=_constants_first)
    taken = ", layer: int" * layer + ", strength: float" + ", **options: Any" * options
    given = "config" + ", layer" * layer + ", **options" * options
    method = "run_blocks" if base == "GPT" else "forward"
    code = f"""\
class {{title}}({base}):
    \"\"\"{base}, its result times `strength`.\"\"\"

    def __init__(self, config: ModelConfig{taken}) -> None:
        super().__init__({given})
        self.strength = strength

    def {method}(self, {types}) -> Tensor:
        \"\"\"Return the scaled result.\"\"\"
        return self.strength * super().{method}({called})  # replace this
"""
    typing = "from typing import Any\n\n" * options
    imports = f"{typing}from torch import Tensor\n\nfrom harness.model import {', '.join(names)}\n"
    return Stub(code=code, imports=imports, is_class=True, strength=0.9)


def _constants_first(name: str) -> tuple[bool, str]:
    return not name.isupper(), name


SLOTS = {
    "norm": _part("LayerNorm", "x_BTC"),
    "attention": _part("CausalSelfAttention", "x_BTC, ctx", layer=True, options=True),
    "mlp": _part("MLP", "x_BTC", options=True),
    "position": _part("LearnedPositions", "x_BTC"),
    "head": _part("Head", "x_BTC"),
    "embedding": _part("TokenEmbedding", "ids_BT"),
    "block": _part("Block", "x_BTC, ctx", layer=True, options=True),
    "architecture": _part("GPT", "x_BTC, ctx"),
    "optimizer": Stub(
        key="optim.optimizer",
        strength=0.9,
        imports="from typing import Any\n\nimport torch\nfrom torch import nn\n",
        code="""\
def {title}(model: nn.Module, config: Any, strength: float) -> torch.optim.Optimizer:
    \"\"\"Return AdamW with `strength` times the learning rate.\"\"\"
    return torch.optim.AdamW(  # replace this
        model.parameters(),
        lr=strength * config.lr,
        betas=tuple(config.betas),
        weight_decay=config.weight_decay,
    )
""",
    ),
    "schedule": Stub(
        key="schedule",
        strength=0.5,
        code="""\
def {title}(step: int, n_steps: int, *, strength: float) -> float:
    \"\"\"Return the factor on the learning rate, which falls by `strength` over training.\"\"\"
    return 1 - strength * (step + 1) / n_steps  # replace this
""",
    ),
}
"""Slot -> its stub."""

_TORCH = "import torch\nfrom torch import nn\n"


def _on_parameters(arguments: str, line: str, what: str, strength: float) -> Stub:
    code = (
        f"@torch.no_grad()\ndef {{title}}({arguments}, strength: float) -> None:\n"
        f'    """{what}"""\n'
        f"    for parameter in model.parameters():\n        {line}  # replace this\n"
    )
    return Stub(event=True, imports=_TORCH, strength=strength, code=code)


EVENTS = {
    "loss": Stub(
        event=True,
        strength=1e-2,
        imports="from torch import Tensor, nn\n",
        code="""\
def {title}(
    loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: nn.Module, strength: float
) -> Tensor:
    \"\"\"Return the loss plus a penalty on large logits.\"\"\"
    return loss + strength * logits_BTV.square().mean()  # replace this
""",
    ),
    "model_built": _on_parameters(
        "model: nn.Module", "parameter.mul_(strength)", "Scale the initial weights.", 0.9
    ),
    "gradients_ready": _on_parameters(
        "model: nn.Module, step: int",
        "parameter.grad.add_(parameter, alpha=strength)",
        "Pull every weight towards zero by its gradient.",
        0.01,
    ),
    "step_done": _on_parameters(
        "model: nn.Module, step: int",
        "parameter.mul_(1 - strength)",
        "Shrink every weight after each step.",
        0.001,
    ),
    "before_eval": _on_parameters(
        "model: nn.Module", "parameter.mul_(strength)", "Scale the weights that are evaluated.", 0.9
    ),
    "metrics": Stub(
        event=True,
        effect="figures",
        imports="from torch import Tensor, nn\n",
        code="""\
def {title}(model: nn.Module) -> dict[str, Tensor]:
    \"\"\"Return figures to log: the norm of each matrix of the first block.\"\"\"
    first: nn.Module = model.blocks[0]
    return {{name: p.norm() for name, p in first.named_parameters() if p.dim() > 1}}  # replace this
""",
    ),
}
"""Event -> its stub."""

_TRAINED = '''\
"""{name} trains, and does something."""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[{depth}]
OURS = ["+intervention={name}"]
TINY = [
    "model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.block_size=16",
    "train.tokens=512", "eval.test_sequences=8", "eval.val_sequences=4", "log.n_points=1",
    "hardware=cpu",
]  # fmt: skip
"""Two steps."""


def trained(folder: Path, *overrides: str) -> Path:
    """Train a tiny cell and return its folder."""
    command = [sys.executable, "-m", "harness", f"runs_dir={{folder}}", *TINY, *overrides]
    subprocess.run(command, cwd=FOLDER, check=True)
    (record,) = folder.rglob("record.json")
    assert json.loads(record.read_text())["status"] == "complete"
    return record.parent


'''
TEST = {
    "weights": _TRAINED
    + """\
def weights(cell: Path) -> str:
    return json.loads((cell / "record.json").read_text())["fingerprints"]["final_weights"]


def test_it_ends_with_other_weights_than_the_baseline(tmp_path: Path) -> None:
    ours, theirs = trained(tmp_path / "ours", *OURS), trained(tmp_path / "baseline")
    assert weights(ours) != weights(theirs)
""",
    "figures": _TRAINED
    + """\
def test_its_figures_are_logged(tmp_path: Path) -> None:
    lines = (trained(tmp_path, *OURS) / "metrics.jsonl").read_text().splitlines()
    assert any(name.startswith("{name}/") for name in json.loads(lines[-1]))
""",
}
"""What differs from the baseline -> the test of it."""
