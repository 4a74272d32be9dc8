"""Imported by the process that a study's cells fork from: what every cell needs, done once."""

import gc

gc.disable()  # imports leave no garbage, and looking for it takes a fifth of their time

import atexit  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402

from harness.study.process import STOP_SIGNALS  # noqa: E402

# a signal to all of a study must not end the process through which the launcher sees its cells
signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

import harness.cell.rehearsal  # noqa: E402
import harness.cell.train  # noqa: E402
import harness.schedule  # noqa: E402, F401
from harness.cell import provenance  # noqa: E402

provenance.code_state()  # of the code that the cells run, whatever is edited later
provenance.versions()
gc.freeze()  # no cell looks through the imports either, nor copies their pages
gc.enable()
atexit.register(os._exit, 0)  # taking torch apart would take a second
