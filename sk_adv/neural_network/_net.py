"""AdversarialNet: a skorch classifier with an adversarial training step."""

from contextlib import nullcontext
from numbers import Real

import numpy as np
import torch
from skorch.dataset import unpack_data
from skorch.utils import to_device
from torch import Tensor

from sk_adv._arrays import to_numpy
from sk_adv._collections import check_in_memory
from sk_adv._devices import module_device_and_dtype
from sk_adv._perturbations import as_perturbation_set
from sk_adv.attacks import fgsm, log_odds_against
from sk_adv.attacks._objective import loss_of_each
from sk_adv.attacks._table import resolve_attack
from sk_adv.differentiable import as_module
from sk_adv.differentiable._networks import network, plain_module, refuse_other_predictions
from sk_adv.neural_network._bfloat16 import ExplicitStep, may_be_explicit
from sk_adv.neural_network._copies import craft, fgsm_copies
from sk_adv.neural_network._cuda_graph import CudaGraphStep, may_be_captured
from sk_adv.neural_network._data_checks import no_single_array
from sk_adv.neural_network._epochs import QuietNet
from sk_adv.neural_network._html import ParametersInHTML
from sk_adv.neural_network._initialization import draw_interval_weights
from sk_adv.neural_network._listeners import is_overridden
from sk_adv.neural_network._losses import LogOddsCrossEntropy, is_softmax_cross_entropy
from sk_adv.neural_network._net_checks import (
    explaining_dtypes,
    explaining_shapes,
    raise_if_no_loss,
    raise_if_out_of_range,
)
from sk_adv.neural_network._net_type import NetType
from sk_adv.neural_network._parts import device_of, logits_of, modules_of, placed
from sk_adv.neural_network._robust_losses import RobustLosses, check_robust_loss
from sk_adv.neural_network._statistics import keeping_running_statistics

# Parameters of the loss; a callback may change them in the midst of a training.
_OF_LOSS = (
    "alpha",
    "epsilon",
    "norm",
    "bounds",
    "robust_loss",
    "attack",
    "attack_params",
    "box_share",
    "epsilon_warmup",
    "precision",
)


class AdversarialNet(RobustLosses, ParametersInHTML, QuietNet, metaclass=NetType):
    """A skorch classifier that trains any torch module on clean samples and adversarial copies.

    The training loss is

        J̄ = alpha J(θ, x, y) + (1-alpha) R(θ, x, y)

    with J the criterion and R a robust loss. By default that is the loss of adversarial copies,

        R = J(θ, x̃, y) ,   x̃ = x + ε sign(∇ₓ J(θ, x, y)) ,

    where the copies x̃ are constants in the gradient on θ. All features of skorch are available:
    callbacks, `partial_fit`, learning-rate schedules, `module__...` parameters.

    Parameters
    ----------
    module : torch.nn.Module class or instance
        Maps (n_samples, ...) to logits of shape (n_samples, n_classes), or to a tuple whose first
        entry are the logits. If it has a method `constrain_weights()`, this is called after each
        step of the optimizer.

    *args : tuple
        Passed to `skorch.NeuralNetClassifier`.

    criterion : torch.nn.Module class, default=LogOddsCrossEntropy
        The loss J of logits and class indices, which the attacks maximise. The default is the
        cross-entropy of the softmax. `torch.nn.NLLLoss` is not supported, since its input is not
        logits.

    epsilon : float or array-like, default=0.25
        Radius of the perturbation in the units of X: one for all features, or an array that
        broadcasts to one sample.

    alpha : float, default=0.5
        Weight of the clean loss, in [0, 1]: 1 is ordinary training, 0 purely adversarial training.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    robust_loss : {"adversarial", "trades", "certified"}, default="adversarial"
        The robust loss R. "adversarial": that of adversarial copies. "trades": the divergence
        KL(p(x) ‖ p(x̃)) of the class probabilities at x and at copies that maximise it; the factor
        β of TRADES is (1-alpha) / alpha. "certified": an upper bound of the loss within small
        boxes around the copies, by intervals; see `box_share`.

    attack : str or callable, default="fgsm"
        The attack that makes the copies: a name, such as "fgsm_rs" or "pgd", or "sign_noise" for
        the control experiment with noise. A function is called as
        `attack(module, X, y, epsilon, norm=norm, bounds=bounds, **attack_params)` and returns the
        copies. "trades" needs one with a random start.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 7}` for "pgd". `random_state` and
        `batch_size` are set by the net. For attacks given by name, `loss` is the criterion.

    box_share : float, default=1.0
        The share λ in (0, 1] of ε that is the radius of the boxes of "certified". With 1 the box
        is the whole perturbation set, and no copies are made. With less it lies inside of the set,
        around x + (1-λ) (x̃ - x).

    epsilon_warmup : float or "auto", default="auto"
        Share of the epochs in which ε and the weight 1 - alpha of the robust loss rise, evenly
        with each batch, from 0 to their values. "auto" is a half for "certified", which hardly
        learns without, and else 0.

    initialization : {"interval"} or None, default=None
        "interval" draws new weights for all layers at which intervals neither grow nor shrink, as
        "certified" needs them in deep networks. None keeps the module's own.

    precision : {"float32", "bfloat16", "float64"}, default="float32"
        Number format of the training. "bfloat16" runs forward passes under `torch.autocast`,
        with weights and gradients in float32. "float64" converts the module to float64 and needs X
        in float64 too.

    **kwargs : dict
        Passed to `skorch.NeuralNetClassifier`.

    See Also
    --------
    AdversarialMaxoutClassifier : A maxout network with scikit-learn's parameters.

    Notes
    -----
    *Cost.* With "adversarial", "fgsm" and alpha in (0, 1), one backward pass through the clean loss
    gives both the gradient on the weights and the gradient on the input, from which the copies are
    made. A training step then costs two forward and two backward passes. With alpha = 1 no copies
    are made; with alpha = 0 there is no clean gradient on the weights. "fgsm_rs" with alpha = 0
    costs two forward and two backward passes, "pgd" one more of each per step. The intervals of
    "certified" cost two forward and two backward passes. They hold for the module in evaluation
    mode, without dropout and with fixed batch statistics, but without regard to rounding:
    `certified_accuracy_score` proves what holds.

    *Random layers and batch statistics.* Clean samples and copies pass through the module in
    training mode, one after the other: each pass draws its own dropout masks and normalises by its
    own batch. The clean pass alone updates running means and variances, by which the net predicts;
    with alpha = 0, without a clean pass, that of the copies does. This holds for torch's own layers
    and their subclasses, but not within a scripted module. Passes that only serve the attack
    ("pgd", functions, "fgsm" with alpha = 0) run in evaluation mode and do not update statistics.

    *Randomness* comes from torch's global generators, which `torch.manual_seed` seeds.

    *Data.* X must be a single array or tensor if copies are made; integers are then converted to
    floating point. Arrays and tensors are moved to the device once and batched by index, without
    work per sample, and the loss is read back once per epoch. A `numpy.memmap` is read one batch
    at a time. Any other torch `Dataset` is loaded by skorch's `DataLoader`. With callbacks that
    listen to batches or gradients, the loss is read back after each batch.

    *Several processes.* A subclass of skorch's `AccelerateMixin` and this class, in either order,
    trains on all processes of its `accelerator`. Each takes `batch_size` samples of a batch, and
    the gradient is that of the whole batch. Predictions are made by each process for itself.

    *Stopping.* Ctrl-C ends the training after the current batch with a `ConvergenceWarning`, and
    the net can be used. A second Ctrl-C raises `KeyboardInterrupt` at once. If the loss or a
    weight becomes NaN or infinite, the weights are reset to those of the previous epoch and a
    `FloatingPointError` is raised.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 6.

    Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between
    Robustness and Accuracy", ICML 2019, section 3 ("trades").

    Gowal et al., "Scalable Verified Training for Provably Robust Image Classification", ICCV 2019,
    section 3 ("certified" and its schedule).

    Müller, Eckert, Fischer and Vechev, "Certified Training: Small Boxes are All You Need", ICLR
    2023, section 3 (`box_share`).

    Shi, Wang, Zhang, Yi and Hsieh, "Fast Certified Robust Training with Short Warmup", NeurIPS
    2021, section 3 (`initialization`).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_adv.neural_network import AdversarialNet
    >>> X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    >>> y = (X[:, 0] > 0).astype(int)
    >>> net = AdversarialNet(
    ...     torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)),
    ...     epsilon=0.1,
    ...     optimizer=torch.optim.Adam,
    ...     max_epochs=20,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> net.fit(X, y).predict(X[:3]).shape
    (3,)
    """

    # Factors of the losses of a batch in a training by several processes: of the criterion, and of
    # the mean over samples.
    share_ = sample_share_ = 1
    # Whether skorch's AccelerateMixin prepares the parts of the net.
    is_accelerated_ = False

    def __init__(
        self,
        module,
        *args,
        criterion=LogOddsCrossEntropy,
        epsilon=0.25,
        alpha=0.5,
        norm=np.inf,
        bounds=None,
        robust_loss="adversarial",
        attack="fgsm",
        attack_params=None,
        box_share=1.0,
        epsilon_warmup="auto",
        initialization=None,
        precision="float32",
        **kwargs,
    ):
        super().__init__(module, *args, criterion=criterion, **kwargs)
        self.epsilon = epsilon
        self.alpha = alpha
        self.norm = norm
        self.bounds = bounds
        self.robust_loss = robust_loss
        self.attack = attack
        self.attack_params = attack_params
        self.box_share = box_share
        self.epsilon_warmup = epsilon_warmup
        self.initialization = initialization
        self.precision = precision

    def initialize_module(self):
        """Make the module, in the training precision.

        Returns
        -------
        self : AdversarialNet
            The net, with `module_`.
        """
        super().initialize_module()
        if isinstance(self.initialization, str) and self.initialization == "interval":
            draw_interval_weights(plain_module(self))
        elif self.initialization is not None:
            raise ValueError(
                f"initialization must be 'interval' or None; got {self.initialization!r}."
            )
        if self.precision == "float64":
            plain_module(self).double()
        return self

    def initialize(self):
        """Make the module, the criterion, the optimizer and the callbacks.

        Returns
        -------
        self : AdversarialNet
            The net, with new weights.

        Raises
        ------
        ValueError
            If a parameter of the attack is invalid, or the device is not available.
        TypeError
            If an entry of `callbacks` is not a callback, or the criterion is a function.
        """
        super().initialize()
        # skorch moves these when a net from a GPU is loaded on a machine without one.
        self.cuda_dependent_attributes_ = [*self.cuda_dependent_attributes_, "perturbation_"]
        return self

    @property
    def data_dtype(self):
        """The dtype of the samples."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def training_steps(self, iterator, step_fn, **fit_params):
        """Take a training step on each batch of an epoch, by the fastest available method.

        On CUDA a graph is replayed. A maxout network in bfloat16 on the CPU is trained without
        autograd.

        Parameters
        ----------
        iterator : iterable
            The batches.

        step_fn : callable
            The ordinary training step.

        **fit_params : dict
            Passed to `step_fn`.

        Returns
        -------
        iterator
            Pairs of the loss of a batch and its number of samples.
        """
        self.refresh()
        if fit_params or self.is_accelerated_:
            return super().training_steps(iterator, step_fn, **fit_params)
        if may_be_captured(self, iterator):
            step = CudaGraphStep(self, iterator.data, iterator.batch_size)
            return step.steps(self.counted(iterator.rows()))
        if may_be_explicit(self):
            step_fn = ExplicitStep(self)
        return super().training_steps(iterator, step_fn)

    def prepare(self):
        """Check the parameters, and move the perturbation set to the device."""
        super().prepare()
        self._check_parts()
        if self.is_fresh_:
            self.refresh()
        else:
            self._prepare_attack()

    def refresh(self):
        """Take up parameters of the attack that were changed in the midst of a training."""
        if any(
            one is not other for one, other in zip(self._settings(), self.settings_, strict=True)
        ):
            self._prepare_attack()

    def _settings(self):
        return [getattr(self, name) for name in _OF_LOSS]

    def _check_parts(self):
        criterion = getattr(self, "criterion_", None)
        if isinstance(criterion, torch.nn.NLLLoss):
            raise ValueError(
                "criterion=NLLLoss needs logarithms of probabilities, but the module returns "
                "logits: pass torch.nn.CrossEntropyLoss, or keep the default."
            )
        is_mean = getattr(criterion, "reduction", None) != "none"
        if not (is_mean or is_overridden(self, "get_loss")):
            raise ValueError(
                "criterion__reduction='none' gives one loss per sample, but training needs one per "
                "batch: leave it at 'mean'."
            )

    def _prepare_attack(self):
        if not (isinstance(self.alpha, Real) and 0 <= self.alpha <= 1):
            raise ValueError(f"alpha must lie in [0, 1]; got {self.alpha!r}.")
        if self.precision not in ("float32", "bfloat16", "float64"):
            raise ValueError(
                f"precision must be 'float32', 'bfloat16' or 'float64'; got {self.precision!r}."
            )
        self.attack_ = resolve_attack(self.attack, self.attack_params)
        check_robust_loss(self)
        dtype = self.data_dtype
        _, present = module_device_and_dtype(self.as_one_module(), dtype)
        if dtype == torch.float64 and present != dtype:
            raise ValueError(
                "precision='float64' was set after the module was made: call fit or initialize to "
                "make a new module."
            )
        # The shape of a sample is not known yet; `check_samples` checks it later.
        perturbations = as_perturbation_set(self.epsilon, self.norm, self.bounds, None)
        self.perturbation_ = perturbations.to(device_of(self), dtype)
        self.settings_ = self._settings()

    def train_step(self, batch, **fit_params):
        """Take one step of the optimizer on one batch, then constrain the weights.

        Parameters
        ----------
        batch : tuple
            X and y of the batch.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        dict
            The `loss` J̄, and the module's output as `y_pred`.
        """
        self.refresh()
        step = super().train_step(batch, **fit_params)
        for part in modules_of(self).values():
            if hasattr(part, "constrain_weights"):
                part.constrain_weights()
        return step

    def train_step_single(self, batch, **fit_params):
        """Compute the mixed loss of one batch, and add its gradient to that of the weights.

        Parameters
        ----------
        batch : tuple
            X and y of the batch; y may be a pair of class indices and sample weights.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        dict
            The `loss` J̄, and the module's output `y_pred` on the clean batch, or, if alpha is 0,
            on the copies, or the worst logits by intervals.
        """
        if not all(part.training for part in modules_of(self).values()):
            self._set_training(True)
        X, y = unpack_data(batch)
        X = self.as_samples(placed(to_device(X, self.device), self))
        alpha, perturbations = self.mixture_now()
        if alpha < 1 and not isinstance(X, Tensor):
            raise TypeError(no_single_array(X))
        serves_both = alpha < 1 and self._reuses_clean_gradient
        if serves_both:
            X = X.detach().requires_grad_(True)
        elif alpha < 1 and self._needs_copies:
            copies = self._craft(X, y, perturbations=perturbations, **fit_params)
        loss, y_pred = 0, None
        if alpha > 0:
            # An operation in place can't change the leaf that collects the gradient.
            is_spared = serves_both and self.changes_input_
            y_pred, clean = self._loss(X.clone() if is_spared else X, y, **fit_params)
            loss = self.share_ * alpha * clean
            if self.robust_loss == "trades" and alpha < 1:
                with self._clean_statistics():
                    output, _ = self._loss(copies, y, **fit_params)
                    divergence = self._divergence(y_pred, output, y)
                    loss = loss + self.sample_share_ * (1 - alpha) * divergence
                    # The divergence has a gradient through the clean output too.
                    self._backward(loss)
            else:
                self._backward(loss)
        if alpha == 1 or self.robust_loss == "trades":
            return {"loss": loss, "y_pred": y_pred}
        if serves_both:
            copies = fgsm_copies(X.grad, X, perturbations)
        # A backward pass runs the forward pass again where activations are not kept; and until then
        # no statistic may be changed that it needs.
        with self._clean_statistics() if alpha > 0 else nullcontext():
            if self.robust_loss == "certified":
                centres = copies if self._needs_copies else X
                output, robust = self._certified_loss(X, centres, y, perturbations)
            else:
                output, robust = self._loss(copies, y, **fit_params)
            robust = self.share_ * (1 - alpha) * robust
            self._backward(robust)
        return {"loss": loss + robust, "y_pred": output if y_pred is None else y_pred}

    def _clean_statistics(self):
        """A context at whose end the running statistics are those of the clean samples."""
        return keeping_running_statistics(modules_of(self).values())

    def _backward(self, loss):
        """Add the gradient of a loss to that of the weights."""
        loss.backward()

    def as_samples(self, X):
        """A batch in the type in which the module is shown it, in training and ever after.

        Parameters
        ----------
        X : torch.Tensor, or several of them
            Samples.

        Returns
        -------
        torch.Tensor, or several of them
            Floating-point numbers in place of integers if copies are made of them, or if the module
            wants such.
        """
        if not isinstance(X, Tensor) or X.is_floating_point() or X.is_complex():
            return X
        dtype = self.data_dtype if self.alpha < 1 else self.integers_as_
        return X if dtype is None else X.to(dtype)

    @property
    def _reuses_clean_gradient(self):
        """Whether the backward pass through the clean loss also gives the copies."""
        is_fast = self.attack_.attack.function is fgsm and not self.attack_.params
        return is_fast and 0 < self.alpha < 1 and self.robust_loss == "adversarial"

    def _validation_copies(self, X, y):
        """Copies by the training attack, or by "fgsm" if that attack is noise.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, ...)
            Samples.

        y : torch.Tensor of shape (n_samples,)
            Class indices.

        Returns
        -------
        torch.Tensor of the shape of X
            The copies.
        """
        is_noise = self.attack_.attack.needs == "nothing"
        return self._craft(X, y, resolve_attack("fgsm") if is_noise else None)

    def _craft(self, X, y, attack=None, perturbations=None, random_state=None, **fit_params):
        """Copies by an attack that maximises the loss, in passes of its own.

        Another attack than that of the training maximises the criterion.
        """
        labels = to_device(y[0] if isinstance(y, (tuple, list)) else y, device_of(self))
        module = self.as_one_module(**fit_params)
        if perturbations is None:
            perturbations = self.perturbation_
        loss = self._attacked(module, X, by_divergence=attack is None)
        attack = self.attack_ if attack is None else attack
        return craft(attack, module, X, labels, perturbations, loss=loss, random_state=random_state)

    def _attacked(self, module, X, *, by_divergence):
        """The loss that copies of a batch maximise: the criterion, or the divergence of TRADES."""
        criterion = getattr(self, "criterion_", None)
        if by_divergence and self.robust_loss == "trades":
            return self._divergence_from(module, X)
        if is_softmax_cross_entropy(criterion):
            return log_odds_against
        return self._loss_of_each if hasattr(criterion, "reduction") else self.get_loss

    def _loss(self, X, y, **fit_params):
        """Output and mean loss of the module in its current mode."""
        is_half = self.precision == "bfloat16"
        device = device_of(self).type if is_half else None
        with torch.autocast(device, torch.bfloat16) if is_half else nullcontext():
            output = self.infer(X, **fit_params)
        if is_half and isinstance(output, Tensor):
            output = output.float()
        is_training = any(part.training for part in modules_of(self).values())
        return output, self.get_loss(output, y, X=X, training=is_training)

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        """Mean loss of a batch, whose samples may have weights.

        Parameters
        ----------
        y_pred : torch.Tensor of shape (n_samples, n_classes), or tuple that begins with it
            Logits.

        y_true : torch.Tensor of shape (n_samples,), or pair of such tensors
            Class indices, or class indices and sample weights.

        *args, **kwargs
            As in `skorch.NeuralNetClassifier.get_loss`.

        Returns
        -------
        torch.Tensor of shape ()
            The mean over the batch of loss times weight.

        Raises
        ------
        ValueError
            If a label has no logit.
        """
        if isinstance(y_true, (tuple, list)):
            labels, weight = (to_device(part, device_of(self)) for part in y_true)
            return (weight * self._loss_of_each(y_pred, labels, *args, **kwargs)).mean()
        if isinstance(y_true, Tensor):
            y_true = y_true.to(device_of(self))
            y_true = y_true if y_true.is_floating_point() else y_true.long()
        logits = logits_of(y_pred)
        try:
            return super().get_loss(logits, y_true, *args, **kwargs)
        except (IndexError, RuntimeError) as error:
            raise_if_out_of_range(y_true, logits, error)
            raise_if_no_loss(self, y_true, logits, error)
            raise

    def _loss_of_each(self, y_pred, labels, *args, **kwargs):
        """The loss of each sample, by the criterion without its mean, or sample by sample."""
        logits, criterion = logits_of(y_pred), getattr(self, "criterion_", None)
        reduction = getattr(criterion, "reduction", None)
        if reduction is not None:
            criterion.reduction = "none"
        try:
            return loss_of_each(
                lambda *batch: self.get_loss(*batch, *args, **kwargs), logits, labels
            )
        finally:
            if reduction is not None:
                criterion.reduction = reduction

    def validation_step(self, batch, **fit_params):
        """The module's output for one batch, and its loss, in evaluation mode.

        Parameters
        ----------
        batch : tuple
            X and y of the batch.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        dict
            The clean `loss`, and the module's output as `y_pred`.
        """
        X, y = unpack_data(batch)
        X = self.as_samples(placed(X, self))
        return super().validation_step((X, y), **fit_params)

    def evaluation_step(self, batch, training=False):
        """Return the module's output for one batch, with a gradient only if `training`.

        Parameters
        ----------
        batch : tuple
            X and y of the batch.

        training : bool, default=False
            Whether the module is put in training mode.

        Returns
        -------
        torch.Tensor or tuple
            The output.

        Raises
        ------
        TypeError
            If X and the module have different floating-point dtypes.
        ValueError
            If the module can't take samples of this shape.
        """
        self.check_is_fitted()
        X, y = unpack_data(batch)
        X = self.as_samples(placed(X, self))
        _, dtype = module_device_and_dtype(self.as_one_module())
        with explaining_dtypes(X, dtype), explaining_shapes(X):
            return super().evaluation_step((X, y), training=training)

    def predict(self, X):
        """The most probable class of each sample.

        Parameters
        ----------
        X : ndarray, torch.Tensor, numpy.memmap or torch Dataset of shape (n_samples, ...)
            Samples, in the module's dtype.

        Returns
        -------
        ndarray of shape (n_samples,)
            Entries of `classes_`, or class indices.
        """
        return to_numpy(super().predict(X))

    def score(self, X, y, sample_weight=None):
        """Accuracy on samples and their labels.

        Parameters
        ----------
        X : ndarray, torch.Tensor, numpy.memmap or torch Dataset of shape (n_samples, ...)
            Samples.

        y : array-like of shape (n_samples,)
            True labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the mean.

        Returns
        -------
        float
            The accuracy, in [0, 1].

        Raises
        ------
        TypeError
            If one of them is a dask collection.
        """
        check_in_memory(X, y, sample_weight)
        return super().score(X, y, sample_weight)


@as_module.register(AdversarialNet, refuse=refuse_other_predictions)
def _(estimator):
    # For plain skorch nets the criterion decides whether outputs are logits; here they always are.
    return network(estimator)
