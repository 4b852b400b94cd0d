"""How modules are put together: chains, columns, precision, and the responses of the parts."""

import torch
from torch import Tensor, nn

from sk_adv._devices import module_device_and_dtype


class Chain(nn.Sequential):
    """Modules one after another, each called in its own precision.

    A `torch.nn.Sequential` hands the output of one module to the next as it is. `Chain` casts it
    to the precision of the next one first. The modules that `as_module` returns cast their input
    themselves; `Chain` is for modules of other origin between them. `decision_values`,
    `log_probabilities` and `preferences` of a chain are those of its last module, as they are of
    a plain `Sequential`.

    Parameters
    ----------
    *args : torch.nn.Module
        The modules, first to last, or one `collections.OrderedDict` of them.

    See Also
    --------
    as_module : Makes a module of a fitted estimator.

    Examples
    --------
    >>> import torch
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv.differentiable import Chain, as_module
    >>> scaler = StandardScaler().fit([[0.0], [2.0]])  # in float64
    >>> layer = torch.nn.Linear(1, 2)  # in float32
    >>> X = torch.tensor([[1.0]], dtype=torch.float64)
    >>> Chain(as_module(scaler), layer)(X).dtype
    torch.float32
    """

    has_parts = True

    def forward(self, X):
        """Apply all steps to X."""
        for step in self:
            X = run(step, X)
        return X


class Select(nn.Module):
    """Some columns of x, by their numbers."""

    is_affine = True

    def __init__(self, indices):
        super().__init__()
        self.register_buffer("indices", torch.as_tensor(indices, dtype=torch.int64).clone())

    def forward(self, X):
        """Map X of shape (n_samples, n_features) to (n_samples, n_selected)."""
        return X[:, self.indices]


def is_chain(module: nn.Module) -> bool:
    """Whether the module does no more than call its steps one after another."""
    # Not by its type: a subclass may compute something else.
    # A ScriptModule's class has no `forward`.
    forward = getattr(type(module), "forward", None)
    return forward in (nn.Sequential.forward, Chain.forward)


def run(module: nn.Module, X: Tensor) -> Tensor:
    """Call a module on X in the module's own precision."""
    casts = getattr(module, "casts_its_input", False) and X.is_floating_point()
    return module(X if casts else _in_precision_of(module, X))


def casting_its_input(module: nn.Module) -> nn.Module:
    """The module, which from now on casts floating input to its own precision."""
    if not (getattr(module, "has_parts", False) or getattr(module, "casts_its_input", False)):
        # A hook, because a module around it would hide its type.
        module.register_forward_pre_hook(_cast)
        module.casts_its_input = True
    return module


def _cast(module, inputs):
    X, *others = inputs or (None,)
    if isinstance(X, Tensor) and X.is_floating_point():
        return (_in_precision_of(module, X), *others)
    return None


def _in_precision_of(module, X):
    # The parts cast X by themselves; the first part's precision would round it for the others.
    if getattr(module, "has_parts", False):
        return X
    _, dtype = module_device_and_dtype(module, X.dtype)
    return X.to(dtype)


# scikit-learn's meta-estimators combine `decision_function`s, `predict_proba`s or `predict`s. All
# three follow from the logits, unless a module has a method or submodule of the names below.


def decision_values(module: nn.Module, X: Tensor) -> Tensor:
    """The estimator's `decision_function`, computed by its module.

    The decision values are the module's logits, unless it has a method, or a submodule,
    `decision_values`.

    Parameters
    ----------
    module : torch.nn.Module
        The module of a classifier, from `as_module`.

    X : torch.Tensor of shape (n_samples, n_features)
        Samples.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes)
        For two classes the columns are (0, d).

    See Also
    --------
    log_probabilities : The same for `predict_proba`.
    preferences : The same for `predict`.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sk_adv.differentiable import as_module, decision_values
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    >>> values = decision_values(as_module(model), torch.from_numpy(X))
    >>> bool(abs(values.numpy() - model.decision_function(X)).max() < 1e-9)
    True
    """
    return _respond(module, "decision_values", X)


def log_probabilities(module: nn.Module, X: Tensor) -> Tensor:
    """The logarithm of the estimator's `predict_proba`, computed by its module.

    The log-probabilities are the log-softmax of the module's logits, unless it has a method
    `log_probabilities`.

    Parameters
    ----------
    module : torch.nn.Module
        The module of a classifier, from `as_module`.

    X : torch.Tensor of shape (n_samples, n_features)
        Samples.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes)
        Finite: the logarithm of a probability of 0 is that of the smallest positive number.

    See Also
    --------
    decision_values : The same for `decision_function`.
    preferences : The same for `predict`.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sk_adv.differentiable import as_module, log_probabilities
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussianNB().fit(X, y)
    >>> probabilities = log_probabilities(as_module(model), torch.from_numpy(X)).exp()
    >>> bool(abs(probabilities.numpy() - model.predict_proba(X)).max() < 1e-9)
    True
    """
    if responds(module, "log_probabilities"):
        return _respond(module, "log_probabilities", X)
    return run(module, X).log_softmax(1)


def preferences(module: nn.Module, X: Tensor) -> Tensor:
    """The numbers by which the estimator's `predict` decides, computed by its module.

    The preferences are the decision values, unless the module has a method `preferences`.

    Parameters
    ----------
    module : torch.nn.Module
        The module of a classifier, from `as_module`.

    X : torch.Tensor of shape (n_samples, n_features)
        Samples.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes)
        The predicted class is the column of the largest number, the first one if several are equal.

    See Also
    --------
    decision_values : The same for `decision_function`.
    log_probabilities : The same for `predict_proba`.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from sk_adv.differentiable import as_module, preferences
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SVC().fit(X, y)
    >>> choices = preferences(as_module(model), torch.from_numpy(X)).argmax(1)
    >>> bool((choices.numpy() == model.predict(X)).all())
    True
    """
    if responds(module, "preferences"):
        return _respond(module, "preferences", X)
    return decision_values(module, X)


def responds(module, name):
    """Whether a module, or the last step of a chain, has a method of that name."""
    if hasattr(module, name):
        return True
    return is_chain(module) and len(module) > 0 and responds(module[-1], name)


def _respond(module, name, X):
    """The method of that name on X, that of the last step for a chain; else the module's output."""
    if hasattr(module, name):
        return getattr(module, name)(_in_precision_of(module, X))
    if not responds(module, name):
        return run(module, X)
    *steps, last = module
    for step in steps:
        X = run(step, X)
    return _respond(last, name, X)
