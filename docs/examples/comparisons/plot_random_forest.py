"""
A random forest, attacked through a surrogate
=============================================

A forest has no gradient to follow: its output is constant except for jumps. Adversarial examples
fool it all the same, because those that fool one model tend to fool others that learned the same
task. So a differentiable *surrogate* learns the forest's predictions, the attack follows the
surrogate's gradient, and the forest classifies the copies. How much does such an attack miss, and
does it help to train on its copies? Both can be told, as the worst case of a forest is known.
"""

# %%
# Attack
# ------
# Each measurement of the breast cancer data may move by a share of its standard deviation. The
# surrogate is a small network. It learns the forest's predictions on the training samples and on
# noisy versions of them, as an adversary may ask the forest as often as they like.

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

noise = np.random.default_rng(0).uniform(-0.5, 0.5, size=(6, *X_train.shape))
asked = np.concatenate([X_train, *(X_train + noise)])


def imitate(model):
    """A differentiable model that has learned the predictions of another."""
    network = MLPClassifier((64,), alpha=1.0, max_iter=2000, random_state=0)
    return FrozenEstimator(network.fit(asked, model.predict(asked)))


forest = RandomForestClassifier(random_state=0).fit(X_train, y_train)
surrogate = imitate(forest)
agreement = surrogate.score(X_test, forest.predict(X_test))
print(f"the surrogate agrees with the forest on {agreement:.0%} of the test samples")

# %%
# Every attack along gradients takes it as ``surrogate=``. Noise of the same size is the control. Of
# a forest the worst case is known as well: ``attack="exact"`` searches the forest itself, and needs
# no surrogate.

from sk_adv.inspection import RobustnessCurveDisplay

options = {"epsilons": [0, 0.1, 0.2, 0.3], "random_state": 0}
display = RobustnessCurveDisplay.from_estimator(
    {"random forest": forest},
    X_test,
    y_test,
    attacks=["sign_noise", "fgsm", "pgd"],
    surrogate=surrogate,
    **options,
)
RobustnessCurveDisplay.from_estimator(
    {"random forest": forest}, X_test, y_test, attacks=["exact"], ax=display.ax_, **options
)
display.ax_.set_ylim(0, 0.4)

# %%
# The surrogate finds most of what there is here, and not all. Its curves are lower bounds of the
# error, and the exact one is the error in the worst case.
#
# Harden
# ------
# :func:`~sk_adv.attacks.perturb` makes adversarial copies of the training samples through the
# surrogate, and a forest is trained on both, with the true labels.

from sk_adv.attacks import perturb

attack = {"epsilon": 0.3, "attack": "pgd", "random_state": 0}
copies = perturb(forest, X_train, y_train, surrogate=surrogate, **attack)
hardened = RandomForestClassifier(random_state=0)
hardened.fit(np.concatenate([X_train, copies]), np.tile(y_train, 2))

# %%
# Each forest classifies the clean samples, copies through the first surrogate, copies through a
# surrogate of its own, and its worst copies.

import matplotlib.pyplot as plt

from sk_adv.metrics import adversarial_accuracy_score


def accuracies(model):
    """The accuracy on clean samples, through two surrogates, and in the worst case."""

    def attacked(**options):
        return adversarial_accuracy_score(model, X_test, y_test, **attack | options)

    return {
        "clean": model.score(X_test, y_test),
        "through the first surrogate": attacked(surrogate=surrogate),
        "through one of its own": attacked(surrogate=imitate(model)),
        "worst case": attacked(attack="exact"),
    }


scores = {"plain": accuracies(forest), "hardened": accuracies(hardened)}
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for i, name in enumerate(scores["plain"]):
    heights = [100 * scores[model][name] for model in scores]
    bars = ax.bar(np.arange(2) + 0.21 * (i - 1.5), heights, 0.19, label=name)
    ax.bar_label(bars, fmt="%.0f")
ax.set_xticks(range(2), scores)
ax.set(
    xlabel="forest", ylabel="accuracy (% of test samples)", ylim=(0, 130), yticks=range(0, 101, 20)
)
ax.legend(loc="upper center", ncols=2, fontsize="small")
for name in scores["plain"]:
    row = "".join(f"{model} {scores[model][name]:.1%}   " for model in scores)
    print(f"{name:28}{row}")

# %%
# Judged by surrogates, training on copies helps, or does little harm: copies through the first
# surrogate fool the hardened forest less often, and those through a surrogate of its own a few
# times more often. In truth the forest has become far weaker. It is right in the worst case for
# little more than half of the samples, where the plain forest is right for four in five. The exact
# search sees each jump of the forest next to a sample, and a smooth surrogate does not. So look at
# the worst case wherever it is known, by ``attack="exact"`` or
# :func:`~sk_adv.metrics.verify_robustness`.
