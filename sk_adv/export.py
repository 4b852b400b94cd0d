"""Fitted estimators as files for other programs: ONNX graphs, and weights as safetensors.

``pip install sk-adv[export]`` installs the packages that this needs.
"""

import copy
import functools
import importlib
import json
import os
from pathlib import Path

import torch
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_adv._devices import module_device_and_dtype
from sk_adv.differentiable import as_module
from sk_adv.differentiable._as_module import classes_of
from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network import AdversarialMaxoutClassifier, AdversarialNet

__all__ = ["load_weights", "save_weights", "to_onnx"]


def to_onnx(
    estimator: object,
    path: str | os.PathLike,
    *,
    opset: int | None = None,
    sample_shape: tuple[int, ...] | None = None,
) -> None:
    """Write a fitted classifier as an ONNX graph from raw inputs to probabilities.

    The graph has one input, ``X`` of shape (n_samples, n_features) in float32. It is in the units
    that the estimator takes, because the scalers of a `Pipeline` are part of the graph. For an
    `AdversarialNet` the samples have the shape that they had in training. The one output,
    ``probabilities`` of shape (n_samples, n_classes) in float32, is `predict_proba`, also if a
    net's `predict_nonlinearity` is not the softmax. The number of samples is free. The class labels
    are in the file's metadata under ``classes``, as JSON, in the order of the columns.

    Parameters
    ----------
    estimator : object
        A fitted classifier that `as_module` takes, such as `AdversarialMaxoutClassifier`,
        `AdversarialNet`, `AdversarialLogisticRegression`, or a `Pipeline` that ends in one.

    path : str or path-like
        The file to write. An existing file is replaced.

    opset : int or None, default=None
        Version of ONNX's operators; None leaves the choice to torch.

    sample_shape : tuple of int or None, default=None
        Shape of one sample. It is needed if the estimator does not know it, such as an
        `AdversarialNet` whose weights were loaded. None takes the shape from the estimator's fit.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    TypeError
        If the estimator is not a classifier, or `as_module` has no rule for it.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If the shape of a sample is not known.

    See Also
    --------
    sk_adv.differentiable.as_module : The module that is written.
    save_weights : The weights alone.

    Notes
    -----
    Within the graph each step computes in its own precision. Scalers and linear models use float64,
    networks the precision of their training.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_iris
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.export import to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> model = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(model, Path(folder) / "iris.onnx")
    ...     session = InferenceSession(Path(folder) / "iris.onnx")
    >>> (probabilities,) = session.run(None, {"X": X.astype(np.float32)})
    >>> bool(abs(probabilities - model.predict_proba(X)).max() < 1e-5)
    True
    """
    _require("to_onnx", "onnx", "onnxscript")
    if not is_classifier(estimator):
        raise TypeError(
            "to_onnx writes the probabilities of a classifier; got "
            f"{estimator!r}, which is not one. For a torch.nn.Module use torch.onnx.export."
        )
    nonlinearity = _nonlinearity(estimator)
    module = Probabilities(as_module(estimator, device="cpu"), nonlinearity).eval()
    # Two rows, because torch takes a single one for a constant.
    example = torch.zeros(2, *(sample_shape or _sample_shape(estimator)))
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        verbose=False,
        opset_version=opset,
        input_names=["X"],
        output_names=["probabilities"],
        dynamic_shapes={"X": {0: torch.export.Dim("n_samples")}},
    )
    labels = json.dumps(classes_of(estimator, example.numpy()).tolist(), default=str)
    program.model.metadata_props["classes"] = labels
    program.save(os.fspath(path), external_data=False)


def save_weights(
    estimator: AdversarialMaxoutClassifier | AdversarialNet, path: str | os.PathLike
) -> None:
    """Write the weights of a trained network as safetensors.

    The file holds the tensors of the module's `state_dict` under their names there, and nothing
    else: no parameters, no labels, no code.

    Parameters
    ----------
    estimator : AdversarialMaxoutClassifier or AdversarialNet
        Fitted, or an initialised net.

    path : str or path-like
        The file to write. An existing file is replaced.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    TypeError
        If the estimator is of another type.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    FileNotFoundError
        If the folder of the file does not exist.

    See Also
    --------
    load_weights : Reads the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from sk_adv import AdversarialMaxoutClassifier
    >>> from sk_adv.export import load_weights, save_weights
    >>> X, y = load_iris(return_X_y=True)
    >>> model = AdversarialMaxoutClassifier((8, 8), random_state=0).fit(X, y)
    >>> other = AdversarialMaxoutClassifier((8, 8), max_iter=1, random_state=1).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(model, Path(folder) / "iris.safetensors")
    ...     load_weights(other, Path(folder) / "iris.safetensors")
    >>> bool((other.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    safetensors = _require("save_weights", "safetensors.torch")
    module = _trained_module(estimator)
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} to write to: make it first.")
    safetensors.save_model(module, os.fspath(path))


def load_weights(
    estimator: AdversarialMaxoutClassifier | AdversarialNet, path: str | os.PathLike
) -> None:
    """Give a network the weights of a file that `save_weights` wrote.

    Labels and parameters, the history and the state of the optimizer stay as they are.

    Parameters
    ----------
    estimator : AdversarialMaxoutClassifier or AdversarialNet
        Fitted, or an initialised net, with layers of the same sizes. Its classes should be those
        of the saved model: output k belongs to the label k of either.

    path : str or path-like
        The file to read.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    TypeError
        If the estimator is of another type.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If the path is a folder.
    ValueError
        If the file is no safetensors file, or its tensors are not those of the network, which is
        then left as it was.

    See Also
    --------
    save_weights : Writes the file, and has an example of both.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from sk_adv.export import load_weights, save_weights
    >>> from sk_adv.neural_network import AdversarialNet
    >>> nets = [AdversarialNet(torch.nn.Linear(4, 2)).initialize() for _ in range(2)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(nets[0], Path(folder) / "linear.safetensors")
    ...     load_weights(nets[1], Path(folder) / "linear.safetensors")
    """
    safetensors = _require("load_weights", "safetensors.torch")
    from safetensors import SafetensorError

    module = _trained_module(estimator)
    if Path(path).is_dir():
        raise IsADirectoryError(
            f"path must name a file that save_weights wrote; {path} is a folder."
        )
    before = copy.deepcopy(module.state_dict())
    try:
        safetensors.load_model(module, os.fspath(path))
    except (RuntimeError, SafetensorError) as error:
        module.load_state_dict(before)
        raise ValueError(
            f"{os.fspath(path)} does not hold the weights of this network; save_weights writes "
            f"such a file, and the layers must have the same sizes. ({error})"
        ) from error


class Probabilities(nn.Module):
    """The `predict_proba` of a module that gives logits, in the precision of X."""

    def __init__(self, logits, nonlinearity):
        super().__init__()
        self.logits, self.nonlinearity = logits, nonlinearity
        _, self.dtype = module_device_and_dtype(logits)

    def forward(self, X):
        """Map X of shape (n_samples, ...) to (n_samples, n_classes)."""
        logits = self.logits(X.to(self.dtype))
        # skorch takes the first of several outputs.
        logits = logits[0] if isinstance(logits, tuple) else logits
        return self.nonlinearity(logits).to(X.dtype)


def _nonlinearity(estimator):
    """The function that turns the outputs of a classifier's module into its `predict_proba`."""
    if isinstance(estimator, Pipeline):
        return _nonlinearity(estimator[-1])
    if isinstance(estimator, BaseSearchCV):
        return _nonlinearity(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return _nonlinearity(estimator.estimator)
    if isinstance(estimator, AdversarialNet):
        # For losses other than the softmax's it is the identity, or predict_nonlinearity.
        return estimator._get_predict_nonlinearity()
    return functools.partial(torch.softmax, dim=1)


def _sample_shape(estimator):
    if isinstance(estimator, AdversarialNet):
        shape = getattr(estimator, "sample_shape_", None)
    else:
        n_features = getattr(estimator, "n_features_in_", None)
        shape = n_features and (n_features,)
    if shape is None:
        raise ValueError(
            f"The shape of a sample is not known to this {type(estimator).__name__}: pass it, as "
            "in to_onnx(estimator, path, sample_shape=(3, 32, 32))."
        )
    return shape


def _require(what, *modules):
    """Import some modules, all of which `what` needs, and return the last."""
    try:
        for name in modules:
            module = importlib.import_module(name)
    except ImportError as error:
        names = " and ".join(name.partition(".")[0] for name in modules)
        raise ImportError(f"{what} needs {names}: pip install sk-adv[export]") from error
    return module


def _trained_module(estimator):
    if isinstance(estimator, AdversarialMaxoutClassifier):
        check_is_fitted(estimator)
        estimator = estimator.net_
    if not isinstance(estimator, AdversarialNet):
        raise TypeError(
            "Weights are those of an AdversarialMaxoutClassifier or an AdversarialNet; got "
            f"{estimator!r}. For a pipeline pass the last step, pipeline[-1]."
        )
    estimator.check_is_fitted(["module_"])
    return plain_module(estimator)
