"""AdversarialNet: skorch's classifier with an adversarial training step."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.dataset import unpack_data
from skorch.utils import to_device
from torch import nn
from torch.nn.functional import softplus

from sk_adv._perturbations import clip, steepest_step
from sk_adv.attacks import log_odds_against


class LogOddsCrossEntropy(nn.CrossEntropyLoss):
    """Mean cross-entropy of the softmax, as the softplus of the log-odds against the true class.

    The same value as `torch.nn.CrossEntropyLoss`. Its gradient keeps its direction where the
    probability of the true class rounds to 1, which the attack in a training step depends on.
    """

    def forward(self, input, target):  # noqa: A002 (torch's name)
        """Loss of logits (n_samples, n_classes) with class indices (n_samples,)."""
        return softplus(log_odds_against(input, target)).mean()


class AdversarialNet(NeuralNetClassifier):
    """A skorch classifier that trains on clean samples and adversarial copies of them.

    Each batch minimises

        J̄ = alpha J(θ, x, y) + (1-alpha) J(θ, x + η, y) ,   η = ε sign(∇ₓ J(θ, x, y)) ,

    with the copies held constant when differentiating. The backward pass through the clean loss
    gives the gradient on the weights and the one on the input from which the copies are made, so a
    step costs two forward and two backward passes; with alpha = 1 one of each. The module sees the
    copies in training mode, with dropout masks of their own.

    Source: Goodfellow, Shlens and Szegedy (2015), section 6.

    Parameters
    ----------
    module : torch.nn.Module class or instance
        Maps (n_samples, ...) to logits of shape (n_samples, n_classes).

    *args : tuple
        Passed to `skorch.NeuralNetClassifier`.

    criterion : torch.nn.Module class, default=LogOddsCrossEntropy
        The loss J.

    epsilon : float or torch.Tensor of the shape of one sample, default=0.25
        Radius of the perturbation in the units of X.

    alpha : float, default=0.5
        Weight of the clean loss.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) of torch.Tensor or None, default=None
        Valid range of X, to which the copies are clipped.

    **kwargs : dict
        Passed to `skorch.NeuralNetClassifier`.
    """

    def __init__(
        self,
        module,
        *args,
        criterion=LogOddsCrossEntropy,
        epsilon=0.25,
        alpha=0.5,
        norm=np.inf,
        bounds=None,
        **kwargs,
    ):
        super().__init__(module, *args, criterion=criterion, **kwargs)
        self.epsilon = epsilon
        self.alpha = alpha
        self.norm = norm
        self.bounds = bounds

    def train_step_single(self, batch, **fit_params):
        """Compute the mixed loss of one batch and add its gradient to the weights'.

        Parameters
        ----------
        batch : tuple
            X and y of the batch.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        dict
            The `loss`, and the module's output on the clean batch as `y_pred`.
        """
        if self.alpha == 1:
            return super().train_step_single(batch, **fit_params)
        self._set_training(True)
        X, y = unpack_data(batch)
        X = to_device(X, self.device).detach().requires_grad_(True)
        y_pred = self.infer(X, **fit_params)
        clean_loss = self.get_loss(y_pred, y, X=X, training=True)
        if self.alpha == 0:
            (gradient,) = torch.autograd.grad(clean_loss, X)
        else:
            (self.alpha * clean_loss).backward()
            gradient = X.grad
        copies = clip(X.detach() + steepest_step(gradient, self.epsilon, self.norm), self.bounds)
        adversarial_loss = self.get_loss(
            self.infer(copies, **fit_params), y, X=copies, training=True
        )
        ((1 - self.alpha) * adversarial_loss).backward()
        loss = self.alpha * clean_loss.detach() + (1 - self.alpha) * adversarial_loss.detach()
        return {"loss": loss, "y_pred": y_pred}


class TensorBatches:
    """Batches of data that fits in memory, taken from whole tensors by index.

    A drop-in for `torch.utils.data.DataLoader` where the data set holds tensors `X` and `y`:
    nothing is done a sample at a time.

    Parameters
    ----------
    dataset : skorch.dataset.Dataset
        With tensors `X` and `y`.

    batch_size : int
        Samples a batch; the last one may hold fewer.

    shuffle : bool, default=False
        Whether to draw a new order for each pass.
    """

    def __init__(self, dataset, batch_size, shuffle=False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        """Number of batches."""
        return -(-len(self.dataset.X) // self.batch_size)

    def __iter__(self):
        """Yield pairs of tensors (X, y)."""
        X, y = self.dataset.X, self.dataset.y
        if self.shuffle:
            order = torch.randperm(len(X)).to(X.device)
            for rows in order.split(self.batch_size):
                yield X[rows], y[rows]
        else:
            yield from zip(X.split(self.batch_size), y.split(self.batch_size), strict=True)
