"""Functions shared by support vector machines and Gaussian processes."""

from torch import Tensor

WAYS_ON = (
    "register a rule for a subclass of your own with `as_module.register`, or attack a "
    "differentiable surrogate trained on the model's own predictions (the parameter `surrogate`)"
)


def in_double(X: Tensor) -> Tensor:
    """X in double precision, except on Apple's GPUs, which have none."""
    return X if X.device.type == "mps" else X.double()


def squared_distances(X: Tensor, centres: Tensor) -> Tensor:
    """‖x - s‖² = ‖x‖² + ‖s‖² - 2 xᵀs for all rows x of X and s of the centres."""
    # The three terms cancel where x is close to s. Subtracting the mean of the centres first, and
    # double precision, prevent that at less cost than differences feature by feature.
    origin = in_double(centres).mean(0)
    x, s = X - origin, centres - origin
    squares = x.square().sum(1, keepdim=True) + s.square().sum(1) - 2 * x @ s.T
    return squares.clamp(min=0).to(X.dtype)
