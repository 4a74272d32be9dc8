"""Imported by the process that a study's cells fork from: what every cell needs, done once."""

import torch._dynamo  # noqa: F401 - the optimiser imports it at its first step

import harness.cell  # noqa: F401
from harness import provenance

provenance.code_state()  # of the code that the cells run, whatever is edited later
provenance.versions()
