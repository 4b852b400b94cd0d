"""Values for the arguments of a call, usual and odd, drawn by a seed."""

import os
import random
import tempfile
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import torch
from scipy import sparse
from torch import nn

COLUMNS = ["a", "b", "c"]
NORMAL = np.random.default_rng(0).normal(size=(24, 3))
INDICES = {
    2: (NORMAL @ [1.0, -2.0, 0.5] > 0).astype(int),
    3: np.argmax(NORMAL @ np.array([[1, 0, -1], [-1, 2, 0], [0.0, -1, 1]]), axis=1),
}
# Removed as the process ends.
FOLDER = tempfile.TemporaryDirectory(prefix="sk_adv_fuzz_")


class Draw:
    """Random choices of one call."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self.numbers = np.random.default_rng(self._random.getrandbits(32))
        self._odd = self._random.choice([0.0, 0.1, 0.1, 0.25])

    def is_odd(self):
        """Whether the next argument is an odd one."""
        return self._random.random() < self._odd

    def chance(self, share):
        """True in this share of the calls."""
        return self._random.random() < share

    def of(self, *options):
        """One of the options."""
        return self._random.choice(options)

    def usual_or_odd(self, usual, odd):
        """One of the usual values, or, now and then, one of the odd ones."""
        return self._random.choice(odd if self.is_odd() else usual)

    def seed(self):
        """A value for `random_state`, and the generators that it lets a call move."""
        given = self.usual_or_odd([0, 1, None], [np.random.RandomState(0), "a", -1, 1.5, 2**40])
        return given, ("numpy",) if given is None else ()


def samples(draw, n_features=3):
    """X in any container, and its number of rows."""
    n = draw.of(12, 24)
    X = NORMAL[:n, :n_features].copy()
    if draw.is_odd() or draw.chance(0.15):
        X = spoilt(draw, X)
    if draw.is_odd():
        X = reshaped(draw, X)
    X = np.asarray(X)
    return (contained(draw, X) if draw.chance(0.4) else X), len(np.atleast_1d(X))


def spoilt(draw, X):
    """X with unusual numbers."""
    kind = draw.of(
        "zero", "one", "huge", "large", "tiny", "nan", "inf", "same", "units", "constant"
    )
    some = draw.numbers.random(X.shape) < 0.1
    return {
        "zero": lambda: X * 0,
        "one": lambda: np.where(some, 1.0, X),
        "huge": lambda: X * 1e300,
        "large": lambda: X * 1e30,
        "tiny": lambda: X * 1e-300,
        "nan": lambda: np.where(some, np.nan, X),
        "inf": lambda: np.where(some, draw.of(np.inf, -np.inf), X),
        "same": lambda: np.repeat(X[:1], len(X), axis=0),
        "units": lambda: X * np.array([1e-150, 1.0, 1e150])[: X.shape[1]],
        "constant": lambda: np.where(np.arange(X.shape[1]) == 1, 7.0, X),
    }[kind]()


def reshaped(draw, X):
    """X in another shape."""
    wider = np.hstack([X, X])
    return draw.of(X[:1], X[:1], X[:0], X[:, :1], X[:, :0], X[:, 0], wider, X[:, :, None], X[0, 0])


def contained(draw, X):
    """X in another container or dtype."""
    kinds = [
        "float32",
        "float16",
        "int64",
        "int8",
        "uint8",
        "bool",
        "list",
        "readonly",
        "longdouble",
    ]
    kinds += ["fortran", "reversed", "bigendian", "tensor", "tensor32", "half", "bfloat16", "grad"]
    kinds += ["object", "tensor int", "strided tensor"]
    if X.ndim == 2:
        kinds += ["pandas", "pandas", "pandas int", "polars", "csr", "csc", "csr_matrix", "memmap"]
        kinds += ["extension", "same names", "memmap32", "nested"]
    if draw.is_odd():
        kinds = ["dict", "text", "object text", "complex", "None", "sparse tensor", "set", "str"]
        kinds += ["dates", "masked", "generator", "lists of text", "ragged"]
    kind = draw.of(*kinds)
    names = [COLUMNS[j] if j < 3 else f"d{j}" for j in range(X.shape[1] if X.ndim > 1 else 1)]
    with np.errstate(all="ignore"):
        return {
            **{name: lambda name=name: X.astype(name) for name in _DTYPES},
            "list": lambda: X.tolist(),
            "nested": lambda: [tuple(row) for row in X],
            "readonly": lambda: _readonly(X),
            "fortran": lambda: np.asfortranarray(X),
            "reversed": lambda: np.flip(np.flip(X).copy()),
            "bigendian": lambda: X.astype(">f8"),
            "object": lambda: X.astype(object),
            "tensor": lambda: torch.tensor(X),
            "strided tensor": lambda: torch.tensor(np.stack([X, X], -1))[..., 0],
            "tensor32": lambda: torch.tensor(X, dtype=torch.float32),
            "tensor int": lambda: torch.tensor(X).long(),
            "half": lambda: torch.tensor(X, dtype=torch.float16),
            "bfloat16": lambda: torch.tensor(X, dtype=torch.bfloat16),
            "grad": lambda: torch.tensor(X, requires_grad=True),
            "pandas": lambda: pd.DataFrame(X, columns=names, index=np.arange(len(X)) + 7),
            "pandas int": lambda: pd.DataFrame(X, columns=names).astype("float32"),
            "extension": lambda: pd.DataFrame(X, columns=names).astype("Float64"),
            "same names": lambda: pd.DataFrame(X, columns=["a"] * X.shape[1]),
            "polars": lambda: pl.DataFrame(X, schema=names),
            "csr": lambda: sparse.csr_array(X),
            "csc": lambda: sparse.csc_array(X),
            "csr_matrix": lambda: sparse.csr_matrix(X),
            "memmap": lambda: _memmap(X),
            "memmap32": lambda: _memmap(X.astype(np.float32)),
            "dict": lambda: {"a": X},
            "text": lambda: X.astype(str),
            "object text": lambda: np.where(X > 0, X.astype(object), "x"),
            "lists of text": lambda: ["a b"] * len(np.atleast_1d(X)),
            "complex": lambda: X.astype(complex),
            "None": lambda: None,
            "sparse tensor": lambda: torch.tensor(X).to_sparse(),
            "set": lambda: {1.0, 2.0},
            "str": lambda: "X",
            "dates": lambda: np.zeros(X.shape, dtype="datetime64[s]"),
            "masked": lambda: np.ma.masked_array(X, X > 1),
            "generator": lambda: (row for row in np.atleast_1d(X)),
            "ragged": lambda: [[1.0], [1.0, 2.0]],
        }[kind]()


_DTYPES = ["float32", "float16", "int64", "int8", "uint8", "bool", "longdouble"]


def _readonly(X):
    X = X.copy()
    X.setflags(write=False)
    return X


def _memmap(X):
    path = os.path.join(FOLDER.name, f"{X.dtype}.{'-'.join(map(str, X.shape))}")
    if not X.size:
        return X
    stored = np.memmap(path, dtype=X.dtype, mode="w+", shape=X.shape)
    stored[:] = X
    stored.flush()
    return np.memmap(path, dtype=X.dtype, mode="c", shape=X.shape)


def labels(draw, n, names=(0, 1)):
    """Labels of n samples, of the classes of these names."""
    y = np.asarray(names)[INDICES[len(names)][:n] if n <= 24 else np.zeros(n, dtype=int)]
    if not draw.is_odd():
        return draw.of(y, y, y, y.tolist(), pd.Series(y, index=np.arange(n) + 3), y.astype(object))
    numbers = np.arange(n) % 2
    return draw.of(
        *[y[:-1], y.reshape(-1, 1), np.full(n, "unknown"), np.zeros(n, dtype=int), numbers * 0.5],
        *[np.where(numbers, np.nan, 1.0), [None] * n, None, np.where(numbers, None, "a"), "a", 1],
        *[np.array(["a", 1, None, 2.5] * n, dtype=object)[:n], np.full(n, np.datetime64("NaT"))],
        *[
            np.eye(2, dtype=int)[numbers],
            torch.tensor(numbers),
            numbers.astype(float),
            numbers == 1,
        ],
        *[numbers * -1, numbers + 7, np.array([[]]), numbers.astype(">i4"), numbers.astype(">U3")],
        *[torch.tensor(numbers).bool(), pl.Series(numbers), {"a": 1}, numbers.astype(np.uint8)],
        *[np.full(n, 10**18), np.arange(n), numbers * 1j, pd.Series(y).astype("category"), []],
        *[pd.array(numbers, dtype="Int64"), numbers.astype(bytes), torch.tensor(numbers) * 1.0],
    )


def indices(draw, n, n_classes):
    """Class indices, as attacks on modules take them."""
    y = INDICES[n_classes][:n] if n <= 24 else np.zeros(n, dtype=int)
    if draw.is_odd():
        return labels(draw, n, range(n_classes))
    return draw.of(y, y, torch.tensor(y), y.tolist(), y.astype(np.int8))


def epsilon(draw, X=None):
    """A radius."""
    usual = [
        0.1,
        0.1,
        0.5,
        0,
        1,
        1e-12,
        np.float32(0.1),
        [0.1, 0.0, 0.2],
        np.array([0.1, 0.2, 0.3]),
    ]
    usual += [torch.tensor([0.1, 0.0, 0.2]), np.array(0.1), torch.tensor(0.1), (0.1, 0.2, 0.3)]
    if hasattr(X, "columns"):
        usual += [{"a": 0.1}, pd.Series([0.1, 0.2, 0.3], COLUMNS), {}, {"b": np.float32(1)}]
    odd = [1e300, 1e-300, 1e30, np.inf, -1, np.nan, "large", "0.1", None, [0.1, 0.2], True, 1j]
    odd += [{"a": 0.1}, {"zz": 1}, {"a": "x"}, object(), np.ones((1, 3)), [], [None, 1, 2], 10**400]
    odd += [
        pd.Series([0.1], ["a"]),
        np.array([0.1, np.nan, 1]),
        [[0.1], [0.2]],
        Decimal("0.1"),
        b"1",
    ]
    odd += [pd.Series([0.1, 0.2, 0.3], ["a", "a", "b"]), np.datetime64("2020"), {1, 2}, [1j, 1, 1]]
    odd += [
        pd.DataFrame([[0.1, 0.2, 0.3]], columns=COLUMNS),
        pl.Series([0.1, 0.2, 0.3]),
        nn.Identity,
    ]
    odd += [torch.ones(3, dtype=torch.bfloat16), torch.ones(3, requires_grad=True), {"a": None}]
    odd += [
        {"a": [1, 2]},
        sparse.csr_array(np.ones((1, 3))),
        np.ma.masked_array([1, 2, 3.0]),
        "inf",
    ]
    return draw.usual_or_odd(usual, odd)


def norm(draw):
    """A norm."""
    odd = [1, "inf", "l2", 0, None, np.nan, -np.inf, [2], True, np.array(2), np.array([2, 2]), 2j]
    return draw.usual_or_odd([np.inf, np.inf, 2, 2.0, np.float64(2), float("inf")], odd)


def bounds(draw, X=None):
    """The valid range of X."""
    usual = [None, None, None, None, (-1, 1), [-3, 3], ([-1, -2, -3], [1, 2, 3]), (-np.inf, np.inf)]
    usual += [(np.full(3, -1.0), 2), (torch.zeros(3), torch.ones(3)), np.array([0, 1]), (None, 1)]
    if hasattr(X, "columns"):
        usual += [({"a": -1}, {"b": 1}), ({"a": 0}, None), (0, pd.Series([1, 2, 3], COLUMNS))]
    odd = [(1, -1), (0,), "ab", 5, {"a": (0, 1)}, (np.nan, 1), ("a", "b"), (0, 1, 2), ([0, 1], 1)]
    odd += [((), ()), (None, None), ({"a": 0}, None), ({"zz": 0}, {"a": 1}), (1j, 2), (0, 10**400)]
    odd += [(1e300, 1e301), (0, 0), np.zeros((2, 3)), (x for x in (0, 1)), {0, 1}, (object(), 1)]
    odd += [(-1e-300, 1e-300), (np.inf, np.inf), (-np.inf, -np.inf), (5, 6), b"ab", np.array(1)]
    odd += [pd.DataFrame({"low": [0, 0, 0], "high": [1, 1, 1]}), ([[0]], [[1]]), (True, False)]
    return draw.usual_or_odd(usual, odd)


def weights(draw, n):
    """Sample weights."""
    usual = [None, None, None, np.ones(n), np.arange(n) + 1.0, np.arange(n) % 3, [0.5] * n]
    odd = [
        np.zeros(n),
        -np.ones(n),
        np.full(n, np.nan),
        np.ones(n + 1),
        np.full(n, 1e308),
        "balanced",
    ]
    odd += [
        np.full(n, np.inf),
        (np.arange(n) % 2).astype(float),
        torch.ones(n),
        pd.Series(np.ones(n)),
    ]
    odd += [
        np.ones((n, 1)),
        2.0,
        0,
        ["a"] * n,
        np.full(n, 1e-320),
        [None] * n,
        np.ones(n, dtype=bool),
    ]
    odd += [
        INDICES[2][:n].astype(float) if n <= 24 else None,
        np.ones(n) * 1j,
        {"a": 1},
        -1.0,
        True,
    ]
    odd += [torch.ones(n, dtype=torch.bfloat16), torch.ones(n, requires_grad=True), np.float16(2)]
    return draw.usual_or_odd(usual, odd)


def shift(module, X, y, epsilon, *, norm, bounds, share=1.0):
    """A user's own attack."""
    return X + share * epsilon


def attack(draw):
    """An attack, and arguments for it."""
    from sk_adv.attacks import fgsm, pgd

    names = [
        "fgsm",
        "fgsm",
        "pgd",
        "exact",
        "uniform_noise",
        "sign_noise",
        "rotate_towards_gradient",
        "square",
    ]
    odd = ["FGSM", None, 3, "", ["fgsm"], lambda X: X, np.abs, print, pgd]
    which = draw.usual_or_odd([*names, fgsm, shift], odd)
    params = {"n_steps": 3} if which in ("pgd", pgd) else None
    params = {"n_queries": 5} if isinstance(which, str) and which == "square" else params
    if draw.is_odd():
        params = draw.of(
            *[{"n_steps": 0}, {"n_steps": 2.5}, {"zz": 1}, [1], "a", {"epsilon": 1}, {1: 2}, {}],
            *[{"step_size": -1}, {"step_size": [0.1] * 3, "n_steps": 2}, {"share": 0.5}],
            *[{"n_restarts": 2, "n_steps": 2}, {"random_start": False, "n_steps": 2}],
            *[{"n_restarts": 2, "random_start": False}, {"batch_size": 5}, {"batch_size": 0}],
            *[{"loss": "a"}, {"loss": lambda z, y: z.sum()}, {"loss": None}, {"random_state": "a"}],
            *[{"n_steps": np.int64(2)}, {"n_steps": True}, {"targeted": True}, {"n_steps": None}],
            *[{"batch_size": 2.0}, {"step_size": "a", "n_steps": 1}, {"loss": lambda z, y: 1.0}],
            *[{"random_start": "yes", "n_steps": 2}, {"step_size": np.inf, "n_steps": 1}],
        )
    return which, params


def device(draw, usual=None):
    """A device."""
    return draw.usual_or_odd(
        [usual, "cpu", torch.device("cpu")], ["cuda:9", "toaster", 3, "meta", 1.5]
    )
