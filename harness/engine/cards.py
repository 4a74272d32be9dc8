"""What GPUs can do at most, as their makers say."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import Autocast, Matmul, PrecisionConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A GPU's peak FLOP/s by number format: dense, not with sparsity."""

    bf16: float
    """Of float16, too, with sums in float32."""
    tf32: float
    fp32: float
    source: str

    def peak(self, precision: PrecisionConfig) -> float:
        """Return the peak in the number format of the matrix products."""
        if precision.autocast is not Autocast.none:
            return self.bf16
        return self.tf32 if precision.matmul is Matmul.high else self.fp32


CARDS = {
    "b200": Card(bf16=2.25e15, tf32=1.125e15, fp32=75e12, source="NVIDIA HGX B200 data sheet"),
    "h200": Card(bf16=989e12, tf32=494e12, fp32=67e12, source="NVIDIA H200 data sheet, SXM"),
    "h100": Card(bf16=989e12, tf32=494e12, fp32=67e12, source="NVIDIA H100 data sheet, SXM"),
    "h100_pcie": Card(bf16=756e12, tf32=378e12, fp32=51e12, source="NVIDIA H100 data sheet, PCIe"),
    "a100": Card(bf16=312e12, tf32=156e12, fp32=19.5e12, source="NVIDIA A100 data sheet"),
    "l40s": Card(bf16=362e12, tf32=183e12, fp32=91.6e12, source="NVIDIA L40S data sheet"),
    "l4": Card(bf16=121e12, tf32=60e12, fp32=30.3e12, source="NVIDIA L4 data sheet"),
    "rtx4090": Card(bf16=165e12, tf32=82.6e12, fp32=82.6e12, source="NVIDIA Ada white paper"),
    "rtx3090": Card(bf16=71e12, tf32=35.6e12, fp32=35.6e12, source="NVIDIA GA102 white paper"),
}
"""Name in the command -> the card."""
CALLED = {
    "NVIDIA B200": "b200",
    "NVIDIA H200": "h200",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100_pcie",
    "NVIDIA A100-SXM4-40GB": "a100",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA A100-PCIE-40GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100",
    "NVIDIA L40S": "l40s",
    "NVIDIA L4": "l4",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA GeForce RTX 3090": "rtx3090",
}
"""The driver's name -> the one in the command."""


def card_called(name: str) -> Card | None:
    """Return the card that the driver calls so; None: the table has no such card."""
    return CARDS.get(CALLED.get(name, ""))
