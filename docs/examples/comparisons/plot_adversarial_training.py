"""
Adversarial training, and the attack it was trained on
======================================================

Five networks learn the same digits: one as usual, one on noisy copies, three on adversarial copies
of two kinds. All five are then attacked twice, in a single step and in many. A network that was
trained against the single step can look robust and not be.
"""

# %%
# The data are real digits of MNIST, with pixels from 0 (paper) to 1 (ink): 3,000 to learn from, and
# 600 others to test on.

import numpy as np
from sklearn.model_selection import train_test_split

from sk_adv.datasets import load_mnist_sample

digits = load_mnist_sample()
X_train, X_test, y_train, y_test = train_test_split(
    digits.data.astype(np.float32),
    digits.target,
    train_size=3000,
    test_size=600,
    stratify=digits.target,
    random_state=0,
)

# %%
# Five ways to train
# ------------------
# Each batch is mixed, half and half, with copies of it in which each pixel has moved by up to
# ``epsilon=0.2``. The noise moves each pixel by ε up or down at random and does not depend on the
# network: it is the control experiment. The fast gradient sign method (FGSM) moves each by ε along
# the sign of the gradient. Projected gradient descent (PGD) does so in several small steps from a
# random start. The last network sees FGSM copies alone (``alpha=0``). The guard in the training
# warns of two of them: they withstand FGSM, and little else.

import textwrap
import warnings

from sk_adv import AdversarialMaxoutClassifier

ways = {
    "plain": {"alpha": 1},
    "noise": {"attack": "sign_noise"},
    "FGSM": {"attack": "fgsm"},
    "FGSM alone": {"attack": "fgsm", "alpha": 0},
    "PGD": {"attack": "pgd", "attack_params": {"n_steps": 5}},
}
networks = {}
for name, way in ways.items():
    network = AdversarialMaxoutClassifier(
        (100,),
        n_pieces=2,
        epsilon=0.2,
        learning_rate="cosine",
        max_iter=12,
        tol=-np.inf,
        random_state=0,
        **way,
    )
    with warnings.catch_warnings(record=True) as caught:
        networks[name] = network.fit(X_train, y_train)
    for warning in caught:
        print(textwrap.fill(f"{name}: {warning.message}", 96))

# %%
# Error against the radius
# ------------------------
# The adversary of the left panel takes a single step, that of the right panel twenty. Copies are
# not clipped to the range from 0 to 1, in training or here. If a network's curve is lower on the
# left than on the right, the single step has missed perturbations that more steps find. The error
# under the worst perturbation is at least the higher of the two. The dotted line is the radius of
# the training.

import matplotlib.pyplot as plt

from sk_adv.inspection import RobustnessCurveDisplay

radii = [0, 0.05, 0.1, 0.15, 0.2]
attacks = {
    "one step (FGSM)": {"attacks": "fgsm"},
    "twenty steps (PGD)": {"attacks": "pgd", "attack_params": {"n_steps": 20}, "random_state": 0},
}
errors = {}
figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharey=True)
for ax, (title, attack) in zip(axes, attacks.items(), strict=True):
    for name, network in networks.items():
        display = RobustnessCurveDisplay.from_estimator(
            network, X_test, y_test, epsilons=radii, name=name, ax=ax, **attack
        )
        errors[name, title] = display.errors
    ax.axvline(0.2, color="0.6", linestyle=":", linewidth=1)
    ax.set(title=title, xlabel="radius ε (units of ink, 0 to 1)")
axes[0].legend(title="trained on")
axes[1].get_legend().remove()
axes[1].set_ylabel("")

# %%
# What the figure shows
# ---------------------
# - Noise is hardly better than plain training. Its random directions have little in common with
#   the harmful one.
# - Training on FGSM and clean digits helps against FGSM. Against PGD it helps at small radii, but
#   at the radius of its training nearly all digits fall.
# - Trained on FGSM copies alone, the network makes *fewer* errors under that attack than on clean
#   digits. It has learned what an FGSM copy of each digit looks like: the sign of the gradient is
#   computed with the true label, and the network reads the label from it. PGD gets past that.
# - Training on PGD copies takes longer, and costs some clean accuracy. Its curves in the two panels
#   nearly agree: a defence learned against a few steps holds against many. But it is not robust
#   yet. A network this small, trained on so few digits, still gets most of them wrong at ε = 0.2.
#
# The same in numbers, at the radius of the training:

print(f"{'trained on':12s}{'clean':>8s}{'FGSM':>8s}{'PGD':>8s}   (% of test digits wrong)")
for name in networks:
    one, twenty = (errors[name, title] for title in attacks)
    print(f"{name:12s}{one[0]:8.1%}{one[-1]:8.1%}{twenty[-1]:8.1%}")
