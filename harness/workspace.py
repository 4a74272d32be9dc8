"""A saved W&B workspace with the panels that a study is read by, made through wandb's public API.

Needs the package wandb-workspaces, and an account: a workspace lives on the server only.
"""

from __future__ import annotations

import importlib
from typing import Any

from harness.mirror import Target

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
    panels = importlib.import_module("wandb_workspaces.reports.v2")
    arm = "JobType"

    def curve(metric: str, title: str) -> Any:
        return panels.LinePlot(
            title=title,
            x="tokens",
            y=[metric],
            groupby=arm,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )

    loss = panels.SummaryMetric("test_loss")
    band = [
        panels.ScatterPlot(
            title="Noise band: test loss of every run",
            x=panels.Config("seeds.init"),
            y=loss,
        ),
        panels.BarPlot(
            title="Test loss by arm",
            metrics=[loss],
            groupby=arm,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        ),
    ]
    sections = [
        ws.Section(name="Noise band", panels=band, is_open=True),
        ws.Section(
            name="Curves by arm",
            panels=[
                curve("val_loss", "Validation loss by arm, lowest to highest seed"),
                curve("train_loss", "Training loss by arm, lowest to highest seed"),
                curve("grad_norm", "Gradient norm by arm"),
            ],
            is_open=True,
        ),
        ws.Section(
            name="Cost",
            panels=[
                panels.ScatterPlot(
                    title="Test loss against training time",
                    x=panels.SummaryMetric("cost/train_seconds"),
                    y=loss,
                )
            ],
        ),
        ws.Section(
            name="Report", panels=[panels.MediaBrowser(media_keys=["noise_band", "effects"])]
        ),
    ]
    return ws.Workspace(entity=target.entity, project=target.project, name=NAME, sections=sections)
