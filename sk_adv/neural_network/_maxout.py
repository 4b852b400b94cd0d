"""AdversarialMaxoutClassifier: maxout networks as a scikit-learn estimator."""

import copy
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_n_features, check_is_fitted, validate_data

from sk_adv._devices import (
    floating_types,
    for_sklearn,
    in_kind_of,
    is_dispatched,
    resolve_device,
    to_numpy,
    to_tensor,
)
from sk_adv._validation import PERTURBATION_CONSTRAINTS, unchanged_on_error
from sk_adv.differentiable import as_module
from sk_adv.neural_network._crafting import ATTACKS
from sk_adv.neural_network._schedules import SCHEDULES
from sk_adv.neural_network._training import (
    check_training_data,
    choose_precision,
    make_callbacks,
    make_net,
    plain_module,
    take_over,
)

# Samples that go through the network at once when it predicts.
_PREDICT_BATCH = 2048


class AdversarialMaxoutClassifier(ClassifierMixin, BaseEstimator):
    """Maxout network trained on clean samples and on adversarial copies of them.

    Each batch minimises

        J̄ = alpha J(θ, x, y) + (1-alpha) J(θ, x + η, y) ,   η = ε sign(∇ₓ J(θ, x, y)) ,

    with J the cross-entropy of the softmax. The copies are made afresh for each batch, by `attack`.

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

    attack : {"fgsm", "pgd", "noise"} or callable, default="fgsm"
        How the copies are made; see `AdversarialNet`. "noise" is no adversary but the control.

    attack_params : dict or None, default=None
        Parameters of the attack: of "pgd" `n_steps`, `step_size`, `random_start`, `n_restarts`; of
        "noise" `distribution`, "sign" or "uniform".

    input_dropout : float, default=0.0
        Share of the inputs that is dropped in training, in [0, 1).

    hidden_dropout : float, default=0.0
        Share of each layer's units that is dropped in training, in [0, 1).

    max_norm : float or None, default=None
        Largest Euclidean norm of the weights into one piece of a unit; None means no limit.

    solver : {"adam", "sgd"}, default="adam"
        The optimizer.

    learning_rate_init : float, default=0.001
        Step size of the first epoch.

    learning_rate : {"constant", "cosine", "exponential"}, default="constant"
        How the step size goes on to the end of `max_iter` epochs: as it is, down to 0 along half a
        cosine, or down to a hundredth by a constant factor.

    momentum : float, default=0.9
        Momentum of "sgd" (Nesterov's), in [0, 1).

    batch_size : int, default=100
        Samples a training batch.

    max_iter : int, default=200
        Largest number of epochs.

    tol : float, default=1e-4
        When the training loss (with `early_stopping` the score on the held-out part) has not
        become better by `tol` for more than `n_iter_no_change` epochs, training stops; minus
        infinity turns that off.

    early_stopping : bool, default=False
        Whether to hold out a part of the data, watch `monitor` on it in place of the training
        loss, and keep the weights of the best epoch.

    validation_fraction : float, default=0.1
        The share held out, stratified by class.

    n_iter_no_change : int, default=10
        Epochs without progress that are let pass.

    monitor : {"adversarial_error", "clean_error", "loss"}, default="adversarial_error"
        What is watched: the error under the training attack (under "fgsm" if that is noise), the
        clean error, or J̄.

    refit_full : bool, default=False
        After early stopping, train anew on all data for `best_iteration_` epochs, as the paper
        does.

    class_weight : dict or "balanced", default=None
        Weights of the classes, which multiply `sample_weight`.

    warm_start : bool, default=False
        Whether `fit` goes on from the weights and the optimizer of the previous call, for
        `max_iter` epochs more, if features and classes are the same.

    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        Number format of the training; "bfloat16" keeps weights in float32. "auto" is float32, and
        float64 for float64 data of a single batch, where it costs nothing.

    compile : bool, default=False
        Whether to compile the module by `torch.compile`.

    callbacks : list of skorch.callbacks.Callback or None, default=None
        Called during training, `Checkpoint` for one. In a search or a cross-validation each fit
        gets copies of them.

    output_activation : {"softmax", "sigmoid"}, default="softmax"
        One distribution over the classes, or an independent sigmoid for each, whose
        cross-entropies are summed; `predict_proba` then scales them to a sum of 1.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the held-out part, the order of the samples, dropout and random
        attacks. The global random state of torch is left as it was.

    device : str or torch.device, default="auto"
        Where to train and predict. "auto" is where X lies if it is a tensor, else CUDA, then MPS,
        then the CPU.

    verbose : int, default=0
        1: show a progress bar; 2: print a line for each epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNetClassifier
        The trained net; `net_.module_` is the `MaxoutNet`.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    loss_curve_ : list of float of length `n_iter_`
        The mean training loss J̄ of each epoch.

    validation_scores_ : list of float of length `n_iter_`, or None
        The score of each epoch on the held-out part: 1 - error, or -loss. None without
        `early_stopping`.

    best_iteration_ : int or None
        The epoch, counted from 1, whose weights were kept. None without `early_stopping`.

    n_iter_ : int
        Number of epochs that were trained; with `refit_full` those that chose `best_iteration_`.

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
    A `numpy.memmap` is read from disk a batch at a time and never held whole. Ctrl-C ends training
    after the current batch and leaves a fitted estimator. Predictions are computed in the precision
    of X, so that float64 inputs give results that do not depend on how rows are batched.

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
        "attack": [StrOptions(set(ATTACKS)), callable],
        "attack_params": [dict, None],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "hidden_dropout": [Interval(Real, 0, 1, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "solver": [StrOptions({"adam", "sgd"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Real],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "monitor": [StrOptions({"adversarial_error", "clean_error", "loss"})],
        "refit_full": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "warm_start": ["boolean"],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float64"})],
        "compile": ["boolean"],
        "callbacks": [list, None],
        "output_activation": [StrOptions({"softmax", "sigmoid"})],
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
        attack: str | Callable = "fgsm",
        attack_params: dict | None = None,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        max_norm: float | None = None,
        solver: str = "adam",
        learning_rate_init: float = 0.001,
        learning_rate: str = "constant",
        momentum: float = 0.9,
        batch_size: int = 100,
        max_iter: int = 200,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        monitor: str = "adversarial_error",
        refit_full: bool = False,
        class_weight: dict | str | None = None,
        warm_start: bool = False,
        precision: str = "auto",
        compile: bool = False,  # noqa: A002 (torch's word)
        callbacks: list | None = None,
        output_activation: str = "softmax",
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
        self.attack = attack
        self.attack_params = attack_params
        self.input_dropout = input_dropout
        self.hidden_dropout = hidden_dropout
        self.max_norm = max_norm
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.monitor = monitor
        self.refit_full = refit_full
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.precision = precision
        self.compile = compile
        self.callbacks = callbacks
        self.output_activation = output_activation
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train the network, from new random weights unless `warm_start` is on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, dense. A `numpy.memmap` is streamed from disk.

        y : array-like of shape (n_samples,)
            Class labels, of two classes at least.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples; None means 1 each.

        Returns
        -------
        self : AdversarialMaxoutClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid. A previous fit is then left as it was.
        FloatingPointError
            If the training loss becomes NaN or infinite. The estimator is then fitted, with the
            weights of the epoch before.
        MemoryError
            If the device is full.
        """
        with unchanged_on_error(self):
            failure = self._fit(X, y, sample_weight)
        if failure is not None:
            raise failure
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on some data, from the weights and the optimizer as they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,)
            Class labels.

        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed in the first call if y does not hold them.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples; None means 1 each.

        Returns
        -------
        self : AdversarialMaxoutClassifier
            The estimator. Early stopping, schedules and `max_iter` are of no account here.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or holds labels that are not in `classes`.
        FloatingPointError
            If the training loss becomes NaN or infinite.
        """
        with unchanged_on_error(self):
            failure = self._partial_fit(X, y, classes, sample_weight)
        if failure is not None:
            raise failure
        return self

    def _fit(self, X, y, sample_weight):
        _check_sizes(self.hidden_layer_sizes)
        device = resolve_device(self.device, X, prefer_accelerator=True)
        old = vars(self).copy()
        data = check_training_data(self, X, y, sample_weight)
        self.classes_ = data.classes
        previous = None
        if self.warm_start and "net_" in old and self._is_like(old):
            previous = old["net_"]
        else:
            self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        train, held_out = data, None
        if self.early_stopping:
            train, held_out = data.split(self.validation_fraction, self._seed)
        net, failure = self._train(device, train, held_out, previous, self.max_iter)
        self._accept(net)
        if held_out is not None:
            validation = dict(net.callbacks_)["validation"]
            validation.restore_best(net)
            self.validation_scores_ = [float(v) for v in net.history[:, "validation_score"]]
            self.best_iteration_ = validation.best_epoch
            if self.refit_full and failure is None and not net.interrupt_.requested:
                net, failure = self._train(
                    device, data, None, previous, self.best_iteration_, is_refit=True
                )
                self.net_ = net
        return failure

    def _partial_fit(self, X, y, classes, sample_weight):
        _check_sizes(self.hidden_layer_sizes)
        device = resolve_device(self.device, X, prefer_accelerator=True)
        previous = getattr(self, "net_", None)
        if previous is not None:
            if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ValueError(
                    f"classes={classes!r} differ from those of the first call, "
                    f"{self.classes_.tolist()}."
                )
            classes = self.classes_
        else:
            self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        data = check_training_data(
            self, X, y, sample_weight, classes=classes, reset=previous is None
        )
        self.classes_ = data.classes
        net, failure = self._train(device, data, None, previous, 1, learning_rate="constant")
        self._accept(net)
        return failure

    def _is_like(self, old):
        """Whether an earlier fit had the same features, classes and layers."""
        return (
            old["n_features_in_"] == self.n_features_in_
            and np.array_equal(old["classes_"], self.classes_)
            and old["net_"].module__hidden_layer_sizes == tuple(self.hidden_layer_sizes)
            and old["net_"].module__n_pieces == self.n_pieces
        )

    def _train(self, device, data, held_out, previous, n_epochs, *, is_refit=False, **options):
        """Train a new net, or one that goes on from an earlier; the net, and how it failed."""
        precision = previous.precision if previous else choose_precision(self, data, device)
        dtype = torch.float64 if precision == "float64" else torch.float32
        failure = None
        # torch.manual_seed reaches the generators of all GPUs.
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(self._seed + (len(previous.history) if previous else 0))
            callbacks = make_callbacks(self, held_out and held_out.on(device, dtype), is_refit)
            net = make_net(
                self,
                self.n_features_in_,
                device,
                precision,
                n_epochs=n_epochs,
                callbacks=callbacks,
                **options,
            )
            if previous is not None:
                take_over(net, previous)
            try:
                net.partial_fit(data.on(device, dtype), None)
            except FloatingPointError as error:
                failure = error
        if net.interrupt_.requested:
            warnings.warn(
                f"Training was interrupted in epoch {len(net.history)}; the estimator is fitted "
                "as far as it came.",
                ConvergenceWarning,
                stacklevel=6,
            )
        return net, failure

    def _accept(self, net):
        self.net_ = net
        self.loss_curve_ = [float(loss) for loss in net.history[:, "train_loss"]]
        self.n_iter_ = len(self.loss_curve_)
        self.validation_scores_ = self.best_iteration_ = None

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
        return in_kind_of(X, self._log_probabilities(X).exp())

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
        return in_kind_of(X, self._log_probabilities(X))

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
        best = self._logits(X).argmax(1)
        labels = self.classes_[to_numpy(best)]
        if is_dispatched(X) and labels.dtype.kind in "biuf":
            return torch.as_tensor(labels, device=X.device)
        return labels

    def _log_probabilities(self, X):
        logits = self._logits(X)
        if self.output_activation == "sigmoid":
            logits = torch.nn.functional.logsigmoid(logits)
        return logits.log_softmax(1)

    def _logits(self, X):
        check_is_fitted(self)
        if isinstance(X, np.memmap):
            _check_n_features(self, X, reset=False)
        else:
            X = validate_data(self, for_sklearn(X), dtype=floating_types(X), reset=False)
        device = torch.device(self.net_.device)
        # Apple's GPUs know no float64.
        is_double = X.dtype in (np.float64, torch.float64) and device.type != "mps"
        dtype = torch.float64 if is_double else torch.float32
        module = as_module(self, dtype=dtype)
        with torch.no_grad():
            starts = range(0, len(X), _PREDICT_BATCH)
            batches = (to_tensor(X[start : start + _PREDICT_BATCH]) for start in starts)
            return torch.cat([module(batch.to(device, dtype)) for batch in batches])


@as_module.register(AdversarialMaxoutClassifier)
def _(estimator):
    return copy.deepcopy(plain_module(estimator.net_))


def _check_sizes(hidden_layer_sizes):
    sizes = tuple(hidden_layer_sizes)
    if not sizes or not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(
            "hidden_layer_sizes must be a tuple of positive integers, one a hidden layer; "
            f"got {hidden_layer_sizes!r}."
        )
    return sizes
