"""Fitted estimators as files for other programs: ONNX graphs, and weights as safetensors.

``pip install -e ".[export]"`` in the checkout installs the packages that this needs.
"""

import copy
import importlib
import json
import logging
import os
import uuid
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_adv._validation import name_of
from sk_adv.differentiable import as_module, log_probabilities
from sk_adv.differentiable._as_module import classes_of, classifier_within
from sk_adv.differentiable._networks import plain_modules
from sk_adv.neural_network import AdversarialMaxoutClassifier, AdversarialNet
from sk_adv.neural_network._checkpoint_file import disk

__all__ = ["load_weights", "save_weights", "to_onnx"]


def to_onnx(
    estimator: object,
    path: str | os.PathLike,
    *,
    opset: int | None = None,
    sample_shape: tuple[int, ...] | None = None,
) -> None:
    """Write a fitted classifier as an ONNX graph from raw inputs to probabilities.

    The graph has one input, ``X`` of shape (n_samples, n_features). It is in the units
    that the estimator takes, because the scalers of a `Pipeline` are part of the graph. For an
    `AdversarialNet` the samples have the shape that they had in training. The one output,
    ``probabilities`` of shape (n_samples, n_classes), is `predict_proba`, also if a
    net's `predict_nonlinearity` is not the softmax. The number of samples is free. The class labels
    are in the file's metadata under ``classes``, as JSON, in the order of the columns.

    Input and output have the floating-point type that the estimator was fitted on, as far as its
    weights tell: float32 for networks in float32 and estimators that were fitted to float32, else
    float64. Behind a scaler, which keeps its numbers in float64, `AdversarialMaxoutClassifier` has
    an input in float64.

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
        If the estimator is not a classifier with `predict_proba`, or `as_module` has no rule for
        it; for `SVC` and `NuSVC` with `probability=True`, whose probabilities have no rule; or if a
        step in float64 needs an operator that ONNX Runtime has in float32 only, as a
        `GaussianProcessClassifier` does.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If the shape of a sample is not known, or the module fixes the number of samples.
    FileNotFoundError
        If the folder of the file does not exist.
    IsADirectoryError
        If the path is a folder.
    OSError
        If the file can't be written, as on a full disk. A file that was there stays as it was.

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
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_iris
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.export import to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> model = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(model, Path(folder) / "iris.onnx")
    ...     session = InferenceSession(Path(folder) / "iris.onnx")
    >>> (probabilities,) = session.run(None, {"X": X})
    >>> bool(abs(probabilities - model.predict_proba(X)).max() < 1e-5)
    True
    """
    _require("to_onnx", "onnx", "onnxscript")
    _check_target(path)
    if not is_classifier(estimator):
        raise TypeError(
            "to_onnx writes the probabilities of a classifier; got "
            f"{estimator!r}, which is not one. For a torch.nn.Module use torch.onnx.export."
        )
    check_is_fitted(estimator)
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"to_onnx writes predict_proba, which this {type(estimator).__name__} does not have: "
            "fit a CalibratedClassifierCV around it, and export that."
        )
    try:
        logits = as_module(estimator, device="cpu")
    except TypeError as error:
        # Advice for attacks is none for files.
        if "surrogate" not in str(error):
            raise
        raise TypeError(
            f"to_onnx writes what as_module makes of a model, and can't write this "
            f"{name_of(estimator)}: {str(error).partition('. ')[0]}. Save the model itself by "
            "skops.io.dump(estimator, path), and serve it with the packages that it was made with. "
            "If only ONNX will do, fit another model that has a rule, such as "
            "AdversarialMaxoutClassifier(), to X and estimator.predict(X), and export that: it "
            "answers differently on some rows."
        ) from error
    module = Probabilities(logits, _nonlinearity(estimator)).eval()
    dtype = _input_dtype(estimator, logits)
    # Two rows, because torch takes a single one for a constant.
    example = torch.zeros(2, *(sample_shape or _sample_shape(estimator)), dtype=dtype)
    # The exporter would hide an error of the module, such as one about its probabilities.
    module(example)
    with _without_foreign_notes():
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
    _check_graph(program.model.graph, estimator)
    labels = json.dumps(classes_of(estimator, example.numpy()).tolist(), default=str)
    program.model.metadata_props["classes"] = labels
    with _replacing(path) as beside:
        program.save(os.fspath(beside), external_data=False)


def save_weights(
    estimator: AdversarialMaxoutClassifier | AdversarialNet, path: str | os.PathLike
) -> None:
    """Write the weights of a trained network as safetensors.

    The file holds the tensors of the module's `state_dict` under their names there, and nothing
    else: no parameters, no labels, no code. If a net has several modules, all of them are written,
    and the names begin with the module's, such as ``encoder.weight``.

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
    IsADirectoryError
        If the path is a folder.
    OSError
        If the file can't be written, as on a full disk. A file that was there stays as it was.

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
    from safetensors import SafetensorError

    module = _trained_module(estimator)
    _check_target(path)
    with _replacing(path) as beside:
        try:
            safetensors.save_model(module, os.fspath(beside))
        except SafetensorError as error:
            # It hides the OSError of its own file.
            raise OSError(str(error)) from error


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
        If the file is no safetensors file, its tensors are not those of the network, or a number
        in it is NaN or infinite. The network is then left as it was.

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
    _check_path(path)
    from safetensors import SafetensorError

    module = _trained_module(estimator)
    if Path(path).is_dir():
        raise IsADirectoryError(
            f"path must name a file that save_weights wrote; {path} is a folder."
        )
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {path}: save_weights writes one.")
    before = copy.deepcopy(module.state_dict())
    try:
        safetensors.load_model(module, os.fspath(path))
        wrong = [
            name
            for name, value in module.state_dict().items()
            if value.is_floating_point() and not value.isfinite().all()
        ]
        if wrong:
            raise ValueError(f"NaN or infinity in {', '.join(wrong)}")
    except (RuntimeError, ValueError, SafetensorError) as error:
        module.load_state_dict(before)
        raise ValueError(
            f"{os.fspath(path)} does not hold the weights of this network; save_weights writes "
            f"such a file, and the layers must have the same sizes. ({error})"
        ) from error


class Probabilities(nn.Module):
    """The `predict_proba` of a module that gives logits, in the precision of X.

    `nonlinearity` makes them of the module's output; None means the module's own probabilities,
    which are the softmax for most.
    """

    def __init__(self, logits, nonlinearity):
        super().__init__()
        self.logits, self.nonlinearity = logits, nonlinearity

    def forward(self, X):
        """Map X of shape (n_samples, ...) to (n_samples, n_classes)."""
        if self.nonlinearity is None:
            return log_probabilities(self.logits, X).exp().to(X.dtype)
        return self.nonlinearity(self.logits(X)).to(X.dtype)


def _nonlinearity(estimator):
    """The function that turns a net's outputs into its `predict_proba`; None for others."""
    last = classifier_within(estimator)
    # For losses other than the softmax's it is the identity, or predict_nonlinearity.
    return last._get_predict_nonlinearity() if isinstance(last, AdversarialNet) else None


def _input_dtype(estimator, module):
    """The dtype of the samples that an estimator was fitted to, as far as it is known."""
    last = classifier_within(estimator)
    # A classifier that converts its input does not tell what the steps before it were fitted to.
    converts = isinstance(last, AdversarialMaxoutClassifier)
    weights = module if converts else as_module(last)
    tensors = [*weights.parameters(), *weights.buffers()]
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


@contextmanager
def _without_foreign_notes():
    """Hide what torch's exporter says of its own code, and of a package that no model here needs.

    All other warnings pass, those of the exported module among them.
    """
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")

    def is_ours(record):
        return not record.getMessage().startswith("torchvision is not installed")

    logger.addFilter(is_ours)
    try:
        with warnings.catch_warnings():
            # It copies specifications of trees, whose class torch has deprecated.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        logger.removeFilter(is_ours)


# Operators that ONNX Runtime's CPU provider has in float32, but not in float64.
# fmt: off
_SINGLE_ONLY = {
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cosh", "Elu", "Erf", "Gelu",
    "GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Selu", "Sinh",
    "Softplus", "Softsign", "Swish", "Tan", "ThresholdedRelu",
}
# fmt: on


def _check_graph(graph, estimator):
    """Raise an error if a graph can't be loaded, or takes one number of samples only."""
    name = type(estimator).__name__
    double = {
        node.op_type
        for node in graph.all_nodes()
        if node.op_type in _SINGLE_ONLY and str(node.inputs[0].dtype) == "DOUBLE"
    }
    if double:
        raise TypeError(
            f"This {name} computes in float64 by the operators {', '.join(sorted(double))}, which "
            "ONNX Runtime has in float32 only. Convert a network to float32. Save another model "
            "itself by skops.io.dump(estimator, path), or, if only ONNX will do, export an "
            "AdversarialMaxoutClassifier that is fitted to its predictions: it answers differently "
            "on some rows."
        )
    n_samples = graph.inputs[0].shape[0]
    if isinstance(n_samples, int):
        raise ValueError(
            f"The graph of this {name} takes batches of {n_samples} samples only: a module in it "
            "uses the number of samples as a constant. Write X.shape[0] in place of len(X) in its "
            "forward method, or export it with torch.onnx.export."
        )


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


def _check_path(path):
    """Raise `TypeError` unless `path` names a file."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a str or a pathlib.Path; got {path!r}.")


def _check_target(path):
    """Raise an error unless a file can be written there."""
    _check_path(path)
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} to write to: make it first.")
    if Path(path).is_dir():
        raise IsADirectoryError(f"path must name a file to write; {path} is a folder.")


@contextmanager
def _replacing(path):
    """A new file beside another, which replaces it once it is written as a whole."""
    target = Path(os.path.realpath(path))
    # The writers may read the format off the ending.
    beside = target.with_name(f"{uuid.uuid4().hex}.{target.name}")
    try:
        yield beside
        os.replace(beside, target)
    except OSError as error:
        raise type(error)(
            f"{os.fspath(path)} can't be written: {error.strerror or error}. {disk(target)} Pass a "
            "path in a folder that can be written to, on a disk with room."
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _require(what, *modules):
    """Import some modules, all of which `what` needs, and return the last."""
    try:
        for name in modules:
            module = importlib.import_module(name)
    except ImportError as error:
        names = " and ".join(name.partition(".")[0] for name in modules)
        raise ImportError(
            f'{what} needs {names}, which can\'t be found: run pip install -e ".[export]" in the '
            "checkout of sk_adv."
        ) from error
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
    estimator.check_is_fitted()
    modules = plain_modules(estimator)
    # With several modules the names of the tensors begin with the module's.
    return nn.ModuleDict(modules) if len(modules) > 1 else next(iter(modules.values()))
