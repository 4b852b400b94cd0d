"""The largest number that still goes left at a threshold, by bisection over floating-point numbers.

A transformer that keeps order, or a cast to float32, turns the question "is g(x) <= t?" into
"is x <= t'?", where t' is the largest number with g(t') <= t. Bisection over all numbers of the
input's type finds it without a formula for g, and without an error of rounding. For the cast alone
there is a formula, which is faster.
"""

from collections.abc import Callable

import numpy as np

_INTEGERS = {np.dtype(np.float64): np.int64, np.dtype(np.float32): np.int32}


def last_true(goes_left: Callable, shape: tuple, dtype=np.float64) -> np.ndarray:
    """The largest finite numbers at which a predicate holds that is true up to some number.

    Parameters
    ----------
    goes_left : callable
        From an array of numbers, of the given shape and dtype, to an array of bool. Each entry
        has a predicate of its own.
    shape : tuple of int
    dtype : dtype, default=numpy.float64
        float32 or float64.

    Returns
    -------
    ndarray, float64
        Infinite where the predicate holds everywhere, and minus infinite where nowhere.
    """
    dtype = np.dtype(dtype)
    largest = np.finfo(dtype).max
    low = np.full(shape, _ordinal(np.array([-largest], dtype)))
    high = np.full(shape, _ordinal(np.array([largest], dtype)))
    everywhere = goes_left(_number(high, dtype))
    nowhere = ~goes_left(_number(low, dtype))
    # True at `low`, false at `high`.
    while (low + 1 < high).any():
        middle = (low & high) + ((low ^ high) >> 1)
        is_left = goes_left(_number(middle, dtype))
        low, high = np.where(is_left, middle, low), np.where(is_left, high, middle)
    found = _number(low, dtype).astype(np.float64)
    return np.where(everywhere, np.inf, np.where(nowhere, -np.inf, found))


def _ordinal(numbers):
    """The place of floating-point numbers among all of them, in int64; 0 is at 0."""
    integer = _INTEGERS[numbers.dtype]
    bits = numbers.view(integer).astype(np.int64)
    return np.where(bits < 0, np.iinfo(integer).min - bits, bits)


def _number(ordinals, dtype):
    """The floating-point numbers at these places."""
    integer = _INTEGERS[dtype]
    bits = np.where(ordinals < 0, np.iinfo(integer).min - ordinals, ordinals)
    return bits.astype(integer).view(dtype)


def as_compared_in_float32(thresholds: np.ndarray, *, strictly: bool = False) -> np.ndarray:
    """The largest float64 x with float32(x) <= t, or < t if `strictly`, for each threshold t.

    A number is cast to the nearest float32, so x is half-way between the last float32 on the left
    and the next one, or just below: a number half-way goes to the one whose last bit is 0.
    """
    t = np.asarray(thresholds, dtype=np.float64)
    infinity, largest = np.float32(np.inf), np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        last = t.astype(np.float32)
        is_right = last.astype(np.float64) >= t if strictly else last.astype(np.float64) > t
        last = np.where(is_right, np.nextafter(last, -infinity), last)
        following = np.nextafter(last, infinity)
        # Beyond the largest float32, the cast goes to infinity as if that were 2^128.
        ends = np.clip(np.stack([last, following]).astype(np.float64), -(2.0**128), 2.0**128)
        middle = ends[0] / 2 + ends[1] / 2
        found = np.where(middle.astype(np.float32) == last, middle, np.nextafter(middle, -np.inf))
    nowhere = strictly & np.isneginf(t)
    return np.where(last > largest, np.inf, np.where(nowhere, -np.inf, found))
