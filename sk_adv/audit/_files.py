"""Models and data from files, each fault as one sentence."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

# Types beside those of skops that run no code of the file.
_SAFE_TYPES = {
    "numpy.dtype",
    "sk_adv.linear_model._cv.AdversarialLogisticRegressionCV",
    "sk_adv.linear_model._logistic.AdversarialLogisticRegression",
    "sk_adv.neural_network._maxout.AdversarialMaxoutClassifier",
    # A list, in column transformers of scikit-learn 1.6 and 1.7.
    "sklearn.compose._column_transformer._RemainderColsList",
}


class FileError(ValueError):
    """A file that can't be used; the message is one sentence for the user."""


def read_model(path, *, allow_code=False, trusted=()):
    """A fitted classifier from a file.

    Parameters
    ----------
    path : pathlib.Path
        A file of skops, joblib or pickle.
    allow_code : bool, default=False
        Whether a file of joblib or pickle may be read, which can run any code.
    trusted : sequence of str, default=()
        Types in a skops file, beside those that skops knows to be safe.

    Returns
    -------
    object

    Raises
    ------
    FileError
        If the file can't be read, may run code, or holds types that are not trusted.
    """
    _check_file(path)
    if zipfile.is_zipfile(path) and "schema.json" in zipfile.ZipFile(path).namelist():
        return _read_skops(path, set(trusted) | _SAFE_TYPES)
    if not allow_code:
        raise FileError(
            f"{str(path)!r} is no skops file, and reading a file of joblib or pickle can run any "
            "code that someone has put into it: write the model by skops.io.dump, or pass "
            "--allow-code-in-model if you trust everyone who could change this file."
        )
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:
        # A pickle can raise anything.
        raise FileError(
            f"{str(path)!r} can't be read as a model by joblib ({_short(error)})."
        ) from error


def _read_skops(path, trusted):
    import skops.io

    try:
        named = skops.io.get_untrusted_types(file=path)
        unknown = sorted(set(named) - trusted)
        if not unknown:
            return skops.io.load(path, trusted=named)
    except Exception as error:
        raise FileError(f"{str(path)!r} can't be read by skops ({_short(error)}).") from error
    raise FileError(
        f"{str(path)!r} holds types that skops does not know to be safe: {', '.join(unknown)}. "
        f"If you know and trust them, pass --trust {' '.join(unknown)}"
    )


def read_data(path):
    """A frame from a CSV or Parquet file.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    FileError
        If the file can't be read, or holds no rows or no columns.
    """
    import pandas as pd

    _check_file(path)
    with open(path, "rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    try:
        data = pd.read_parquet(path) if is_parquet else pd.read_csv(path)
    except Exception as error:
        # The readers of pandas raise their own errors, and those of the libraries below.
        kind = "Parquet" if is_parquet else "CSV"
        raise FileError(f"{str(path)!r} can't be read as {kind} ({_short(error)}).") from error
    if not len(data):
        raise FileError(f"{str(path)!r} holds no rows.")
    if not data.columns.is_unique:
        twice = data.columns[data.columns.duplicated()].tolist()
        raise FileError(f"{str(path)!r} has several columns of the name {twice[0]!r}.")
    data.columns = [str(name) for name in data.columns]
    return data


def samples_for(estimator, data, target, dropped=()):
    """The samples in the form that an estimator was fitted on, and their labels.

    Parameters
    ----------
    estimator : object
        Fitted on a frame or on an array.
    data : pandas.DataFrame
    target : str
        The column of labels.
    dropped : sequence of str, default=()
        Columns to leave out.

    Returns
    -------
    X : pandas.DataFrame or ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    names : list of str
        The names of the columns of X.
    unused : list of str
        Columns of the file that the model was not fitted on.

    Raises
    ------
    FileError
        If a column is missing or there are too many, or a label is missing.
    """
    for name in (target, *dropped):
        if name not in data.columns:
            raise FileError(f"The data has no column {name!r}; it has {_some(data.columns)}.")
    y = data[target]
    if y.isna().any():
        raise FileError(
            f"{int(y.isna().sum())} of {len(y)} rows have no label in {target!r}: leave them out."
        )
    X = data.drop(columns=[target, *dropped])
    fitted_on = getattr(estimator, "feature_names_in_", None)
    if fitted_on is not None:
        missing = [name for name in fitted_on if name not in X.columns]
        if missing:
            raise FileError(
                f"The model was fitted on columns that the data lacks: {_some(missing)}; the data "
                f"has {_some(X.columns)}."
            )
        unused = [name for name in X.columns if name not in set(fitted_on)]
        return X[list(fitted_on)], y.to_numpy(), list(fitted_on), unused
    n_features = getattr(estimator, "n_features_in_", X.shape[1])
    if n_features != X.shape[1]:
        raise FileError(
            f"The model was fitted on {n_features} features without names, and the data has "
            f"{X.shape[1]} columns beside {target!r}: leave out columns by --drop, and keep the "
            "order of the fit."
        )
    names = list(X.columns)
    return _as_array(estimator, X), y.to_numpy(), names, []


def _as_array(estimator, X):
    """The frame as an array; in the precision of the weights of a net of skorch, which needs it."""
    X = X.to_numpy()
    if hasattr(estimator, "module_"):
        dtypes = [values.numpy().dtype for values in _weights(estimator.module_)]
        X = X.astype(dtypes[0] if dtypes else np.float32)
    return X


def _weights(module):
    weights = [weight.detach().cpu() for weight in module.parameters()]
    # bfloat16 is a type of torch alone.
    return [weight for weight in weights if str(weight.dtype) in ("torch.float32", "torch.float64")]


def digest(path):
    """The SHA-256 digest of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path):
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise FileError(f"{str(path)!r} is empty.")
    except OSError as error:
        raise FileError(f"{str(path)!r} can't be read ({error.strerror}).") from error


def check_can_be_written(path):
    """Raise `FileError` unless a file can be made at a path; called before the work begins."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise FileError(f"{str(path)!r} is a folder, and a file is to be written.")
    if not folder.is_dir():
        raise FileError(f"The folder {str(folder)!r} of {str(path)!r} does not exist.")


def _short(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _some(names, n=10):
    names = [str(name) for name in names]
    text = ", ".join(names[:n])
    return text if len(names) <= n else f"{text} and {len(names) - n} more"
