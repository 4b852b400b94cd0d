"""
Which training for which promise?
=================================

A network can be trained to be right on clean samples, to withstand attacks, or so that much of it
can be proved. Each has its price. Here one small network is trained in seven ways on scikit-learn's
digits, and each is measured by three numbers: its accuracy on clean digits, under the strongest
attack, and the share of digits that are proved to stay right.
"""

# %%
# Seven trainings
# ---------------
# They differ by a few parameters, which a grid search could set as well. Each of the 64 pixels,
# from 0 (paper) to 1 (ink), may change by up to 0.1.

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_adv import AdversarialMaxoutClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype(np.float32), y, test_size=200, stratify=y, random_state=0
)

pgd = {"attack": "pgd", "attack_params": {"n_steps": 7}}
small_boxes = {"robust_loss": "certified", "attack": "fgsm_rs", "box_share": 0.4}
trainings = {
    "plain": {"alpha": 1},
    "FGSM": {"attack": "fgsm", "alpha": 0},
    "FGSM-RS": {"attack": "fgsm_rs", "alpha": 0},
    "PGD": {**pgd, "alpha": 0},
    "TRADES": {**pgd, "robust_loss": "trades", "alpha": 1 / 4},
    "certified, small boxes": {**small_boxes, "alpha": 0.25},
    "certified, whole set": {"robust_loss": "certified", "alpha": 0.25},
}
shape = {"hidden_layer_sizes": (50, 50), "n_pieces": 2, "max_iter": 60, "tol": -np.inf}
allowed = {"epsilon": 0.1, "bounds": (0, 1)}


def fitted(**params):
    """A fitted network, and the processor seconds of its training."""
    network = AdversarialMaxoutClassifier(
        **shape,
        **allowed,
        **params,
        learning_rate_init=0.003,
        learning_rate="cosine",
        random_state=0,
    )
    start = time.process_time()
    network.fit(X_train, y_train)
    return network, time.process_time() - start


networks, seconds = {}, {}
for name, params in trainings.items():
    networks[name], seconds[name] = fitted(**params)

# %%
# Three numbers for each
# ----------------------
# The accuracy under *any* attack lies between the last two columns: the strongest attack that we
# have leaves so many digits right, and so many are proved.

import pandas as pd

from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score

rows = {}
for name, network in networks.items():
    rows[name] = {
        "cost": seconds[name] / seconds["plain"],
        "clean": network.score(X_test, y_test),
        "attacked": adversarial_accuracy_score(
            network, X_test, y_test, attack="auto", random_state=0, **allowed
        ),
        "certified": certified_accuracy_score(network, X_test, y_test, **allowed),
    }
table = pd.DataFrame(rows).T
print(table.round(3))

# %%
# A picture of it
# ---------------
# The grey bar is what is neither proved nor broken. Training on stronger copies moves the circle to
# the right. Training for certificates moves the square, and with it the whole bar: it costs clean
# accuracy, and the network is worth what is proved of it.

import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

figure, ax = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
height = np.arange(len(table))[::-1]
ax.hlines(height, table["certified"], table["attacked"], color="0.8", linewidth=9, zorder=1)
markers = {"certified": "s", "attacked": "o", "clean": "|"}
labels = {"certified": "proved", "attacked": "under the strongest attack", "clean": "clean"}
for column, color in zip(markers, ("tab:green", "tab:blue", "0.2"), strict=True):
    size = {"s": 50, "o": 50, "|": 130}[markers[column]]
    style = {"s": size, "color": color, "marker": markers[column], "label": labels[column]}
    ax.scatter(table[column], height, zorder=2, **style)
ax.set_yticks(height, [f"{name}\n{row.cost:.1f} × plain" for name, row in table.iterrows()])
ax.set_xlim(-0.02, 1.02)
ax.xaxis.set_major_formatter(PercentFormatter(1))
ax.set_xlabel("accuracy on 200 test digits, ε = 0.1")
ax.grid(axis="x", alpha=0.3)
ax.spines[["top", "right", "left"]].set_visible(False)
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
plt.show()
