"""The numbers by which the mean losses of a batch divide the sums over its samples."""

from skorch.dataset import get_len, unpack_data
from torch import Tensor, nn

from sk_adv.differentiable._networks import plain
from sk_adv.neural_network._listeners import is_overridden


def divisors(net, X, y):
    """The divisors of the criterion and of a mean over samples, for a batch.

    Parameters
    ----------
    net : AdversarialNet
    X : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,), or pair of such tensors
        Class indices, or class indices and sample weights.

    Returns
    -------
    of_criterion, n_samples : float
        They differ where the criterion weights or ignores classes.
    """
    n_samples = float(len(y) if isinstance(y, Tensor) else get_len(X))
    criterion = plain(getattr(net, "criterion_", None))
    if isinstance(y, tuple | list) or is_overridden(net, "get_loss"):
        # Losses with sample weights are divided by the number of samples.
        return n_samples, n_samples
    if not (isinstance(criterion, nn.CrossEntropyLoss) and isinstance(y, Tensor)):
        return n_samples, n_samples
    labels = y[y != criterion.ignore_index]
    if criterion.weight is None or labels.is_floating_point():
        return float(len(labels)), n_samples
    weights = criterion.weight
    # Labels without a weight are reported by the criterion.
    labels = labels[(labels >= 0) & (labels < len(weights))].to(weights.device)
    return float(weights[labels].sum()), n_samples


def is_sum(net, batch):
    """Whether the loss of a batch is the sum over its samples, not a mean."""
    _, y = unpack_data(batch)
    is_weighted = isinstance(y, tuple | list) or is_overridden(net, "get_loss")
    criterion = plain(getattr(net, "criterion_", None))
    return not is_weighted and getattr(criterion, "reduction", None) == "sum"
