"""Stopping where a cell was asked to: at the end of a step, with its state saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.cell.console import ONE_REQUEST_SECONDS

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Asked to, pressed Ctrl-C, closed the terminal; what ``nohup`` ignores stays ignored."""


class Stopped(BaseException):
    """The process was asked to stop, and has saved its state."""


@dataclass(slots=True)
class StopRequest:
    """Whether this process was asked to stop."""

    made: bool = False
    _seconds: float = 0.0
    """When, by the monotonic clock."""

    def signalled(self, number: int, _: object) -> None:
        """Note a signal; raise `Stopped` at a second one."""
        now = time.monotonic()
        if not self.made:
            self.made, self._seconds = True, now
        elif now > self._seconds + ONE_REQUEST_SECONDS:
            raise Stopped(f"stopped by a second {signal.Signals(number).name}")


@contextmanager
def graceful_stop(request: StopRequest) -> Iterator[None]:
    """Let stop signals make a request, so that the step is finished and saved first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request.signalled) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
