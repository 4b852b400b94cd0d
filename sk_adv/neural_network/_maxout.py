"""AdversarialMaxoutClassifier: maxout networks as a scikit-learn estimator."""

import copy
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from sk_adv._perturbations import PERTURBATION_CONSTRAINTS
from sk_adv._validation import unchanged_on_error
from sk_adv.differentiable import as_module
from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._classifier_fit import fit_further, fit_network
from sk_adv.neural_network._pickling import TorchFreeState
from sk_adv.neural_network._predictions import NetworkPredictions
from sk_adv.neural_network._robust_losses import ROBUST_LOSSES
from sk_adv.neural_network._schedules import SCHEDULES


class AdversarialMaxoutClassifier(
    NetworkPredictions, TorchFreeState, ClassifierMixin, BaseEstimator
):
    """Maxout network trained on clean samples and their worst perturbations.

    The training loss is

        J̄ = alpha J(θ, x, y) + (1-alpha) R(θ, x, y)

    with J the cross-entropy of the softmax and R a robust loss. By default that is the loss of
    adversarial copies, which `attack` makes anew for each mini-batch,

        R = J(θ, x + η, y) ,   η = ε sign(∇ₓ J(θ, x, y)) .

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(240, 240)
        Number of units per maxout layer.

    n_pieces : int, default=5
        Number of linear pieces per unit.

    epsilon : float, array-like, dict or Series, default=0.25
        Radius of the perturbation in the units of X: one for all features, one per feature, or by
        column name, as in `sk_adv.attacks.perturb`. Features of radius 0 stay unperturbed.

    alpha : float, default=0.5
        Weight of the clean loss, in [0, 1]: 1 is ordinary training, 0 purely adversarial training.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation; with 2, η = ε ∘ (ε ∘ g) / ‖ε ∘ g‖₂ for the
        gradient g.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped. Each end is given like `epsilon`;
        None is no limit.

    robust_loss : {"adversarial", "trades", "certified"}, default="adversarial"
        The robust loss R. "adversarial": that of adversarial copies. "trades": the divergence
        KL(p(x) ‖ p(x̃)) of the class probabilities at x and at copies that maximise it; the factor
        β of TRADES is (1-alpha) / alpha. "certified": an upper bound of the loss within small
        boxes around the copies, by intervals; see `box_share`.

    attack : str or callable, default="fgsm"
        The attack that makes the copies: a name, such as "fgsm_rs" or "pgd", or a function; see
        `AdversarialNet`. "sign_noise" and "uniform_noise" are not adversarial; they serve as the
        control experiment. "trades" needs an attack with a random start.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 7}` for "pgd".

    box_share : float, default=1.0
        The share λ in (0, 1] of ε that is the radius of the boxes of "certified". With 1 the box
        is the whole perturbation set, and no copies are made. With less it lies inside of the set,
        around x + (1-λ) η.

    epsilon_warmup : float or "auto", default="auto"
        Share of the epochs in which ε and the weight 1 - alpha of the robust loss rise, evenly
        with each batch, from 0 to their values. "auto" is a half for "certified", which hardly
        learns without, and else 0.

    input_dropout : float, default=0.0
        Share of the inputs that is dropped in training, in [0, 1).

    hidden_dropout : float, default=0.0
        Share of each layer's units that is dropped in training, in [0, 1).

    max_norm : float or None, default=None
        Largest Euclidean norm of the weights of one piece of a unit. None means no limit.

    solver : {"adam", "sgd"}, default="adam"
        The optimizer.

    learning_rate_init : float, default=0.001
        Learning rate of the first epoch.

    learning_rate : {"constant", "cosine", "exponential"}, default="constant"
        Schedule of the learning rate over `max_iter` epochs: "constant"; "cosine", down to 0 along
        half a cosine; or "exponential", down to a hundredth by a constant factor per epoch.

    momentum : float, default=0.9
        Nesterov momentum of "sgd", in [0, 1).

    batch_size : int, default=100
        Number of samples per mini-batch.

    max_iter : int, default=200
        Largest number of epochs.

    tol : float, default=1e-4
        Smallest progress. Training stops when the training loss, or with `early_stopping` the
        score on the held-out part, has not improved by `tol` for more than `n_iter_no_change`
        epochs. `-numpy.inf` turns this off.

    early_stopping : bool, default=False
        Whether to hold out a part of the data, use `monitor` on it instead of the training loss,
        and keep the weights of the best epoch.

    validation_fraction : float, default=0.1
        Share of the samples that is held out, stratified by class.

    n_iter_no_change : int, default=10
        Number of epochs without progress that are allowed.

    monitor : str or callable, default="adversarial_error"
        Figure to minimise on the held-out part: "adversarial_error", the error under the training
        attack (under "fgsm" if that is noise); "certified_error", by intervals, without regard to
        rounding; "clean_error"; "loss", which is J̄; or an attack, such as "pgd" or "auto", for the
        error under it. Ties between errors are broken by the smaller J̄. Epochs of the warm-up do
        not count.

    monitor_params : dict or None, default=None
        Further arguments of the attack in `monitor`. Attacks in steps take 10 by default.

    refit_full : bool, default=False
        Whether to train anew on all data for `best_iteration_` epochs after early stopping, as in
        the paper.

    class_weight : dict or "balanced", default=None
        Weights of the classes, which multiply `sample_weight`. `partial_fit` accepts only a dict.

    warm_start : bool, default=False
        Whether `fit` continues from the weights and the optimizer of the previous call, for
        `max_iter` more epochs, if features, classes and layers are the same. The attributes below
        then count the epochs of both calls.

    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        Number format of the training. "bfloat16" keeps the weights in float32. "auto" means
        float64 for float64 data that fits into a single batch, where this costs nothing, and else
        float32.

    compile : bool, default=False
        Whether to compile the module with `torch.compile`.

    callbacks : list of skorch.callbacks.Callback or None, default=None
        Callbacks for the training, such as `Checkpoint`. In a search or a cross-validation each
        fit gets copies of them.

    output_activation : {"softmax", "sigmoid"}, default="softmax"
        "softmax": one distribution over the classes. "sigmoid": an independent sigmoid per class;
        their cross-entropies are summed, and `predict_proba` scales them to the sum 1.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the held-out part, the order of the samples, dropout and random
        attacks. Torch's global random state is neither used nor changed, so an integer gives the
        same weights in any thread. A function as `attack` gets a seed if it has an argument
        `random_state`.

    device : str or torch.device, default="auto"
        Device for training and predictions. "auto" means the device of X if it is a tensor, else
        CUDA, MPS or the CPU, the first that is available.

    verbose : int, default=0
        1: show a progress bar; 2: print one line per epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNetClassifier
        The trained net; `net_.module_` is the `MaxoutNet`.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    loss_curve_ : list of float of length `n_iter_`
        The mean training loss J̄ of each epoch.

    validation_scores_ : list of float of length `n_iter_`, or None
        The score of each epoch on the held-out part: 1 - error, or -loss. Epochs of an earlier
        call without early stopping have NaN. The attribute is None without `early_stopping`.

    best_iteration_ : int or None
        The epoch, counted from 1, whose weights are kept. It is None without `early_stopping`.

    n_iter_ : int
        Number of epochs. With `refit_full` it counts the epochs of the first training.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X has string column names.

    See Also
    --------
    sk_adv.linear_model.AdversarialLogisticRegression : Linear model trained on the exact worst
        case.
    sk_adv.neural_network.MaxoutNet : The module.

    Notes
    -----
    A `numpy.memmap` is read from disk one batch at a time, and never loaded as a whole.

    Ctrl-C ends the training after the current batch. A second Ctrl-C raises `KeyboardInterrupt` at
    once. The estimator is fitted in both cases.

    `OverfittingGuard` warns of catastrophic overfitting to "fgsm" and "fgsm_rs".

    Predictions are computed in the precision of X. With float64 inputs they do not depend on how
    rows are batched.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 6.

    Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout Networks", ICML 2013.

    `AdversarialNet` names the sources of the robust losses.

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
        "robust_loss": [StrOptions(set(ROBUST_LOSSES))],
        "attack": [str, callable],
        "attack_params": [dict, None],
        "box_share": [Interval(Real, 0, 1, closed="right")],
        "epsilon_warmup": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "hidden_dropout": [Interval(Real, 0, 1, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "solver": [StrOptions({"adam", "sgd"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        # Infinity is allowed, NaN is not.
        "tol": [Interval(Real, None, None, closed="both")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "monitor": [str, callable],
        "monitor_params": [dict, None],
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
        robust_loss: str = "adversarial",
        attack: str | Callable = "fgsm",
        attack_params: dict | None = None,
        box_share: float = 1.0,
        epsilon_warmup: float | str = "auto",
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
        monitor: str | Callable = "adversarial_error",
        monitor_params: dict | None = None,
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
        self.robust_loss = robust_loss
        self.attack = attack
        self.attack_params = attack_params
        self.box_share = box_share
        self.epsilon_warmup = epsilon_warmup
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
        self.monitor_params = monitor_params
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
            Class labels of at least two classes.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None means weight 1 for all samples.

        Returns
        -------
        self : AdversarialMaxoutClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid. A previous fit then stays as it was.
        FloatingPointError
            If the training loss or a weight becomes NaN or infinite. The estimator is then fitted,
            with the weights of the previous epoch, or of the best epoch with `early_stopping`.
        MemoryError
            If the device runs out of memory.
        OSError
            If a `Checkpoint` can't be written. After an epoch the estimator is then fitted, with
            the weights reached so far.
        KeyboardInterrupt
            At the second Ctrl-C. The estimator is then fitted, with the weights reached so far.
        """
        with unchanged_on_error(self):
            failure = fit_network(self, X, y, sample_weight)
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
        """Train for one epoch on some data, from the current weights and optimizer state.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,)
            Class labels.

        classes : array-like of shape (n_classes,), default=None
            All labels of all calls. It is needed in the first call unless y holds all of them.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. Unlike in `fit`, they are not scaled to the mean 1.

        Returns
        -------
        self : AdversarialMaxoutClassifier
            The estimator. `early_stopping`, `learning_rate` and `max_iter` have no effect here.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or holds labels that are not in `classes`.
        FloatingPointError
            If the training loss or a weight becomes NaN or infinite.
        """
        with unchanged_on_error(self):
            failure = fit_further(self, X, y, classes, sample_weight)
        if failure is not None:
            raise failure
        return self


@as_module.register(AdversarialMaxoutClassifier)
def _(estimator):
    module = copy.deepcopy(plain_module(estimator.net_))
    if module.output_activation == "sigmoid":
        # The softmax of log-sigmoids equals the sigmoids scaled to the sum 1.
        return torch.nn.Sequential(module, torch.nn.LogSigmoid())
    return module
