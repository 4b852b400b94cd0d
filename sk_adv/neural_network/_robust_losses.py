"""The robust losses of a net, by copies, by TRADES and by intervals, and the warm-up of epsilon."""

from functools import partial
from numbers import Real

import torch
from skorch.utils import to_device

from sk_adv.differentiable._boxes import Box, worst_logits
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.differentiable._networks import plain
from sk_adv.neural_network._copies import evaluating
from sk_adv.neural_network._listeners import is_overridden
from sk_adv.neural_network._losses import SigmoidCrossEntropy, compares_logits, divergence
from sk_adv.neural_network._parts import device_of, logits_of

ROBUST_LOSSES = ("adversarial", "certified", "trades")


def check_robust_loss(net):
    """Raise `ValueError` unless the robust loss of a net, and what belongs to it, is valid."""
    if not (isinstance(net.robust_loss, str) and net.robust_loss in ROBUST_LOSSES):
        raise ValueError(
            f"robust_loss must be one of {list(ROBUST_LOSSES)}; got {net.robust_loss!r}."
        )
    if not (isinstance(net.box_share, Real) and 0 < net.box_share <= 1):
        raise ValueError(f"box_share must lie in (0, 1]; got {net.box_share!r}.")
    warmup = net.epsilon_warmup
    is_auto = isinstance(warmup, str) and warmup == "auto"
    if not (is_auto or (isinstance(warmup, Real) and 0 <= warmup <= 1)):
        raise ValueError(f"epsilon_warmup must be 'auto' or lie in [0, 1]; got {warmup!r}.")
    if net.robust_loss == "certified" and net.alpha < 1:
        smoothing = getattr(plain(getattr(net, "criterion_", None)), "label_smoothing", 0)
        if smoothing > 0:
            raise ValueError(
                "robust_loss='certified' needs a loss that never falls as the logit of another "
                f"class rises, unlike the one with criterion__label_smoothing={smoothing}: leave "
                "it at 0."
            )
    if net.robust_loss != "trades" or net.alpha == 1:
        return
    if net.alpha == 0:
        raise ValueError(
            "robust_loss='trades' needs alpha > 0, as the divergence alone teaches no class; got "
            "alpha=0."
        )
    if net.attack_.attack.takes("loss") and not net.attack_.is_random:
        raise ValueError(
            "robust_loss='trades' needs an attack with a random start, because the divergence has "
            "no gradient at the sample itself: pass attack='fgsm_rs' or attack='pgd'; got "
            f"{net.attack_.name!r}."
        )


class RobustLosses:
    """Mixin of an `AdversarialNet`: its loss J̄ in the current batch, and the parts of it."""

    def mixture_now(self):
        """The weight of the clean loss and the perturbation set of the batch that is trained now.

        Returns
        -------
        alpha : float
            `alpha`, or more than that in the warm-up.
        perturbations : PerturbationSet
            That of `epsilon`, or a smaller one in the warm-up.
        """
        share = self._share_now()
        if share == 1:
            return self.alpha, self.perturbation_
        return 1 - share * (1 - self.alpha), self.perturbation_.scaled(share)

    def _share_now(self):
        """The share of epsilon and of the weight of the robust loss, by the warm-up's progress."""
        warmup = self.warmup_
        if warmup == 0 or not self.history:
            return 1.0
        n_batches = max(len(self.history[-1].get("batches", ())), 1)
        # Batches of an iterator without a length count as those of an epoch's end.
        epochs = len(self.history) - 1 + min(n_batches / self.n_batches_, 1)
        return min(epochs / (warmup * max(self.max_epochs, 1)), 1.0)

    @property
    def warmup_(self):
        """The share of the epochs in which epsilon rises."""
        if self.epsilon_warmup == "auto":
            return 0.5 if self.robust_loss == "certified" else 0.0
        return self.epsilon_warmup

    @property
    def is_warm_(self):
        """Whether epsilon has reached its value at the end of the last epoch."""
        return len(self.history) >= self.warmup_ * self.max_epochs

    @property
    def _needs_copies(self):
        """Whether the robust loss needs copies by the attack."""
        return self.robust_loss != "certified" or self.box_share < 1

    def _divergence(self, clean, adversarial, y):
        """The mean divergence of the probabilities of two outputs.

        Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy",
        ICML 2019, section 3.
        """
        losses = divergence(
            logits_of(clean), logits_of(adversarial), of_sigmoids=self._has_sigmoids
        )
        if isinstance(y, (tuple, list)):
            losses = losses * to_device(y[1], device_of(self))
        return losses.mean()

    def _certified_loss(self, X, centres, y, perturbations):
        """Worst logits in boxes inside of the perturbation sets, and the mean loss at them.

        Source: Müller et al., "Certified Training: Small Boxes are All You Need", ICLR 2023,
        section 3; the whole set as in Gowal et al. (2019).
        """
        if self.box_share < 1:
            inside = perturbations.clip(X)
            centres = inside + (1 - self.box_share) * (centres - inside)
            perturbations = perturbations.scaled(self.box_share)
        # The ends of the logits themselves serve any loss that does not fall with those of others.
        by_margins = compares_logits(getattr(self, "criterion_", None))
        by_margins = by_margins and not is_overridden(self, "get_loss")
        worst = self._worst_logits(centres, y, perturbations, by_margins=by_margins)
        return worst, self.get_loss(worst, y, X=X, training=True)

    def _worst_logits(self, X, y, perturbations, *, by_margins):
        """Logits of the largest loss, by intervals, in evaluation mode; see `worst_logits`."""
        labels = to_device(y[0] if isinstance(y, (tuple, list)) else y, device_of(self))
        module = self.as_one_module()
        box = Box.of(X, perturbations)
        with evaluating(module):
            try:
                return worst_logits(module, box, labels.long(), by_margins=by_margins)
            except NoBoundsError as error:
                raise NoBoundsError(
                    "robust_loss='certified' and monitor='certified_error' need bounds for every "
                    f"layer. {error}"
                ) from error

    @property
    def _has_sigmoids(self):
        """Whether the logits are those of one independent sigmoid per class."""
        return isinstance(plain(getattr(self, "criterion_", None)), SigmoidCrossEntropy)

    def mixed_loss(self, X, copies, y):
        """The loss J̄ at the full radius, in the module's current mode, without training.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, ...)
            Samples.

        copies : torch.Tensor of the shape of X
            Their copies by the training attack.

        y : torch.Tensor of shape (n_samples,), or pair of such tensors
            Class indices, or class indices and sample weights.

        Returns
        -------
        clean, adversarial : torch.Tensor of shape (n_samples, n_classes)
            The module's outputs for both.
        loss : torch.Tensor of shape ()
            The loss.
        """
        (clean, loss), (adversarial, robust) = self._loss(X, y), self._loss(copies, y)
        if self.alpha == 1:
            return clean, adversarial, loss
        if self.robust_loss == "trades":
            robust = self._divergence(clean, adversarial, y)
        elif self.robust_loss == "certified":
            _, robust = self._certified_loss(X, copies, y, self.perturbation_)
        return clean, adversarial, self.alpha * loss + (1 - self.alpha) * robust

    def _divergence_from(self, module, X):
        """The divergence from the probabilities at a batch, as a loss for an attack."""
        with evaluating(module), torch.no_grad():
            clean = logits_of(module(X))
        return partial(_divergence_of_all, clean, of_sigmoids=self._has_sigmoids)


def _divergence_of_all(clean, logits, labels, *, of_sigmoids):
    """The divergences of a whole batch, as a loss for an attack."""
    if len(logits) != len(clean):
        raise ValueError(
            "robust_loss='trades' needs an attack that moves all samples of a batch together, such "
            "as 'fgsm_rs', or 'pgd' with n_restarts=1."
        )
    return divergence(clean, logits, of_sigmoids=of_sigmoids)
