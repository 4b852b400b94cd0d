"""Maxout layers and networks as plain torch modules."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from sklearn.utils import check_scalar
from torch import nn
from torch.nn.functional import linear

from sk_adv._randomness import generator_on, has_own_generators
from sk_adv.differentiable import enclose
from sk_adv.differentiable._relaxations import layers_of, relax
from sk_adv.differentiable._relaxed_maxima import largest_of


class Maxout(nn.Module):
    """Maxout layer: each unit returns the largest of several affine functions of the input.

    Unit u computes h_u(x) = max_k (w_kuᵀx + b_ku). Source: Goodfellow, Warde-Farley, Mirza,
    Courville and Bengio, "Maxout Networks", ICML 2013.

    Parameters
    ----------
    n_features : int
        Size of the input.

    n_units : int
        Size of the output.

    n_pieces : int, default=5
        Number of linear pieces per unit.

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (n_pieces, n_units, n_features)
        The weights w, drawn from U(-1/√n_features, 1/√n_features).

    bias : torch.nn.Parameter of shape (n_pieces, n_units)
        The biases b, drawn from the same distribution.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.neural_network import Maxout
    >>> Maxout(3, 2, n_pieces=4)(torch.zeros(7, 3)).shape
    torch.Size([7, 2])
    """

    def __init__(self, n_features: int, n_units: int, n_pieces: int = 5):
        super().__init__()
        check_scalar(n_features, "n_features", Integral, min_val=1)
        check_scalar(n_units, "n_units", Integral, min_val=1)
        check_scalar(n_pieces, "n_pieces", Integral, min_val=1)
        self.weight = nn.Parameter(torch.empty(n_pieces, n_units, n_features))
        self.bias = nn.Parameter(torch.empty(n_pieces, n_units))
        reach = n_features**-0.5
        generator = generator_on(self.weight.device)
        nn.init.uniform_(self.weight, -reach, reach, generator)
        nn.init.uniform_(self.bias, -reach, reach, generator)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Map X of shape (n_samples, n_features) to (n_samples, n_units)."""
        # One matrix product for all pieces; max, not amax, whose gradient is slower.
        pieces = linear(X, self.weight.flatten(0, 1), self.bias.flatten())
        return pieces.unflatten(1, self.bias.shape).max(1).values

    @torch.no_grad()
    def constrain_weights(self, max_norm: float):
        """Scale the weights of each piece down to the Euclidean norm `max_norm` if they exceed it.

        Parameters
        ----------
        max_norm : float
            Largest allowed norm.
        """
        limit_norms(self.weight.flatten(0, 1), max_norm)

    def extra_repr(self):
        """The sizes, for the module's `repr`."""
        n_pieces, n_units, n_features = self.weight.shape
        return f"n_features={n_features}, n_units={n_units}, n_pieces={n_pieces}"


class MaxoutNet(nn.Module):
    """Network of maxout layers with dropout, followed by a linear layer of logits.

    Parameters
    ----------
    n_features : int
        Size of the input.

    n_classes : int
        Number of logits.

    hidden_layer_sizes : tuple of int, default=(240, 240)
        Number of units per maxout layer.

    n_pieces : int, default=5
        Number of linear pieces per unit.

    input_dropout : float, default=0.0
        Share of the inputs that is dropped in training.

    hidden_dropout : float, default=0.0
        Share of each layer's units that is dropped in training.

    max_norm : float or None, default=None
        Largest Euclidean norm of the weights of one piece of a unit, or of one logit. None means
        no limit. `constrain_weights` enforces it; `AdversarialNet` calls that after each step.

    output_activation : {"softmax", "sigmoid"}, default="softmax"
        How `probabilities` transforms the logits: to one distribution over the classes, or by an
        independent sigmoid per class.

    Attributes
    ----------
    layers : torch.nn.ModuleList of Maxout
        The hidden layers; `layers[0].weight` holds the first-layer filters.

    output : torch.nn.Linear
        The layer of logits.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.neural_network import MaxoutNet
    >>> MaxoutNet(3, 2, hidden_layer_sizes=(8, 8))(torch.zeros(7, 3)).shape
    torch.Size([7, 2])
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        hidden_layer_sizes: Sequence[int] = (240, 240),
        n_pieces: int = 5,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        max_norm: float | None = None,
        output_activation: str = "softmax",
    ):
        super().__init__()
        if output_activation not in ("softmax", "sigmoid"):
            raise ValueError(
                f"output_activation must be 'softmax' or 'sigmoid'; got {output_activation!r}."
            )
        if max_norm is not None:
            check_scalar(max_norm, "max_norm", Real, min_val=0, include_boundaries="neither")
        check_scalar(n_features, "n_features", Integral, min_val=1)
        check_scalar(n_classes, "n_classes", Integral, min_val=1)
        for name, share in (("input_dropout", input_dropout), ("hidden_dropout", hidden_dropout)):
            check_scalar(share, name, Real)
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must lie in [0, 1]; got {share!r}.")
        if not isinstance(hidden_layer_sizes, Sequence) or isinstance(hidden_layer_sizes, str):
            raise TypeError(
                "hidden_layer_sizes must be a sequence of integers, such as (240, 240); "
                f"got {hidden_layer_sizes!r}."
            )
        self.max_norm = max_norm
        self.output_activation = output_activation
        sizes = (n_features, *hidden_layer_sizes)
        self.layers = nn.ModuleList(
            Maxout(size, n_units, n_pieces)
            for size, n_units in zip(sizes, hidden_layer_sizes, strict=False)
        )
        self.output = _linear(sizes[-1], n_classes)
        dropout = SeededDropout if has_own_generators() else nn.Dropout
        self.input_dropout, self.hidden_dropout = dropout(input_dropout), dropout(hidden_dropout)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Map X of shape (n_samples, n_features) to logits (n_samples, n_classes)."""
        X = self.input_dropout(X)
        for layer in self.layers:
            X = self.hidden_dropout(layer(X))
        return self.output(X)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Map logits to class probabilities.

        Parameters
        ----------
        logits : torch.Tensor of shape (n_samples, n_classes)
            Output of the module.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_classes)
            The softmax, or independent sigmoids, which do not sum to 1.
        """
        return logits.softmax(1) if self.output_activation == "softmax" else logits.sigmoid()

    @torch.no_grad()
    def constrain_weights(self):
        """Enforce `max_norm` on all layers."""
        if self.max_norm is None:
            return
        for layer in self.layers:
            layer.constrain_weights(self.max_norm)
        limit_norms(self.output.weight, self.max_norm)


class SeededDropout(nn.Dropout):
    """Dropout whose masks come from the training's own generators, where there are any.

    Torch's own draws from the global generators only. On the CPU equal states of the generators
    give equal masks, bit for bit.
    """

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Multiply X by 0 or 1 / (1 - p) in training mode."""
        generator = generator_on(X.device) if self.training and self.p > 0 else None
        if generator is None:
            return super().forward(X)
        return X * torch.empty_like(X).bernoulli_(1 - self.p, generator=generator).div_(1 - self.p)


def _linear(n_features, n_classes):
    """`nn.Linear` with its own distribution of weights, drawn by the training's own generators."""
    # Made without weights, because drawing them would move torch's generator.
    layer = nn.Linear(n_features, n_classes, device="meta")
    layer.weight = nn.Parameter(torch.empty(n_classes, n_features))
    layer.bias = nn.Parameter(torch.empty(n_classes))
    generator = generator_on(layer.weight.device)
    # Both are uniform between ±1/√n_features; this is how torch writes it, up to the last bit.
    nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
    reach = 1 / n_features**0.5
    nn.init.uniform_(layer.bias, -reach, reach, generator)
    return layer


def limit_norms(rows: torch.Tensor, max_norm: float) -> None:
    """Scale rows whose Euclidean norm exceeds `max_norm` down to this norm, in place."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows.mul_((max_norm / norms).clamp_(max=1))


@enclose.register
def _(module: Maxout, region):
    low, high = region.affine(module.weight.flatten(0, 1), module.bias.flatten()).limits()
    shape = module.bias.shape
    return region.between(low.unflatten(1, shape).amax(1), high.unflatten(1, shape).amax(1))


@enclose.register
def _(module: MaxoutNet, region):
    for step in (*module.layers, module.output):
        region = enclose(step, region)
    return region


@relax.register
def _(module: Maxout, source):
    return largest_of(module.weight, module.bias, source)


@layers_of.register
def _(module: MaxoutNet):
    for step in (*module.layers, module.output):
        yield from layers_of(step)
