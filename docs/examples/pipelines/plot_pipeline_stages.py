"""
Four uses of an attack in a pipeline
====================================

Adversarial copies can replace the samples when a classifier predicts, when it is trained, or both,
or they can be added to the clean samples in training. Each use answers another question, and only
one number tells whether a model is robust: its accuracy under an attack on the model itself.
"""

# %%
# The data are the 8 by 8 digits of scikit-learn, with pixels from 0 to 1. The copies are made
# against a network that was trained without an adversary. It is fitted once, and a
# ``FrozenEstimator`` passes it to all pipelines as it is.

from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sk_adv import AdversarialMaxoutClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
network = {"hidden_layer_sizes": (64, 64), "max_iter": 20, "random_state": 0}
plain = AdversarialMaxoutClassifier(alpha=1, **network).fit(X_train, y_train)
attack = {"epsilon": 0.1, "bounds": (0, 1)}

# %%
# Four pipelines
# --------------
# The transformer comes before a new network of the same kind. imbalanced-learn's pipelines call
# the sampler in ``fit`` and skip it in ``predict``; here that call is written out.

from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sk_adv import FGSMSampler, FGSMTransformer

trained, scores = {}, {}
for stage in ("test", "train", "both"):
    step = FGSMTransformer(FrozenEstimator(plain), stage=stage, **attack)
    pipeline = make_pipeline(step, clone(plain)).fit(X_train, y_train)
    trained[stage] = pipeline[-1]
    scores[stage] = pipeline.score(X_test, y_test)

sampler = FGSMSampler(FrozenEstimator(plain), labels="predicted", **attack)
trained["sampler"] = clone(plain).fit(*sampler.fit_resample(X_train, y_train))
scores["sampler"] = trained["sampler"].score(X_test, y_test)

# %%
# For comparison, a network whose copies are made against itself and made anew for each batch:

robust = AdversarialMaxoutClassifier(**attack, **network).fit(X_train, y_train)
trained["robust"], scores["robust"] = robust, robust.score(X_test, y_test)

# %%
# Three measures
# --------------
# Each network classifies the clean test digits, the copies of them that were made against the plain
# network, and the worst that projected gradient descent (PGD) finds against the network itself,
# within the same radius.

from sk_adv.metrics import adversarial_accuracy_score

copies = step.transform(X_test)
accuracies = {
    name: (
        model.score(X_test, y_test),
        model.score(copies, y_test),
        adversarial_accuracy_score(model, X_test, y_test, attack="pgd", random_state=0, **attack),
    )
    for name, model in trained.items()
}

# %%
# The framed bar is the one that the pipeline's own ``score`` reports.
#
# - ``stage="test"`` reports an attack on the plain network. Here the next classifier is the same
#   network, so the attack meets its target; PGD, with many steps, finds a little more.
# - ``stage="train"`` and ``stage="both"`` train the same network and report different scores.
#   The network is right on copies like those that it was trained on, and worse than the plain
#   network under an attack on itself: it has learned the traces of *that* attack.
# - The sampler's clean half restores the accuracy on clean digits, and nothing else.
# - A network is hardened by copies that are made against it as it learns.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

groups = {
    "test": 'stage="test"\ntrained on clean digits',
    "train": 'stage="train"\ntrained on copies',
    "both": 'stage="both"\ntrained on copies',
    "sampler": "FGSMSampler\ntrained on clean digits\nand copies",
    "robust": "no step\ntrained on clean digits\nand copies against itself",
}
measures = {
    "clean digits": "#c6dbef",
    "copies made against the plain network": "#6baed6",
    "PGD against the trained network itself": "#08306b",
}
reported = {"test": 1, "train": 0, "both": 1, "sampler": 0, "robust": 0}

figure, ax = plt.subplots(figsize=(10, 5), layout="constrained")
for column, color in enumerate(measures.values()):
    heights = [accuracies[name][column] for name in groups]
    bars = ax.bar(np.arange(len(groups)) + 0.27 * (column - 1), heights, 0.25, color=color)
    ax.bar_label(bars, fmt="{:.0%}", padding=2)
    for name, bar in zip(groups, bars, strict=True):
        if reported[name] == column:
            bar.set(edgecolor="black", linewidth=2.5)
legend = [Patch(color=color, label=measure) for measure, color in measures.items()]
legend.append(Patch(facecolor="none", edgecolor="black", linewidth=2.5, label="what score reports"))
figure.legend(handles=legend, loc="outside upper center", ncols=4, frameon=False)
ax.set_xticks(range(len(groups)), groups.values())
ax.set(ylim=(0, 1.08), ylabel="accuracy on test digits, attacks with ε = 0.1")
ax.yaxis.set_major_formatter(PercentFormatter(1))
ax.spines[["top", "right"]].set_visible(False)
for name, reported_score in scores.items():
    print(f"{name}: score reports {reported_score:.1%}")
