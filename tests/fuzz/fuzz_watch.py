"""What a call of the public interface must never do, and how it is noticed.

An error is *raw* unless it is a sentence that somebody wrote for the user. In detail, an exception
passes if all of these hold:

- Its type is one that the library documents: ValueError, TypeError, FloatingPointError,
  MemoryError, ImportError, OSError, or the AttributeError of a method that scikit-learn hides.
- The innermost Python frame of its traceback is in sk_adv, scikit-learn, skorch or
  imbalanced-learn, and stands on a `raise` statement, which no error from the C code of NumPy or
  torch does. Or sk_adv had called a validator in `sklearn.utils`: its errors are those that every
  estimator of scikit-learn gives, such as "could not convert string to float".
- Its message has at least three words.
"""

import ast
import functools
import linecache
import random
import signal
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import sklearn
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
from skorch import NeuralNet
from torch import nn

from sk_adv.attacks._table import ATTACKS

DOCUMENTED = (ValueError, TypeError, FloatingPointError, MemoryError, ImportError, OSError)
HIDDEN = ("has no attribute", "none of the following attributes")
VALIDATORS = tuple(
    f"sklearn/utils/{name}.py"
    for name in ("validation", "_param_validation", "multiclass", "class_weight", "_array_api")
)
SPEAKERS = ("/sk_adv/", "sklearn/", "/skorch/", "/imblearn/")


class Call:
    """One call of a public function.

    Parameters
    ----------
    function : callable
    args, kwargs : list, dict
    changes_self : bool
        Whether the first argument is an estimator that is fitted, so that only its parameters
        must stay.
    draws : tuple of {"numpy", "torch"}
        The global generators that the call may move.
    allows : {"", "inf", "nan"}
        What may stand in the result: "nan" allows both.
    """

    def __init__(self, function, *args, changes_self=False, draws=(), allows="", **kwargs):
        self.function, self.args, self.kwargs = function, args, kwargs
        self.changes_self, self.draws, self.allows = changes_self, draws, allows

    def __str__(self):
        name = getattr(self.function, "__qualname__", repr(self.function))
        parts = [_short(value) for value in self.args]
        parts += [f"{key}={_short(value)}" for key, value in self.kwargs.items()]
        return f"{name}({', '.join(parts)})"

    def inputs(self):
        """The fingerprints of all arguments, by name."""
        named = dict(enumerate(self.args)) | self.kwargs
        named.pop("random_state", None)
        if self.changes_self:
            # skorch trains the module that it is given.
            parameters = named[0].get_params(deep=False).items()
            kept = [pair for pair in parameters if pair[0] not in ("module", "random_state")]
            named[0] = dict(kept)
        return {name: fingerprint(value) for name, value in named.items()}


def findings(call):
    """Make a call, and describe in a list of sentences what it must not do.

    The error that the call raised, fit or unfit, is returned as well, or None.
    """
    found, error, result = [], None, None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        before, inputs = state(), call.inputs()
        spoilt = not all_finite((call.args, call.kwargs))
        try:
            result = call.function(*call.args, **call.kwargs)
        except Exception as raised:
            error = raised
            if why := rawness(raised):
                found.append(f"raw error: {why}: {type(raised).__name__}: {str(raised)[:200]}")
        after = state()
        changed = [name for name in before if before[name] != after[name]]
        found += [f"changed state: {name}" for name in changed if name not in call.draws]
        now = call.inputs()
        found += [f"changed input: {name}" for name in inputs if inputs[name] != now[name]]
        is_said = any(issubclass(item.category, UndefinedMetricWarning) for item in heard)
        if error is None and not (spoilt or is_said):
            kind = "" if all_finite(result, call.allows) else "NaN or infinity"
            found += [f"silent {kind} in the result"] if kind else []
    return found, error


def rawness(error):
    """Why an error is raw, or an empty string."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}"
    hidden = type(error) is AttributeError and any(words in str(error) for words in HIDDEN)
    if not (isinstance(error, DOCUMENTED) or hidden):
        return f"its type, from {place}"
    if len(str(error).split()) < 3:
        return f"no sentence, at {place}"
    ours = [at for at, frame in enumerate(frames) if "/sk_adv/" in frame.filename]
    below = frames[ours[-1] + 1 :] if ours else []
    if any(frame.filename.endswith(VALIDATORS) for frame in below):
        return ""
    if not any(part in frames[-1].filename for part in SPEAKERS):
        return f"it comes from {place}"
    if frames[-1].filename.endswith(".pyx"):
        # The source of compiled code of scikit-learn is not there to be read.
        return ""
    says = frames[-1].lineno in _raises(frames[-1].filename)
    return "" if says else f"no raise statement at {place}"


@functools.cache
def _raises(filename):
    """The numbers of the lines of a file that belong to a `raise` statement."""
    tree = ast.parse("".join(linecache.getlines(filename)) or Path(filename).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    # A bare `raise` passes on what another place has raised.
    return {n for node in nodes if node.exc for n in range(node.lineno, node.end_lineno + 1)}


def state():
    """The global state that no call may change."""
    return {
        "numpy": fingerprint(np.random.mtrand._rand.get_state()),
        "torch": fingerprint(torch.get_rng_state()),
        "random": hash(random.getstate()),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(),
        ),
        "autocast": torch.is_autocast_enabled("cpu"),
        "errors of numpy": str(np.geterr()),
        "printing of numpy": str(np.get_printoptions()),
        "filters": list(warnings.filters),
        "settings of scikit-learn": sklearn.get_config(),
        "attacks": dict(ATTACKS),
        "interrupt": signal.getsignal(signal.SIGINT),
    }


def all_finite(value, allows="", seen=None):
    """Whether no number in a value is NaN or infinite; `allows="inf"` lets infinity pass."""
    seen = set() if seen is None else seen
    if allows == "nan" or id(value) in seen or value is None or isinstance(value, (str, bytes)):
        return True
    if isinstance(value, nn.Module):
        tensors = [*value.parameters(), *value.buffers()]
        return all(all_finite(tensor, "inf", seen) for tensor in tensors)
    if isinstance(value, dict):
        # The norm and the bounds are no data.
        items = [item for key, item in value.items() if key not in ("norm", "bounds")]
        return all(all_finite(item, allows, seen) for item in items)
    if isinstance(value, (list, tuple)):
        return all(all_finite(item, allows, seen) for item in value)
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            return True
        value = value.detach().double().numpy() if value.is_floating_point() else None
    elif sparse.issparse(value):
        value = value.data
    elif isinstance(value, (pd.DataFrame, pl.DataFrame)):
        return all_finite(np.asarray(value.to_numpy(), dtype=object), allows, seen)
    elif isinstance(value, (pd.Series, pl.Series)):
        value = value.to_numpy()
    elif isinstance(value, BaseEstimator) or hasattr(value, "ax_"):
        seen.add(id(value))
        learnt = {k: v for k, v in vars(value).items() if k.endswith("_") and k != "history_"}
        learnt |= {k: getattr(value, k, None) for k in ("errors", "logits", "copies")}
        return all(all_finite(item, "inf", seen) for item in learnt.values())
    elif not isinstance(value, (np.ndarray, np.generic, float)):
        return True
    array = np.asarray(value)
    if array.dtype == object:
        return all(all_finite(item, allows, seen) for item in array.ravel())
    if array.dtype.kind not in "fc":
        return True
    return not np.isnan(array).any() if allows == "inf" else bool(np.isfinite(array).all())


def fingerprint(value, seen=()):
    """A hashable value that differs if anything that a caller can see has changed."""
    if id(value) in seen:
        return "cycle"
    seen = (*seen, id(value))
    inner = functools.partial(fingerprint, seen=seen)
    if isinstance(value, (pd.DataFrame, pd.Series)):
        frame = value if isinstance(value, pd.DataFrame) else value.to_frame()
        parts = [frame.iloc[:, j] for j in range(frame.shape[1])]
        labels = [str(value.index), str(getattr(value, "columns", ""))]
        return (*labels, *[inner(np.asarray(part)) for part in parts])
    if isinstance(value, (pl.DataFrame, pl.Series)):
        return str(getattr(value, "schema", "")), inner(value.to_numpy())
    if isinstance(value, np.ndarray):
        content = tuple(map(inner, value.ravel())) if value.dtype == object else value.tobytes()
        return value.dtype.str, value.shape, value.flags.writeable, hash(content)
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            return str(value)
        # In memory of its own, as the strides of a row may be 0.
        plain = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
        numbers = plain.flatten().view(torch.uint8).numpy()
        is_grown = value.is_leaf and value.grad is not None
        return str(value.dtype), tuple(value.shape), value.requires_grad, is_grown, inner(numbers)
    if sparse.issparse(value):
        content = value.tocoo()
        return value.format, value.shape, inner(content.data), inner((content.row, content.col))
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else value
        return (type(value).__name__, *[inner(item) for item in items])
    if value is np.random.mtrand._rand:
        return "global generator"
    if isinstance(value, np.random.RandomState):
        return inner(value.get_state())
    if isinstance(value, nn.Module):
        flags = tuple(part.training for part in value.modules())
        grown = tuple(weight.requires_grad for weight in value.parameters())
        hooks = sum(len(part._forward_pre_hooks) for part in value.modules())
        return (flags, grown, hooks, *[inner(tensor) for tensor in value.state_dict().values()])
    if isinstance(value, NeuralNet):
        # skorch puts the module in training or evaluation mode at each step.
        weights = value.module_.state_dict() if value.initialized_ else {}
        return (type(value).__name__, *map(inner, weights.values()))
    if isinstance(value, BaseEstimator):
        return (type(value).__name__, *[(k, inner(v)) for k, v in sorted(vars(value).items())])
    if isinstance(value, (str, bytes, int, float, complex, type(None), np.generic)):
        return type(value).__name__, repr(value)
    return type(value).__name__


def _short(value):
    kind = type(value).__name__
    if isinstance(value, BaseEstimator):
        return f"{value!r}".replace("\n", "").replace(" ", "")[:160]
    if (
        isinstance(getattr(value, "shape", None), tuple)
        and hasattr(value, "dtype")
        and np.shape(value) != ()
    ):
        return (
            f"<{kind} {value.dtype} {tuple(value.shape)}: {str(value).replace(chr(10), ' ')[:60]}>"
        )
    return f"{value!r}".replace("\n", " ")[:120]
