"""
Logits along a line, and copies that transfer
=============================================

Why does a small change mislead a classifier, and why does the same change mislead another? Two
displays give a first answer: the logits of one model along the direction of an attack, and the
error of each of several models on the copies that were made against each.
"""

# %%
# Five models of the same digits
# ------------------------------
# The 8 by 8 digits of scikit-learn, with pixels from 0 (paper) to 1 (ink). Four models learn them
# as they are. The fifth, a maxout network, is trained on clean digits and adversarial copies.

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from sk_adv import AdversarialMaxoutClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.5, random_state=0)
models = {
    "linear": LogisticRegression(max_iter=1000),
    "RBF kernel": SVC(),
    "perceptron": MLPClassifier((64,), max_iter=1000, random_state=0),
    "forest": RandomForestClassifier(random_state=0),
    "robust maxout": AdversarialMaxoutClassifier(
        (64, 64), epsilon=0.2, max_iter=80, random_state=0
    ),
}
for name, model in models.items():
    print(f"{name}: {model.fit(X_train, y_train).score(X_test, y_test):.1%} right on clean digits")

# %%
# Along the sign of the gradient
# ------------------------------
# One test digit is moved along the direction of the fast gradient sign method, forwards and
# backwards, and each line is the logit of a class. The background is grey where the true class has
# the largest logit. The perceptron's logits are almost straight, and the method relies on that: the
# gradient at one point tells the direction far from that point, too. With the maxout network the
# true class stays ahead for longer.

import matplotlib.pyplot as plt
import numpy as np

from sk_adv.inspection import EpsilonSweepDisplay

steps = np.linspace(-1, 1, 201)
figure, axes = plt.subplots(2, 1, figsize=(7, 7), layout="constrained")
for ax, name in zip(axes, ("perceptron", "robust maxout"), strict=True):
    display = EpsilonSweepDisplay.from_estimator(
        models[name], X_test[0], y_test[0], epsilons=steps, ax=ax
    )
    ax.set_title(name)
    edge = display.correct_stretches[:, 1].max()
    print(f"{name}: right up to a step of {edge:.2f}")

# %%
# From model to model
# -------------------
# In each row, copies of all test digits are made against one model, and every model classifies
# them. The diagonal is the attack on the model itself. The other entries are attacks by an
# adversary who has trained another model and never saw the target. They can exceed the diagonal,
# as a single step is not the worst attack. The forest has no gradient, so no copies are made
# against it (the hatched row), but copies against the other models fool it.

from sk_adv.inspection import TransferMatrixDisplay

TransferMatrixDisplay.from_estimators(models, X_test, y_test, epsilon=0.15)
