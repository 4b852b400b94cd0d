"""MNIST as the paper uses it: flattened, pixels in [0, 1]."""

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.model_selection import train_test_split

from sk_adv.datasets import fetch_mnist, load_mnist_sample


@dataclass(frozen=True)
class Digits:
    """Training and test images of one task.

    Attributes
    ----------
    name : str
        Stands in the names of cached models.
    X_train, X_test : ndarray of shape (n_samples, 784), float32
    y_train, y_test : ndarray of shape (n_samples,), int64
    """

    name: str
    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray

    @cached_property
    def checksum(self) -> int:
        """A checksum of the training images and their labels."""
        return zlib.crc32(self.y_train.tobytes(), zlib.crc32(self.X_train.tobytes()))

    def only(self, *classes: int) -> "Digits":
        """The digits of some classes."""
        train, test = np.isin(self.y_train, classes), np.isin(self.y_test, classes)
        name = f"{self.name}, {' versus '.join(map(str, classes))}"
        return Digits(
            name, self.X_train[train], self.X_test[test], self.y_train[train], self.y_test[test]
        )

    def trained_on(self, n_train: int) -> "Digits":
        """The first training images, as many as asked for, and all test images."""
        return Digits(
            f"{self.name}, {n_train} training images",
            self.X_train[:n_train],
            self.X_test,
            self.y_train[:n_train],
            self.y_test,
        )

    def of_pixels(self, pixels: np.ndarray) -> "Digits":
        """Some pixels of all images."""
        name = f"{self.name}, {len(pixels)} pixels"
        return Digits(
            name, self.X_train[:, pixels], self.X_test[:, pixels], self.y_train, self.y_test
        )

    def first(self, n_test: int) -> "Digits":
        """All training images, and the first test images, as many as asked for."""
        return Digits(
            self.name, self.X_train, self.X_test[:n_test], self.y_train, self.y_test[:n_test]
        )


def load(quick: bool) -> Digits:
    """All of MNIST with its own test set, or 4,000 and 1,000 digits of the sample."""
    if not quick:
        mnist = fetch_mnist()
        X, y, train = mnist.data, mnist.target, mnist.is_train
        return Digits("MNIST", X[train], X[~train], y[train], y[~train])
    sample = load_mnist_sample()
    parts = train_test_split(
        sample.data, sample.target, test_size=1000, stratify=sample.target, random_state=0
    )
    return Digits("sample", *parts)
