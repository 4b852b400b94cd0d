"""Ctrl-C that waits for the end of a batch."""

import signal
import threading


class DeferredInterrupt:
    """Within its context the first Ctrl-C only sets `requested`; a second one interrupts at once.

    Signals reach the main thread only; in others the context does nothing.

    Attributes
    ----------
    requested : bool
    insisted : bool
        Whether there was a second one.
    """

    def __init__(self):
        self.requested = self.insisted = False

    def __enter__(self):
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error):
        if self._is_main:
            signal.signal(signal.SIGINT, self._previous)
            del self._previous

    def _note(self, number, frame):
        if self.requested:
            self.insisted = True
            raise KeyboardInterrupt
        self.requested = True

    def until_requested(self, items):
        """Yield items up to the interrupt."""
        for item in items:
            yield item
            if self.requested:
                return
