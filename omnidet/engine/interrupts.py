"""Ctrl-C and SIGTERM at a moment that leaves the training's state whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While entered, the first signal raises KeyboardInterrupt, but not inside `held()`: there it waits for the end.

    Args:
        deferred: never raise by itself; `asked` tells. Several processes have to agree on where to stop.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, deferred: bool = False) -> None:
        self.deferred = deferred
        self.asked = False
        self._holding = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():    # Python allows handlers there alone
            self._before = {s: signal.signal(s, self._handle) for s in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block that is finished before an interrupt takes effect."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self.asked and not self.deferred:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or not (self._holding or self.deferred):
            raise KeyboardInterrupt
