"""
Choosing ε and alpha by cross-validation
========================================

The problem says how much an adversary may change. The best radius and mixture for *training* are
another matter. With a score under attack, ``GridSearchCV`` finds them like any other parameter.
"""

# %%
# Two scores for each candidate
# -----------------------------
# Threes and eights of scikit-learn's digits, with pixels from 0 to 16. The adversary may darken or
# lighten each by 1.6. Every candidate is scored on clean digits and on attacked ones:
# :func:`~sk_adv.metrics.make_adversarial_scorer` makes the second score. With ``attack="exact"`` it
# is the accuracy under the worst change, which is known exactly for linear models.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from sk_adv import AdversarialLogisticRegression
from sk_adv.metrics import make_adversarial_scorer

X, y = load_digits(return_X_y=True)
X, y = X[(y == 3) | (y == 8)], y[(y == 3) | (y == 8)]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)

scoring = {"clean": "accuracy", "attacked": make_adversarial_scorer(epsilon=1.6, attack="exact")}
grid = {"epsilon": [0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4], "alpha": [0.0, 0.25, 0.5, 0.75]}
search = GridSearchCV(
    AdversarialLogisticRegression(C=10), grid, scoring=scoring, refit="attacked", cv=5
).fit(X_train, y_train)
print("chosen:", search.best_params_)

# %%
# The scores of all candidates
# ----------------------------
# Without an adversary in training, the accuracy under attack is hardly better than chance. The left
# panel shows how much clean accuracy robustness costs, so the choice need not rest on one number.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", sharey=True)
shape = len(grid["alpha"]), len(grid["epsilon"])
for ax, name in zip(axes, scoring, strict=True):
    # GridSearchCV walks through the names in alphabetical order: alpha, then epsilon.
    scores = 100 * search.cv_results_[f"mean_test_{name}"].reshape(shape)
    image = ax.imshow(scores, cmap="viridis", aspect="auto", vmin=50, vmax=100)
    for i, j in np.ndindex(shape):
        color = "black" if scores[i, j] > 75 else "white"
        ax.text(j, i, f"{scores[i, j]:.0f}", ha="center", va="center", color=color)
    ax.set_xticks(range(shape[1]), grid["epsilon"])
    ax.set_yticks(range(shape[0]), grid["alpha"])
    ax.set(title=f"{name} accuracy (%), cross-validated", xlabel="epsilon in training")
axes[0].set_ylabel("alpha, weight of the clean loss")
figure.colorbar(image, ax=axes, label="accuracy (%)")

# %%
# Against an L1 penalty that is chosen the same way
# -------------------------------------------------
# L1 weight decay shrinks the same norm of the weights. Chosen by the same score, on the same folds:

import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.utils.fixes import parse_version

# scikit-learn 1.8 renamed penalty="l1".
renamed = parse_version(sklearn.__version__) >= parse_version("1.8")
l1 = {"l1_ratio": 1.0} if renamed else {"penalty": "l1"}
l1_search = GridSearchCV(
    LogisticRegression(**l1, solver="liblinear", random_state=0),
    {"C": np.logspace(-3, 1, 13)},
    scoring=scoring,
    refit="attacked",
    cv=5,
).fit(X_train, y_train)
plain = LogisticRegression(max_iter=10_000).fit(X_train, y_train)

for name, model in (("plain", plain), ("L1", l1_search), ("adversarial", search)):
    scores = {
        key: sklearn.metrics.check_scoring(model, scoring)(model, X_test, y_test)[key]
        for key in scoring
    }
    print(f"{name}: clean {scores['clean']:.1%}, attacked {scores['attacked']:.1%}")
