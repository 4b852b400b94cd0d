"""Robust losses against formulas written out, autograd, and skorch's and scikit-learn's tools."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn
from torch.nn.functional import cross_entropy

from sk_adv.attacks import fgsm_rs, pgd
from sk_adv.metrics import certified_accuracy_score
from sk_adv.neural_network import AdversarialNet, Checkpoint, MaxoutNet
from sk_adv.neural_network._losses import SigmoidCrossEntropy

EPSILON = 0.2


def net_and_batch(robust_loss, *, weighted=False, **params):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    net = AdversarialNet(
        module,
        robust_loss=robust_loss,
        epsilon=EPSILON,
        precision="float64",
        verbose=0,
        **params,
    ).initialize()
    X, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(0, 3, (30,))
    weight = torch.rand(30, dtype=torch.float64) if weighted else None
    return net, X, y, weight


def gradients(module, loss):
    return torch.autograd.grad(loss, list(module.parameters()))


def check_step(net, batch, loss):
    """Compare the loss and the gradient of a training step with a loss written out."""
    found = net.train_step_single(batch)["loss"].detach()
    torch.testing.assert_close(found, loss)
    for parameter, expected in zip(
        net.module_.parameters(), gradients(net.module_, loss), strict=True
    ):
        torch.testing.assert_close(parameter.grad, expected)


def corner_margins(module, X, y, radius):
    """Upper bounds of z_k - z_y for a network of one hidden layer, by intervals written out."""
    first, _, last = module
    centre, reach = first(X), radius @ first.weight.abs().T
    low, high = (centre - reach).clamp(min=0), (centre + reach).clamp(min=0)
    rows = last.weight[None] - last.weight[y][:, None]
    best = rows.clamp(min=0) * high[:, None] + rows.clamp(max=0) * low[:, None]
    return best.sum(2) + last.bias - last.bias[y][:, None]


@pytest.mark.parametrize("weighted", [False, True])
def test_certified_is_the_loss_at_the_ends_of_intervals(weighted):
    net, X, y, weight = net_and_batch("certified", weighted=weighted, alpha=0.3)
    margins = corner_margins(net.module_, X, y, torch.full_like(X, EPSILON))
    losses = [cross_entropy(logits, y, reduction="none") for logits in (net.module_(X), margins)]
    if weighted:
        losses = [weight * loss for loss in losses]
    expected = 0.3 * losses[0].mean() + 0.7 * losses[1].mean()
    check_step(net, (X, (y, weight) if weighted else y), expected)


class OneAgainstTheRest(nn.Module):
    """A loss of the logits themselves, not of their differences."""

    def forward(self, logits, y):
        return nn.functional.binary_cross_entropy_with_logits(
            logits, nn.functional.one_hot(y, logits.shape[1]).to(logits.dtype)
        )


@pytest.mark.parametrize(
    "criterion",
    [nn.CrossEntropyLoss, nn.MultiMarginLoss, SigmoidCrossEntropy, OneAgainstTheRest],
)
def test_certified_is_an_upper_bound_for_losses_of_all_kinds(criterion):
    net, X, y, _ = net_and_batch("certified", alpha=0.0, criterion=criterion)
    with torch.no_grad():
        # Far from 0, logits count for more than their differences.
        net.module_[2].bias += 5
        corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4))).double()
        losses = [net.criterion_(net.module_(X + EPSILON * corner), y) for corner in corners]
    bound = net.train_step_single((X, y))["loss"]
    assert max(losses) <= bound <= max(losses) + 0.5


def test_a_loss_that_is_computed_by_the_net_is_bounded_too():
    class Own(AdversarialNet):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return OneAgainstTheRest()(y_pred, y_true)

    module = net_and_batch("certified", alpha=0.0)[0].module_
    _, X, y, _ = net_and_batch("certified")
    own = Own(module, robust_loss="certified", epsilon=EPSILON, alpha=0.0, precision="float64")
    with torch.no_grad():
        module[2].bias += 5
        loss = OneAgainstTheRest()(module(X), y)
    assert own.initialize().train_step_single((X, y))["loss"] >= loss


def test_small_boxes_lie_between_the_copies_and_the_samples():
    seen = []

    def attack(module, X, y, epsilon, *, norm, bounds):
        seen.append(fgsm_rs(module, X, y, epsilon, norm=norm, bounds=bounds, random_state=0))
        return seen[-1]

    bounds = (-1.0, 1.5)
    net, X, y, _ = net_and_batch(
        "certified", attack=attack, box_share=0.25, alpha=0.0, bounds=bounds
    )
    X = X.clamp(*bounds)
    copies = fgsm_rs(net.module_, X, y, EPSILON, bounds=bounds, random_state=0)
    centres = X + 0.75 * (copies - X)
    low, high = (centres - 0.25 * EPSILON).clamp(*bounds), centres + 0.25 * EPSILON
    high = high.clamp(*bounds)
    # Inside of the set.
    assert (low >= X - EPSILON - 1e-12).all() and (high <= X + EPSILON + 1e-12).all()
    margins = corner_margins(net.module_, (low + high) / 2, y, (high - low) / 2)
    check_step(net, (X, y), cross_entropy(margins, y))
    assert len(seen) == 1


@pytest.mark.parametrize("criterion", [None, SigmoidCrossEntropy])
@pytest.mark.parametrize("weighted", [False, True])
def test_trades_adds_the_divergence_that_scipy_gives(weighted, criterion):
    def attack(module, X, y, epsilon, *, norm, bounds):
        return X + epsilon * torch.linspace(-1, 1, 4)

    params = {} if criterion is None else {"criterion": criterion}
    net, X, y, weight = net_and_batch(
        "trades", weighted=weighted, attack=attack, alpha=0.25, **params
    )
    batch = X, (y, weight) if weighted else y
    found = net.train_step_single(batch)["loss"].detach()
    clean, shifted = (
        net.module_(values).detach().numpy()
        for values in (X, attack(None, X, y, 0.2, norm=0, bounds=0))
    )
    if criterion is None:
        divergence = rel_entr(softmax(clean, 1), softmax(shifted, 1)).sum(1)
    else:
        divergence = sum(
            rel_entr(expit(sign * clean), expit(sign * shifted)).sum(1) for sign in (1, -1)
        )
    weights = weight.numpy() if weighted else np.ones(30)
    loss = float(net.get_loss(torch.as_tensor(clean), batch[1]))
    assert float(found) == pytest.approx(0.25 * loss + 0.75 * (weights * divergence).mean())


def test_the_divergence_has_a_gradient_through_both_outputs():
    net, X, y, _ = net_and_batch(
        "trades", attack=lambda m, X, *_, norm, bounds: X + 0.1, alpha=0.25
    )
    p, q = net.module_(X).log_softmax(1), net.module_(X + 0.1).log_softmax(1)
    divergence = torch.nn.functional.kl_div(q, p, reduction="batchmean", log_target=True)
    check_step(net, (X, y), 0.25 * cross_entropy(net.module_(X), y) + 0.75 * divergence)


def test_copies_of_trades_maximise_the_divergence_not_the_loss():
    seen = []

    def attack(module, X, y, epsilon, *, norm, bounds, loss=None, random_state=None):
        seen.append(loss)
        return pgd(module, X, y, epsilon, norm=norm, loss=loss, random_state=random_state)

    net, X, y, _ = net_and_batch("trades", attack=attack, alpha=0.25)
    before = net.module_(X)
    net.train_step_single((X, y))
    other = torch.randn(30, 3, dtype=torch.float64)
    expected = rel_entr(softmax(before.detach().numpy(), 1), softmax(other.numpy(), 1)).sum(1)
    np.testing.assert_allclose(seen[0](other, y).detach(), expected)
    with pytest.raises(ValueError, match="moves all samples of a batch together"):
        seen[0](other[:5], y[:5])


def test_trades_refuses_what_can_not_work():
    for params, message in (
        ({"attack": "fgsm"}, "attack with a random start"),
        ({"attack": "pgd", "attack_params": {"random_start": False}}, "random start"),
        ({"attack": "pgd", "alpha": 0}, "alpha > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            net_and_batch("trades", **params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"robust_loss": "zz"}, "robust_loss must be one of"),
        ({"robust_loss": "certified", "box_share": 0.0}, r"box_share must lie in \(0, 1\]"),
        ({"robust_loss": "certified", "epsilon_warmup": 2}, "epsilon_warmup must be 'auto'"),
        ({"robust_loss": "certified", "initialization": "zz"}, "initialization must be"),
        ({"robust_loss": np.array(["trades", "zz"])}, "robust_loss must be one of"),
        (
            {"robust_loss": "certified", "epsilon_warmup": np.ones(2)},
            "epsilon_warmup must be 'auto'",
        ),
        (
            {"robust_loss": "certified", "criterion__label_smoothing": 0.1},
            "never falls as the logit of another class rises",
        ),
    ],
)
def test_wrong_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        net_and_batch(**params)


def test_a_module_without_bounds_is_named():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, X):
            return self.layer(X).sin()

    net = AdversarialNet(Own, robust_loss="certified", epsilon=0.1, verbose=0)
    message = "^robust_loss='certified' and .* no bounds on the outputs of the module Own"
    with pytest.raises(TypeError, match=message):
        net.fit(np.zeros((20, 4), np.float32), np.arange(20) % 3)


def test_a_warm_start_counts_the_epochs_before_it(digits, small):
    radii = Radii()
    model = small(alpha=1, max_iter=2, epsilon=0.4, warm_start=True).fit(*digits)
    changes = {"alpha": 0.5, "robust_loss": "certified", "callbacks": [radii]}
    model.set_params(**changes, max_iter=8, epsilon_warmup=0.5).fit(*digits)
    # The third of the four epochs of the warm-up is the first here.
    share = np.minimum((2 * 6 + np.arange(1, 8 * 6 + 1)) / (4 * 6), 1)
    np.testing.assert_allclose(radii.radii_, 0.4 * share, rtol=1e-6)


def test_a_log_softmax_at_the_end_changes_nothing():
    """Only a step that leaves differences of logits as they are may be left out."""
    net, X, y, _ = net_and_batch("certified", alpha=0.0)
    margins = corner_margins(net.module_, X, y, torch.full_like(X, EPSILON))
    for last, is_taken in ((nn.LogSoftmax(1), True), (nn.LogSigmoid(), False)):
        other = AdversarialNet(
            nn.Sequential(*net.module_, last),
            robust_loss="certified",
            alpha=0.0,
            epsilon=EPSILON,
            precision="float64",
        ).initialize()
        loss = other.train_step_single((X, y))["loss"]
        equal = torch.isclose(loss, cross_entropy(margins, y))
        assert bool(equal) == is_taken
        # The bound holds for the loss that the criterion gives.
        copies = X + EPSILON * torch.randn_like(X).sign()
        assert loss >= cross_entropy(other.module_(copies), y)


def test_labels_without_a_logit_are_named():
    net, X, y, _ = net_and_batch("certified", alpha=0.0)
    for wrong in (7, -1):
        with pytest.raises(ValueError, match=rf"from 0 to 2.*got \[{wrong}\]"):
            net.train_step_single((X, torch.full_like(y, wrong)))


def test_the_output_of_a_step_is_that_of_the_clean_samples_or_the_worst_logits():
    net, X, y, _ = net_and_batch("certified", alpha=0.5)
    found = net.train_step_single((X, y))["y_pred"]
    torch.testing.assert_close(found, net.module_(X))
    net, X, y, _ = net_and_batch("certified", alpha=0.0)
    found = net.train_step_single((X, y))["y_pred"]
    margins = corner_margins(net.module_, X, y, torch.full_like(X, EPSILON))
    # The margin of the own class is 0.
    torch.testing.assert_close(found, margins.scatter(1, y[:, None], 0.0))


def test_without_a_robust_part_the_loss_needs_no_bounds():
    module = nn.Sequential(nn.Linear(4, 2), nn.GELU())
    net = AdversarialNet(module, robust_loss="certified", alpha=1, verbose=0).initialize()
    X, y = (torch.as_tensor(values) for values in data())
    _, _, loss = net.mixed_loss(X, X, y)
    torch.testing.assert_close(loss, cross_entropy(net.module_(X), y))


@pytest.mark.parametrize("robust_loss", ["adversarial", "trades", "certified"])
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("is_double", [False, True])
def test_images_with_a_radius_per_channel_are_trained_on(robust_loss, norm, is_double):
    torch.manual_seed(0)
    convolutions = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    module = nn.Sequential(*convolutions, nn.Linear(16, 2))
    X = np.random.default_rng(0).normal(size=(60, 2, 6, 6))
    y = (X[:, 0].mean((1, 2)) > 0).astype(np.int64)
    net = AdversarialNet(
        module.double() if is_double else module,
        robust_loss=robust_loss,
        attack="fgsm_rs",
        epsilon=np.array([0.1, 0.0]).reshape(2, 1, 1),
        norm=norm,
        bounds=(-2 * np.ones((2, 1, 1)), 2 * np.ones((2, 1, 1))),
        box_share=0.7,
        max_epochs=2,
        verbose=0,
    ).fit(X if is_double else X.astype(np.float32), y)
    assert np.isfinite(net.history[:, "train_loss"]).all()


class Radii(Callback):
    """The radius and the weight of the robust loss of each batch."""

    def on_train_begin(self, net, **kwargs):
        self.radii_, self.alphas_ = [], []

    def on_batch_begin(self, net, training, **kwargs):
        if training:
            alpha, perturbations = net.mixture_now()
            self.radii_.append(float(perturbations.epsilon))
            self.alphas_.append(alpha)


def data(n_samples=120, n_features=4):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, n_features)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(np.int64)


def test_radius_and_weight_rise_evenly_to_their_values():
    radii = Radii()
    net = AdversarialNet(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        robust_loss="certified",
        epsilon=0.4,
        alpha=0.2,
        epsilon_warmup=0.6,
        max_epochs=10,
        batch_size=40,
        train_split=None,
        callbacks=[radii],
        verbose=0,
    ).fit(*data())
    # 18 of the 30 batches belong to the warm-up.
    share = np.minimum(np.arange(1, 31) / 18, 1)
    np.testing.assert_allclose(radii.radii_, 0.4 * share, rtol=1e-6)
    np.testing.assert_allclose(radii.alphas_, 1 - 0.8 * share)
    net.partial_fit(*data())
    assert radii.radii_ == pytest.approx([0.4] * 30)


def test_attacks_in_the_warm_up_have_its_radius_too():
    seen = []

    def attack(module, X, y, epsilon, *, norm, bounds):
        seen.append(float(epsilon))
        return X

    AdversarialNet(
        nn.Linear(4, 2),
        attack=attack,
        epsilon=1.0,
        epsilon_warmup=0.5,
        max_epochs=4,
        batch_size=60,
        train_split=None,
        verbose=0,
    ).fit(*data())
    np.testing.assert_allclose(seen, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_intervals_keep_their_width_through_fresh_layers(pieces):
    torch.manual_seed(0)
    if pieces == 1:
        module = nn.Sequential(
            *[part for _ in range(6) for part in (nn.Linear(300, 300), nn.ReLU())]
        )
    else:
        module = MaxoutNet(300, 10, (300,) * 6, n_pieces=pieces)
    net = AdversarialNet(module, initialization="interval", verbose=0).initialize()
    X = torch.randn(50, 300)
    low, high = X - 1e-2, X + 1e-2
    layers = net.module_ if pieces == 1 else net.module_.layers
    widths = []
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                centre, reach = layer((low + high) / 2), (high - low) / 2 @ layer.weight.abs().T
                low, high = centre - reach, centre + reach
                continue
            if isinstance(layer, nn.ReLU):
                low, high = low.clamp(min=0), high.clamp(min=0)
            else:
                weight = layer.weight.flatten(0, 1)
                centre, reach = (low + high) / 2 @ weight.T, (high - low) / 2 @ weight.abs().T
                low, high = (
                    end.unflatten(1, (pieces, 300)).amax(1)
                    for end in (centre - reach, centre + reach)
                )
            widths.append(float((high - low).mean()))
    assert max(widths) / min(widths) < 1.6
    assert 0.6 < widths[0] / 2e-2 < 1.6


def test_interval_weights_reach_layers_whose_weight_is_computed():
    torch.manual_seed(0)
    module = nn.utils.parametrizations.weight_norm(nn.Linear(400, 400))
    net = AdversarialNet(module, initialization="interval", verbose=0).initialize()
    deviation = float(net.module_.weight.std())
    assert deviation == pytest.approx((2 * np.pi) ** 0.5 / 400, rel=0.02)
    lazy = AdversarialNet(nn.LazyLinear(3), initialization="interval", verbose=0)
    with pytest.raises(ValueError, match="number of inputs of each layer"):
        lazy.initialize()


ROBUST = [
    {"robust_loss": "certified"},
    {"robust_loss": "certified", "attack": "fgsm_rs", "box_share": 0.5},
    {"robust_loss": "trades", "attack": "fgsm_rs"},
    {"attack": "fgsm_rs", "alpha": 0},
]


@pytest.mark.parametrize("params", ROBUST)
def test_an_integer_seed_gives_the_same_weights(params, digits, small, weights, are_equal):
    one, other = (small(**params).fit(*digits) for _ in range(2))
    assert are_equal(weights(one), weights(other))
    restored = pickle.loads(pickle.dumps(one))
    assert restored.net_.robust_loss == one.net_.robust_loss
    for model in (one, restored):
        model.partial_fit(*digits)
    assert are_equal(weights(one), weights(restored))


@pytest.mark.parametrize("params", ROBUST)
def test_a_training_that_resumes_in_the_warm_up_ends_as_if_it_had_not_stopped(
    params, digits, small, weights, are_equal, tmp_path
):
    class Kill(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise SystemExit

    options = {**params, "max_iter": 10, "epsilon_warmup": 0.5}
    whole = small(**options).fit(*digits)
    path = tmp_path / "training.pt"
    with pytest.raises(SystemExit):
        small(**options, callbacks=[Checkpoint(path), Kill()]).fit(*digits)
    resumed = small(**options, callbacks=[Checkpoint(path, resume=True)]).fit(*digits)
    assert are_equal(weights(whole), weights(resumed))
    with pytest.raises(ValueError, match="epochs"):
        small(**options | {"max_iter": 20}, callbacks=[Checkpoint(path, resume=True)]).fit(*digits)


def test_certified_training_certifies_what_ordinary_training_does_not(digits, small):
    X, y = digits
    options = {"epsilon": 0.05, "bounds": (0, 1), "learning_rate_init": 0.01, "max_iter": 40}
    scores = [
        certified_accuracy_score(
            small(**options | params).fit(X[:400], y[:400]),
            X[400:],
            y[400:],
            epsilon=0.05,
            bounds=(0, 1),
            method="interval",
        )
        for params in ({"alpha": 1}, {"robust_loss": "certified"})
    ]
    assert scores[0] < 0.3 and scores[1] > 0.5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_half_precision_trains_on_every_robust_loss(precision, digits, small):
    X, y = digits
    for params in ROBUST:
        model = small(precision=precision, epsilon=0.02, max_iter=25, **params, batch_size=50).fit(
            X[:400], y[:400]
        )
        assert model.score(X[400:], y[400:]) > 0.7, params


def test_a_grid_search_sets_the_robust_loss(digits, small):
    X, y = digits
    search = GridSearchCV(
        small(attack="fgsm_rs", epsilon=0.05, max_iter=3),
        {"robust_loss": ["adversarial", "trades", "certified"], "box_share": [0.3, 1.0]},
        cv=2,
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert clone(search.best_estimator_).get_params()["robust_loss"] in (
        "adversarial",
        "trades",
        "certified",
    )


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_partial_fit_trains_at_the_full_radius(norm, digits, small):
    radii = Radii()
    model = small(robust_loss="certified", norm=norm, epsilon=0.1, callbacks=[radii])
    model.partial_fit(*digits)
    assert radii.radii_ == pytest.approx([0.1] * 6)
