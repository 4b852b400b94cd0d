"""
The path of adversarial logistic regression, beside the lasso's
===============================================================

Adversarial logistic regression in the max-norm picks features, as logistic regression with an L1
penalty does. Two paths on the same data show where they agree and where they part.
"""

# %%
# The data are 30 measurements of each of 569 tumours, in standard deviations: ``epsilon`` is then
# the share of a standard deviation by which an adversary may change each measurement.

from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

X, y = load_breast_cancer(return_X_y=True)
X = StandardScaler().fit_transform(X)

# %%
# The two paths
# -------------
# The adversarial path starts at :func:`~sk_adv.linear_model.epsilon_max`, the radius from which on
# all weights are zero, and walks down.

from sk_adv.linear_model import adversarial_logistic_path

path = adversarial_logistic_path(X, y, n_epsilons=100, epsilon_min_ratio=0.03)

# %%
# The L1 penalty has such a point too: the ``C`` below which no entry of the gradient at zero
# weights exceeds the penalty. The path starts there, and each fit starts from the one before it.

import numpy as np
from sklearn import __version__
from sklearn.linear_model import LogisticRegression
from sklearn.utils.fixes import parse_version

is_new = parse_version(__version__) >= parse_version("1.8")
l1 = {"l1_ratio": 1} if is_new else {"penalty": "l1"}
strengths = np.abs(X.T @ (y - y.mean())).max() * np.geomspace(1, 1e-3, 100)
lasso = LogisticRegression(solver="saga", max_iter=10_000, warm_start=True, random_state=0, **l1)
lasso_coefs = np.array([lasso.set_params(C=1 / s).fit(X, y).coef_[0] for s in strengths])

# %%
# The weights
# -----------
# Each line is the weight of one feature, from strong regularisation on the left to weak on the
# right. The six features whose adversarial weights grow largest have a colour and a name, the same
# in both panels. Both paths begin with the same features. The adversary's penalty stands inside the
# loss, where it fades for samples with a large margin. So the few features in use get larger
# weights.

import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

coefs = path.coefs[:, 0]
named = np.argsort(-np.abs(coefs).max(axis=0))[:6]
names = load_breast_cancer().feature_names
styles = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1))]

figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained", sharey=True)
panels = zip(axes, [path.epsilons, strengths], [coefs, lasso_coefs], strict=True)
for ax, strength, weights in panels:
    ax.plot(strength, np.delete(weights, named, axis=1), color="0.75", linewidth=0.8)
    for rank, feature in enumerate(named):
        ax.plot(
            strength, weights[:, feature], f"C{rank}", linestyle=styles[rank], label=names[feature]
        )
axes[0].plot([], [], color="0.75", linewidth=0.8, label="the other 24")
axes[0].set(xlabel="ε", ylabel="weight", title="against an adversary of radius ε")
axes[1].set(xlabel="1 / C", title="with an L1 penalty of strength 1 / C")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
for ax in axes:
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.invert_xaxis()
    ax.grid(alpha=0.3)

# %%
# Sparsity and size
# -----------------
# At the same number of features, the adversarial weights are larger. An L1 penalty with a
# well-chosen ``C`` can be as robust if the choice of features matters more than the size of the
# weights. But ``epsilon`` is the change to withstand, in the units of the data, while ``C`` has to
# be found by trial.

figure, ax = plt.subplots(layout="constrained")
paths = {"adversarial": (coefs, "o"), "L1": (lasso_coefs, "^")}
for name, (weights, marker) in paths.items():
    n_features = np.count_nonzero(weights, axis=1)
    ax.plot(n_features, np.abs(weights).sum(axis=1), marker, markersize=5, label=name)
ax.set(xlabel="features with a weight", ylabel="sum of the absolute weights")
ax.legend()
ax.grid(alpha=0.3)
