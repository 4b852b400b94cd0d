"""
A random forest, attacked and hardened through a surrogate
==========================================================

A forest has no gradient to follow: its output is constant except for jumps. Adversarial examples
fool it all the same, because those that fool one model tend to fool others that learned the same
task. So a differentiable *surrogate* learns the forest's predictions, the attack follows the
surrogate's gradient, and the forest classifies the copies.
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
# Every attack takes it as ``surrogate=``. Noise of the same size is the control.

from sk_adv.inspection import RobustnessCurveDisplay

RobustnessCurveDisplay.from_estimator(
    {"random forest": forest},
    X_test,
    y_test,
    epsilons=np.linspace(0, 0.6, 7),
    attacks=["sign_noise", "fgsm", "pgd"],
    surrogate=surrogate,
    random_state=0,
)

# %%
# Harden
# ------
# :func:`~sk_adv.attacks.perturb` makes adversarial copies of the training samples, and a forest is
# trained on both, with the true labels. It withstands copies made with the old surrogate. But an
# adversary who asks the *new* forest, and trains a new surrogate, finds it weaker than before.
# Several rounds help, each with a surrogate of the newest forest.

from sk_adv.attacks import perturb
from sk_adv.metrics import adversarial_accuracy_score

attack = {"epsilon": 0.5, "attack": "pgd", "random_state": 0}
n_rounds = 5
hardened, X_seen = [forest], X_train
for _ in range(n_rounds):
    newest = hardened[-1]
    copies = perturb(newest, X_train, y_train, surrogate=imitate(newest), **attack)
    X_seen = np.concatenate([X_seen, copies])
    y_seen = np.tile(y_train, len(X_seen) // len(X_train))
    hardened.append(RandomForestClassifier(random_state=0).fit(X_seen, y_seen))

# %%
# Only the last bar of each forest measures robustness, and it is an upper bound: another surrogate
# may find more.

import matplotlib.pyplot as plt

shown = {"plain": forest, "one round": hardened[1], f"{n_rounds} rounds": hardened[-1]}
accuracy = {"clean": [], "attacked through the first surrogate": [], "through one of its own": []}
for model in shown.values():
    scores = [model.score(X_test, y_test)]
    for stand_in in (surrogate, imitate(model)):
        scores.append(
            adversarial_accuracy_score(model, X_test, y_test, surrogate=stand_in, **attack)
        )
    for name, score in zip(accuracy, scores, strict=True):
        accuracy[name].append(score)

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for i, (name, scores) in enumerate(accuracy.items()):
    bars = ax.bar(np.arange(3) + 0.27 * (i - 1), 100 * np.array(scores), 0.25, label=name)
    ax.bar_label(bars, fmt="%.0f")
ax.set_xticks(range(3), shown)
ax.set(
    xlabel="forest", ylabel="accuracy (% of test samples)", ylim=(0, 130), yticks=range(0, 101, 20)
)
ax.legend(loc="upper center", ncols=3, fontsize="small")
