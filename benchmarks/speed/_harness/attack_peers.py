"""The sides of the comparison: sk_adv's attacks, and the loops and libraries people use instead.

Every side is made once for a problem. It is a function without arguments that attacks an array of
images and returns an array of copies, so its time is all that a user waits for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import foolbox
import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.nn.functional import cross_entropy

from sk_adv.attacks import fgsm, pgd

Side = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Images, the module and the attack, the same for all sides.

    Attributes
    ----------
    module : torch.nn.Module
        In evaluation mode.
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), int64
        Class indices.
    epsilon : float
        Radius in the max-norm.
    n_steps : int or None
        Steps of PGD, without a random start; None stands for FGSM.
    bounds : tuple of float
        Valid range of a pixel, which Foolbox needs.
    """

    module: nn.Module
    X: np.ndarray
    y: np.ndarray
    epsilon: float = 0.25
    n_steps: int | None = None
    bounds: tuple[float, float] = (0.0, 1.0)

    def step_size(self) -> float:
        """The radius of one step."""
        return self.epsilon if self.n_steps is None else 2.5 * self.epsilon / self.n_steps

    def tensors(self, batch_size: int) -> zip:
        """The batches of X and y as tensors."""
        X, y = torch.from_numpy(self.X), torch.from_numpy(self.y)
        return zip(X.split(batch_size), y.split(batch_size), strict=True)


def ours(problem: Problem, batch_size: int | None = None) -> Side:
    """`fgsm` or `pgd` of sk_adv, by default in batches of its own choice."""
    params = {"bounds": problem.bounds, "batch_size": batch_size}
    attack = fgsm
    if problem.n_steps is not None:
        attack = pgd
        params |= {"n_steps": problem.n_steps, "random_start": False}
    return lambda: attack(problem.module, problem.X, problem.y, problem.epsilon, **params)


def default_batch_size(problem: Problem) -> int:
    """The default size of our batches, as the module sees them."""
    sizes = []
    hook = problem.module.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0]))
    )
    ours(problem)()
    hook.remove()
    return sizes[0]


def bare(problem: Problem, batch_size: int) -> Side:
    """A torch loop that computes only what the copies need.

    It computes the gradient on the input alone, and makes the step in place.
    """

    def step(clean, labels, x):
        x.requires_grad_(True)
        loss = cross_entropy(problem.module(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        moved = gradient.sign_().mul_(problem.step_size()).add_(x.detach())
        if problem.n_steps is not None:
            moved = moved.sub_(clean).clamp_(-problem.epsilon, problem.epsilon).add_(clean)
        return moved.clamp_(*problem.bounds)

    def call():
        copies = torch.empty(problem.X.shape)
        for (clean, labels), rows in zip(
            problem.tensors(batch_size), copies.split(batch_size), strict=True
        ):
            x = clean.detach()
            for _ in range(problem.n_steps or 1):
                x = step(clean, labels, x)
            rows.copy_(x)
        return copies.numpy()

    return call


def foolbox_copies(problem: Problem, batch_size: int) -> Side:
    """Foolbox's attack by its method `run`, which makes the copies and nothing else."""
    attack, model = _foolbox(problem)
    return _by_batches(
        problem, batch_size, lambda x, y: attack.run(model, x, y, epsilon=problem.epsilon)
    )


def foolbox_call(problem: Problem, batch_size: int) -> Side:
    """Foolbox's attack as its guide calls it: it also checks which copies fool the module."""
    attack, model = _foolbox(problem)
    return _by_batches(
        problem, batch_size, lambda x, y: attack(model, x, y, epsilons=problem.epsilon)[1]
    )


def _foolbox(problem):
    model = foolbox.PyTorchModel(problem.module, bounds=problem.bounds, device="cpu")
    if problem.n_steps is None:
        return foolbox.attacks.LinfFastGradientAttack(), model
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=problem.step_size(), steps=problem.n_steps, random_start=False
    )
    return attack, model


def _by_batches(problem, batch_size, attack):
    """Foolbox has no batches of its own."""
    return lambda: torch.cat([attack(x, y) for x, y in problem.tensors(batch_size)]).numpy()


def toolbox(problem: Problem, batch_size: int) -> Side:
    """The Adversarial Robustness Toolbox's attack."""
    classifier = PyTorchClassifier(
        problem.module,
        nn.CrossEntropyLoss(),
        input_shape=problem.X.shape[1:],
        nb_classes=int(problem.y.max()) + 1,
        clip_values=problem.bounds,
        device_type="cpu",
    )
    params = {"eps": problem.epsilon, "batch_size": batch_size}
    if problem.n_steps is None:
        attack = FastGradientMethod(classifier, **params)
    else:
        attack = ProjectedGradientDescent(
            classifier,
            eps_step=problem.step_size(),
            max_iter=problem.n_steps,
            verbose=False,
            **params,
        )
    return lambda: attack.generate(problem.X, problem.y)


def check_same_copies(sides: dict[str, Side], tolerance: float) -> float:
    """Call all sides once, and compare their copies with the first side's.

    Parameters
    ----------
    sides : dict of callable
    tolerance : float
        The share of pixels that may differ: where a gradient is zero up to rounding, its sign is
        arbitrary.

    Returns
    -------
    float
        The largest share that differs.

    Raises
    ------
    RuntimeError
        If a side's share is larger than `tolerance`.
    """
    copies = {name: side() for name, side in sides.items()}
    expected = next(iter(copies.values()))
    largest = 0.0
    for name, found in copies.items():
        share = float((np.abs(found - expected) > 1e-6).mean())
        if share > tolerance:
            raise RuntimeError(
                f"{name} makes other copies: {share:.2%} of the pixels differ. Ratios of the times "
                "would mean nothing."
            )
        largest = max(largest, share)
    return largest
