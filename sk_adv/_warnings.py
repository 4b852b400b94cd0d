"""Warnings to the user: at the line of the user's own call, and each one time for a call."""

import functools
import sys
import warnings
from contextvars import ContextVar
from pathlib import Path

_HERE = str(Path(__file__).parent)
_TOLD = ContextVar("messages of the call that runs", default=None)


def warn(message):
    """Issue a `UserWarning` at the line that called the library, unless this call has said it."""
    told = _TOLD.get()
    if told is not None:
        if message in told:
            return
        told.add(message)
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def tells_once(function):
    """Let a function, and all that it calls, issue each message of `warn` one time."""

    @functools.wraps(function)
    def called(*args, **kwargs):
        if _TOLD.get() is not None:
            return function(*args, **kwargs)
        token = _TOLD.set(set())
        try:
            return function(*args, **kwargs)
        finally:
            _TOLD.reset(token)

    return called
