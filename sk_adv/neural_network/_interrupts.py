"""Ctrl-C that takes effect after the current batch."""

import signal
import threading


class DeferredInterrupt:
    """A context in which the first Ctrl-C only sets `requested`; the second interrupts at once.

    Signals reach only the main thread. In other threads the context does nothing.

    Attributes
    ----------
    requested : bool
        Whether Ctrl-C was pressed.
    repeated : bool
        Whether it was pressed again.
    """

    def __init__(self):
        self.requested = self.repeated = False

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
            self.repeated = True
            raise KeyboardInterrupt
        self.requested = True

    def until_requested(self, items):
        """Yield items until Ctrl-C is pressed."""
        for item in items:
            yield item
            if self.requested:
                return


class SharedInterrupt(DeferredInterrupt):
    """The same for one of several processes, which must end their training after the same batch.

    Attributes
    ----------
    noted : bool
        Whether Ctrl-C was pressed here. The training sets `requested` once all processes know.
    ends_epoch : bool
        Whether any process asks for the end of the training.
    """

    noted = ends_epoch = False

    def until_requested(self, items):
        """Yield items until any process asks for the end."""
        for item in items:
            yield item
            if self.ends_epoch:
                return

    def _note(self, number, frame):
        if self.noted:
            self.repeated = True
            raise KeyboardInterrupt
        self.noted = True
