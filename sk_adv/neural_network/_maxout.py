"""AdversarialMaxoutClassifier: maxout networks as a scikit-learn estimator."""

import copy
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sk_adv._devices import resolve_device, to_numpy, to_tensor
from sk_adv._validation import (
    PERTURBATION_CONSTRAINTS,
    check_bounds,
    check_epsilon,
    unchanged_on_error,
)
from sk_adv.differentiable import as_module
from sk_adv.neural_network._layers import MaxoutNet
from sk_adv.neural_network._net import AdversarialNet, TensorBatches

# Samples that go through the network at once when it predicts.
_PREDICT_BATCH = 2048


class AdversarialMaxoutClassifier(ClassifierMixin, BaseEstimator):
    """Maxout network trained on clean samples and on adversarial copies of them.

    Each batch minimises, by Adam,

        J̄ = alpha J(θ, x, y) + (1-alpha) J(θ, x + η, y) ,   η = ε sign(∇ₓ J(θ, x, y)) ,

    with J the cross-entropy of the softmax. The copies are made afresh for each batch.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(240, 240)
        Units of each maxout layer.

    n_pieces : int, default=5
        Linear pieces of each unit.

    epsilon : float or array-like of shape (n_features,), default=0.25
        Radius of the perturbation in the units of X, one for all features or one a feature; 0
        marks a feature that can't be changed.

    alpha : float, default=0.5
        Weight of the clean loss, in [0, 1]; 1 is ordinary training, 0 purely adversarial.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation; with 2, η = ε ∘ (ε ∘ g) / ‖ε ∘ g‖₂ for the
        gradient g.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, scalars or arrays of shape (n_features,), to which the copies are
        clipped.

    input_dropout : float, default=0.0
        Share of the inputs that is dropped in training, in [0, 1).

    hidden_dropout : float, default=0.0
        Share of each layer's units that is dropped in training, in [0, 1).

    learning_rate_init : float, default=0.001
        Step size of Adam.

    batch_size : int, default=100
        Samples a training batch.

    max_iter : int, default=50
        Number of epochs.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the order of the samples and the dropout masks. The global
        random state of torch is left as it was.

    device : str or torch.device, default="auto"
        Where to train and predict. "auto" is where X lies if it is a tensor, else CUDA, then MPS,
        then the CPU.

    verbose : int, default=0
        Positive: print a line for each epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNetClassifier
        The trained net; `net_.module_` is the `MaxoutNet`.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    loss_curve_ : list of float of length `n_iter_`
        The mean training loss J̄ of each epoch.

    n_iter_ : int
        Number of epochs that were trained.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string column names.

    See Also
    --------
    sk_adv.linear_model.AdversarialLogisticRegression : The linear model, on the exact worst case.
    sk_adv.neural_network.MaxoutNet : The module.

    Notes
    -----
    Training computes in float32. Predictions are computed in the precision of X, so that float64
    inputs give results that do not depend on how rows are batched.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 6.

    Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout Networks", ICML 2013.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv import AdversarialMaxoutClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = AdversarialMaxoutClassifier(epsilon=0.1, random_state=0)
    >>> make_pipeline(StandardScaler(), network).fit(X, y).score(X, y) > 0.9
    True
    """

    _parameter_constraints: dict = {
        **PERTURBATION_CONSTRAINTS,
        "hidden_layer_sizes": ["array-like"],
        "n_pieces": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "bounds": [tuple, list, None],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "hidden_dropout": [Interval(Real, 0, 1, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "device": [str, torch.device],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (240, 240),
        n_pieces: int = 5,
        *,
        epsilon: ArrayLike = 0.25,
        alpha: float = 0.5,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        learning_rate_init: float = 0.001,
        batch_size: int = 100,
        max_iter: int = 50,
        random_state: int | np.random.RandomState | None = None,
        device: str | torch.device = "auto",
        verbose: int = 0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_pieces = n_pieces
        self.epsilon = epsilon
        self.alpha = alpha
        self.norm = norm
        self.bounds = bounds
        self.input_dropout = input_dropout
        self.hidden_dropout = hidden_dropout
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the network from new random weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,)
            Class labels, of two classes at least.

        Returns
        -------
        self : AdversarialMaxoutClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid. A previous fit is then left as it was.
        """
        with unchanged_on_error(self):
            return self._fit(X, y)

    def _fit(self, X, y):
        device = resolve_device(self.device, X, prefer_accelerator=True)
        sizes = _check_sizes(self.hidden_layer_sizes)
        X, y = validate_data(self, to_numpy(X), to_numpy(y), dtype=np.float32)
        epsilon = check_epsilon(self.epsilon, X.shape[1:])
        bounds = check_bounds(self.bounds, X.shape[1:])
        check_classification_targets(y)
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y must hold at least two classes; got 1 class: {self.classes_.tolist()}."
            )
        on_device = {"dtype": torch.float32, "device": device}
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        # torch.manual_seed reaches the generators of all GPUs.
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            self.net_ = AdversarialNet(
                MaxoutNet,
                module__n_features=X.shape[1],
                module__n_classes=len(self.classes_),
                module__hidden_layer_sizes=sizes,
                module__n_pieces=self.n_pieces,
                module__input_dropout=self.input_dropout,
                module__hidden_dropout=self.hidden_dropout,
                epsilon=torch.as_tensor(epsilon, **on_device),
                alpha=self.alpha,
                norm=self.norm,
                bounds=bounds and tuple(torch.as_tensor(bound, **on_device) for bound in bounds),
                optimizer=torch.optim.Adam,
                lr=self.learning_rate_init,
                max_epochs=self.max_iter,
                batch_size=self.batch_size,
                iterator_train=TensorBatches,
                iterator_train__shuffle=True,
                train_split=None,
                classes=np.arange(len(self.classes_)),
                device=device,
                verbose=self.verbose,
            )
            self.net_.fit(to_tensor(X, device=device), torch.as_tensor(encoded, device=device))
        self.loss_curve_ = [float(loss) for loss in self.net_.history[:, "train_loss"]]
        self.n_iter_ = len(self.loss_curve_)
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the precision of X; the columns follow `classes_`.
        """
        return to_numpy(self._logits(X).softmax(1))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the precision of X; the columns follow `classes_`.
        """
        return to_numpy(self._logits(X).log_softmax(1))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable class of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        logits = self._logits(X)
        return self.classes_[to_numpy(logits.argmax(1))]

    def _logits(self, X):
        check_is_fitted(self)
        X = validate_data(self, to_numpy(X), dtype=[np.float64, np.float32], reset=False)
        X = to_tensor(X)
        device = torch.device(self.net_.device)
        # Apple's GPUs know no float64.
        dtype = torch.float32 if device.type == "mps" else X.dtype
        module = as_module(self, dtype=dtype)
        with torch.no_grad():
            batches = X.split(_PREDICT_BATCH)
            return torch.cat([module(batch.to(device, dtype)) for batch in batches])


@as_module.register(AdversarialMaxoutClassifier)
def _(estimator):
    return copy.deepcopy(estimator.net_.module_)


def _check_sizes(hidden_layer_sizes):
    sizes = tuple(hidden_layer_sizes)
    if not sizes or not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(
            "hidden_layer_sizes must be a tuple of positive integers, one a hidden layer; "
            f"got {hidden_layer_sizes!r}."
        )
    return sizes
