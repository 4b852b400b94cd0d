"""The sides of the comparison: sk_adv's networks, and the loops and libraries people use instead.

Every side is made once and trained many times. It is a function of a number of epochs that returns
the seconds per epoch, without making objects and preparing data.
"""

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sk_adv import AdversarialMaxoutClassifier
from sk_adv._randomness import generator_on
from sk_adv.neural_network import MaxoutNet

# The loss of our estimator, for loops that do the same arithmetic.
from sk_adv.neural_network._losses import LogOddsCrossEntropy

LEARNING_RATE = 0.001
ALPHA = 0.5

Side = Callable[[int], float]


@dataclass(frozen=True)
class Problem:
    """Data, the network and the size of a batch, the same for all sides.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), int64
        Class indices.
    batch_size : int
    epsilon : float
        Radius of the attack.
    input_dropout, hidden_dropout : float
        Shares dropped in training.
    hidden_layer_sizes : tuple of int
    n_pieces : int
    """

    X: np.ndarray
    y: np.ndarray
    batch_size: int
    epsilon: float
    input_dropout: float = 0.0
    hidden_dropout: float = 0.0
    hidden_layer_sizes: tuple[int, ...] = (240, 240)
    n_pieces: int = 5

    def first(self, n_samples: int) -> "Problem":
        """The same problem with its first samples only."""
        return replace(self, X=self.X[:n_samples], y=self.y[:n_samples])

    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    def module(self) -> MaxoutNet:
        """A network with new random weights."""
        return MaxoutNet(self.X.shape[1], self.n_classes(), **self.architecture())

    def architecture(self) -> dict:
        """Parameters that the estimator and the module have in common."""
        return {
            "hidden_layer_sizes": self.hidden_layer_sizes,
            "n_pieces": self.n_pieces,
            "input_dropout": self.input_dropout,
            "hidden_dropout": self.hidden_dropout,
        }

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """X and y as tensors."""
        return torch.from_numpy(self.X), torch.from_numpy(self.y)


class Stopwatch(Callback):
    """The seconds from the beginning to the end of a training, with its bookkeeping.

    It does not listen to batches, so it adds no work to an epoch.
    """

    def on_train_begin(self, net, **kwargs):
        """Start."""
        self.start = time.perf_counter()

    def on_train_end(self, net, **kwargs):
        """Stop."""
        self.seconds = time.perf_counter() - self.start


class BatchListener(Callback):
    """A callback that listens to each batch, so that training goes through autograd."""

    def on_batch_end(self, net, **kwargs):
        """Do nothing."""


def ours(problem: Problem, alpha: float, callbacks: tuple = (), **params) -> Side:
    """Our estimator; every call continues from the weights and the optimizer of the last."""
    stopwatch = Stopwatch()
    model = estimator(problem, alpha, callbacks=[stopwatch, *callbacks], warm_start=True, **params)

    def train(n_epochs):
        model.set_params(max_iter=n_epochs).fit(problem.X, problem.y)
        return stopwatch.seconds / n_epochs

    return train


def estimator(problem: Problem, alpha: float, **params) -> AdversarialMaxoutClassifier:
    """Our estimator for a problem, on the CPU, which trains for all its epochs."""
    return AdversarialMaxoutClassifier(
        **problem.architecture(),
        epsilon=problem.epsilon,
        alpha=alpha,
        learning_rate_init=LEARNING_RATE,
        batch_size=problem.batch_size,
        tol=-np.inf,
        random_state=0,
        device="cpu",
        **params,
    )


def bare_plain(problem: Problem) -> Side:
    """Ordinary training as a bare torch loop."""
    return _bare(problem, plain_epoch)


def bare_adversarial(problem: Problem) -> Side:
    """Our adversarial training as a bare torch loop."""
    return _bare(problem, adversarial_epoch)


def _bare(problem, run_epoch):
    module = problem.module()
    optimizer = fused_adam(module)
    X, y = problem.tensors()
    return _timed(lambda: run_epoch(module, optimizer, X, y, problem))


def fused_adam(module: nn.Module) -> torch.optim.Adam:
    """The optimizer that our estimator uses."""
    return torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, fused=True)


def plain_epoch(module, optimizer, X, y, problem):
    """One epoch of ordinary training: one forward and one backward pass per batch."""
    criterion = LogOddsCrossEntropy()
    for rows in torch.randperm(len(X)).split(problem.batch_size):
        optimizer.zero_grad()
        criterion(module(X[rows]), y[rows]).backward()
        optimizer.step()


def adversarial_epoch(module, optimizer, X, y, problem):
    """One epoch on J̄: two forward and two backward passes per batch.

    The backward pass through the clean loss gives the gradient on the weights and the one on the
    input, along which the copies are made.
    """
    criterion = LogOddsCrossEntropy()
    for rows in torch.randperm(len(X)).split(problem.batch_size):
        clean, labels = X[rows].requires_grad_(True), y[rows]
        optimizer.zero_grad()
        (ALPHA * criterion(module(clean), labels)).backward()
        copies = clean.detach() + problem.epsilon * clean.grad.sign()
        ((1 - ALPHA) * criterion(module(copies), labels)).backward()
        optimizer.step()


def three_pass(problem: Problem) -> Side:
    """The loop of most tutorials: a separate attack, then both losses in the training step."""
    module = problem.module()
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(
        TensorDataset(*problem.tensors()), batch_size=problem.batch_size, shuffle=True
    )

    def attack(x, y):
        x = x.clone().detach().requires_grad_(True)
        optimizer.zero_grad()
        criterion(module(x), y).backward()
        return (x + problem.epsilon * x.grad.sign()).detach()

    def epoch():
        for x, y in loader:
            x_adv = attack(x, y)
            optimizer.zero_grad()
            loss = ALPHA * criterion(module(x), y) + (1 - ALPHA) * criterion(module(x_adv), y)
            loss.backward()
            optimizer.step()

    return _timed(epoch)


def toolbox(problem: Problem) -> Side | str:
    """The Adversarial Robustness Toolbox's trainer on copies alone, or why it is missing."""
    try:
        from art.attacks.evasion import FastGradientMethod
        from art.defences.trainer import AdversarialTrainer
        from art.estimators.classification import PyTorchClassifier
    except (ImportError, AttributeError) as error:
        # AttributeError: names that a newer NumPy no longer has.
        return f"can't be imported ({error})"
    module = problem.module()
    classifier = PyTorchClassifier(
        module,
        nn.CrossEntropyLoss(),
        input_shape=problem.X.shape[1:],
        nb_classes=problem.n_classes(),
        optimizer=torch.optim.Adam(module.parameters(), lr=LEARNING_RATE),
        device_type="cpu",
    )
    # Its default is 32.
    attack = FastGradientMethod(classifier, eps=problem.epsilon, batch_size=problem.batch_size)
    trainer = AdversarialTrainer(classifier, attack, ratio=1.0)

    def train(n_epochs):
        # Its progress bars can't be turned off.
        with contextlib.redirect_stderr(io.StringIO()):
            start = time.perf_counter()
            trainer.fit(problem.X, problem.y, batch_size=problem.batch_size, nb_epochs=n_epochs)
            return (time.perf_counter() - start) / n_epochs

    return train


def skorch_plain(problem: Problem) -> Side:
    """skorch's classifier with the same module and its defaults, but no held-out part."""
    stopwatch = Stopwatch()
    net = NeuralNetClassifier(
        problem.module(),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        batch_size=problem.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[stopwatch],
        verbose=0,
        device="cpu",
    )

    def train(n_epochs):
        net.set_params(max_epochs=n_epochs)
        net.partial_fit(problem.X, problem.y)
        return stopwatch.seconds / n_epochs

    return train


def matrix_product(size: int) -> Side:
    """Products of two large float32 matrices; the seconds of one."""
    A, B = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)

    def train(n_epochs):
        start = time.perf_counter()
        for _ in range(3):
            torch.mm(A, B, out=out)
        return (time.perf_counter() - start) / 3

    return train


def bare_products(problem: Problem, is_adversarial: bool) -> Side:
    """The matrix products in bfloat16 of an epoch, of a plain or an adversarial step, alone.

    For each loss these are the forward products, the gradient on the weights, and the gradient on
    the inputs of all layers but the first. The clean loss also needs the gradient on the inputs of
    the first layer, for the attack.
    """
    sizes = (problem.X.shape[1], *problem.hidden_layer_sizes)
    n_rows = [problem.n_pieces * size for size in problem.hidden_layer_sizes]
    n_rows.append(problem.n_classes())
    half = {"dtype": torch.bfloat16}
    layers = [
        (
            torch.rand(problem.batch_size, size, **half),
            torch.rand(n, size, **half),
            torch.rand(problem.batch_size, n, **half),
        )
        for size, n in zip(sizes, n_rows, strict=True)
    ]
    outputs = [tuple(map(torch.empty_like, layer)) for layer in layers]

    def step():
        for reaches_input in (True, False) if is_adversarial else (False,):
            for k, (layer, output) in enumerate(zip(layers, outputs, strict=True)):
                X, weight, slope = layer
                torch.mm(X, weight.T, out=output[2])
                torch.mm(slope.T, X, out=output[1])
                if k or reaches_input:
                    torch.mm(slope, weight, out=output[0])

    def epoch():
        for _ in range(len(problem.X) // problem.batch_size):
            step()

    return _timed(epoch)


def _timed(epoch):
    def train(n_epochs):
        start = time.perf_counter()
        for _ in range(n_epochs):
            epoch()
        return (time.perf_counter() - start) / n_epochs

    return train


class _Start(Callback):
    """The weights and the state of the generator from which the first epoch starts."""

    def on_train_begin(self, net, **kwargs):
        """Nothing is recorded yet."""
        self.weights = None

    def on_epoch_begin(self, net, **kwargs):
        """Record both, once."""
        if self.weights is None:
            self.weights = {k: value.clone() for k, value in net.module_.state_dict().items()}
            self.random_state = generator_on("cpu").get_state()


def check_same_arithmetic(problem: Problem, n_epochs: int = 2) -> None:
    """Train with the bare loops from our estimator's start, and compare the weights.

    The order of the samples and the dropout masks come from generators in the same state: torch's
    global one in the loops, one of its own in our estimator.

    Raises
    ------
    RuntimeError
        If a weight differs in any bit at the end.
    """
    for alpha, run_epoch in ((1, plain_epoch), (ALPHA, adversarial_epoch)):
        start = _Start()
        model = estimator(problem, alpha, callbacks=[start], max_iter=n_epochs)
        model.fit(problem.X, problem.y)
        module = problem.module()
        module.load_state_dict(start.weights)
        optimizer = fused_adam(module)
        X, y = problem.tensors()
        with torch.random.fork_rng([]):
            torch.set_rng_state(start.random_state)
            for _ in range(n_epochs):
                run_epoch(module, optimizer, X, y, problem)
        expected = model.net_.module_.state_dict()
        for name, weight in module.state_dict().items():
            if not torch.equal(weight, expected[name]):
                gap = float((weight - expected[name]).abs().max())
                raise RuntimeError(
                    f"The bare loop and our estimator do not do the same arithmetic: with alpha="
                    f"{alpha}, batches of {problem.batch_size} and dropout "
                    f"{problem.input_dropout:g}/{problem.hidden_dropout:g}, {name} differs by up "
                    f"to {gap:.1e} after {n_epochs} epochs. Ratios of their times would mean "
                    "nothing."
                )
