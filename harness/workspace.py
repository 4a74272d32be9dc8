"""A saved W&B workspace with the panels that a study is read by, made through wandb's public API.

Needs the package wandb-workspaces, and an account: a workspace lives on the server only.
"""

from __future__ import annotations

import importlib
from typing import Any

from harness.mirror import Target

ARM = "JobType"
"""W&B's name for what we set to the arm."""

NAME = "Studies: noise band, curves by arm, cost"


def save_workspace(target: Target) -> str:
    """Save the workspace to the project and return its address.

    Raises
    ------
    ValueError
        Nobody is logged in, or no entity is named.
    ImportError
        wandb-workspaces is not installed.
    """
    if target.backend != "wandb" or not target.online:
        raise ValueError("a workspace is saved on W&B's server: add --online, after `wandb login`")
    if not target.entity:
        raise ValueError("a workspace belongs to somebody: name them with --entity")
    made = workspace(target)
    made.save()
    address: str = made.url
    return address


def workspace(target: Target) -> Any:
    """Return the workspace's definition, which needs no network."""
    ws = importlib.import_module("wandb_workspaces.workspaces")
    sections = [
        ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels().items()
    ]
    return ws.Workspace(entity=target.entity, project=target.project, name=NAME, sections=sections)


def _panels() -> dict[str, list[Any]]:
    """Return section -> its panels."""
    wr = importlib.import_module("wandb_workspaces.reports.v2")
    loss = wr.SummaryMetric("test_loss")
    by_arm = {"groupby": ARM, "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    curves = {
        "val_loss": "Validation loss by arm, lowest to highest seed",
        "train_loss": "Training loss by arm, lowest to highest seed",
        "grad_norm": "Gradient norm by arm",
    }
    runs = wr.ScatterPlot(title="Test loss of every run", x=wr.Config("seeds.init"), y=loss)
    seconds = wr.SummaryMetric("cost/train_seconds")
    return {
        "Noise band": [runs, wr.BarPlot(title="Test loss by arm", metrics=[loss], **by_arm)],
        "Curves by arm": [
            wr.LinePlot(title=title, x="tokens", y=[metric], **by_arm)
            for metric, title in curves.items()
        ],
        "Cost": [wr.ScatterPlot(title="Test loss against seconds", x=seconds, y=loss)],
        "Report": [wr.MediaBrowser(media_keys=["noise_band", "effects", "verdicts"])],
    }
