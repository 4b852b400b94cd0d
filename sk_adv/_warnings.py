"""Warnings to the user: at the line of the user's own call, and each one time for a call."""

import functools
import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_HERE = str(Path(__file__).parent)
# The start of scikit-learn's warning.
_NAMES = "X does not have valid feature names"
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


@contextmanager
def about_names_once(estimator, X):
    """Let scikit-learn warn of missing feature names at the first prediction of a call alone.

    An attack asks an estimator for hundreds of predictions.
    """
    told = _TOLD.get()
    lacks = hasattr(estimator, "feature_names_in_") and not hasattr(X, "columns")
    if told is None or not lacks or _NAMES not in told:
        if told is not None and lacks:
            told.add(_NAMES)
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _NAMES)
        yield
