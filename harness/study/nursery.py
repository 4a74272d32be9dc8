"""Imported by the process that a study's cells fork from: what every cell needs, done once."""

import atexit
import os

import torch._dynamo  # noqa: F401 - the optimiser imports it at its first step

import harness.cell  # noqa: F401
from harness import provenance

provenance.code_state()  # of the code that the cells run, whatever is edited later
provenance.versions()
atexit.register(os._exit, 0)  # taking torch apart would take a second
