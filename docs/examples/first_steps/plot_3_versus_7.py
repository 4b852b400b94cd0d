"""
Telling a 3 from a 7, against an adversary
==========================================

Logistic regression learns to tell handwritten 3s from 7s, once as usual and twice on the worst
case of each digit. The plain model is best on clean digits and fails under attack; the weights
show why.
"""

# %%
# The data are 1,000 real digits of MNIST, with pixels from 0 (paper) to 1 (ink); half of them are
# kept for testing.

from sklearn.model_selection import train_test_split

from sk_adv.datasets import load_mnist_sample

digits = load_mnist_sample()
chosen = (digits.target == 3) | (digits.target == 7)
X_train, X_test, y_train, y_test = train_test_split(
    digits.data[chosen], digits.target[chosen], test_size=0.5, random_state=0
)

# %%
# Three models
# ------------
# The adversary may darken or lighten each pixel by up to ``epsilon``. One model is trained as
# usual, one against small changes and one against large.

from sklearn.linear_model import LogisticRegression

from sk_adv import AdversarialLogisticRegression

models = {
    "plain": LogisticRegression(max_iter=1000),
    "trained at ε = 0.1": AdversarialLogisticRegression(epsilon=0.1),
    "trained at ε = 0.25": AdversarialLogisticRegression(epsilon=0.25),
}
for name, model in models.items():
    error = 1 - model.fit(X_train, y_train).score(X_test, y_test)
    print(f"{name}: {error:.1%} of the clean test digits are wrong")

# %%
# What the adversary does
# -----------------------
# Each column is a digit, the worst perturbation of it within ``epsilon=0.25``, and their sum, with
# what the plain model says and how sure it is. The perturbation is the same for all 3s, and its
# negative for all 7s: for a linear model the direction of the attack does not depend on the digit.

from sk_adv.inspection import AdversarialExamplesDisplay

shown = slice(0, 6)
AdversarialExamplesDisplay.from_estimator(
    models["plain"], X_test[shown], y_test[shown], epsilon=0.25
)

# %%
# The same digits against the model that was trained for this. The attack is made anew, from its
# own gradient; it may now change every pixel, but only a few count:

AdversarialExamplesDisplay.from_estimator(
    models["trained at ε = 0.25"], X_test[shown], y_test[shown], epsilon=0.25
)

# %%
# Error against the radius
# ------------------------
# With two classes and a linear model, the fast gradient sign method finds the worst perturbation
# there is. These curves are therefore exact: no attack within the radius does better.

import matplotlib.pyplot as plt
import numpy as np

from sk_adv.inspection import RobustnessCurveDisplay

figure, ax = plt.subplots(layout="constrained")
radii = np.linspace(0, 0.3, 13)
for name, model in models.items():
    RobustnessCurveDisplay.from_estimator(
        model,
        X_test,
        y_test,
        epsilons=radii,
        attacks="fgsm",
        name=name,
        ax=ax,
    )

# %%
# The weights
# -----------
# An attack on pixel :math:`j` changes the decision by at most :math:`\varepsilon |w_j|`, so that
# the sum of the absolute weights, measured against the margins, is what the adversary lives on.
# The plain model spreads small weights over all the pixels that have ink in some digit. The
# adversarial ones trust few, and the fewer the larger their ``epsilon``.

from sk_adv.inspection import FilterDisplay

figure, axes = plt.subplots(1, 3, figsize=(10, 4), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    FilterDisplay.from_estimator(model, ax=ax)
    ax.set_title(f"{name}\n{np.count_nonzero(model.coef_)} weights are not 0")
