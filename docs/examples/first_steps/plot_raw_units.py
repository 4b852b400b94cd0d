"""
An attack in the units of the measurements
==========================================

A pipeline scales its input before it classifies. But an adversary does not change scaled numbers.
They change the measurements, in millimetres and square millimetres, and some measurements can be
changed more easily than others. Attacks here go through the whole pipeline, with one radius per
column.
"""

# %%
# Data and pipeline
# -----------------
# The breast cancer data of scikit-learn: 30 measurements of the cell nuclei of 569 tumours, whose
# units differ by a factor of 100,000.

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
y = y.map({0: "malignant", 1: "benign"})
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_train, y_train)
print(f"{model.score(X_test, y_test):.1%} of the test samples are classified correctly")

# %%
# The radii, column by column
# ---------------------------
# Suppose that every mean over the nuclei can be off by 3 % of its median, that the standard errors
# can't be changed, and that the worst values are off by 5 %. A radius of 0 marks a column that
# can't be changed. The radii are a Series, which belongs to the columns by its labels.

import pandas as pd

share = pd.Series(0.03, index=X.columns)
share[X.columns.str.contains("error")] = 0.0
share[X.columns.str.startswith("worst")] = 0.05
epsilon = share * X_train.median()

# %%
# The copies
# ----------
# :func:`~sk_adv.attacks.perturb` makes adversarial copies of a frame as a frame. Here is one tumour
# before and after, in columns whose radius is not 0:

from sk_adv.attacks import perturb

copies = perturb(model, X_test, y_test, epsilon=epsilon)

turned = (model.predict(X_test) == y_test) & (model.predict(copies) != y_test)
tumour = turned[turned].index[0]
before_and_after = pd.DataFrame({"measured": X_test.loc[tumour], "attacked": copies.loc[tumour]})
print(f"a {y_test[tumour]} tumour, taken for {model.predict(copies.loc[[tumour]])[0]}:")
print(before_and_after[epsilon > 0].round(3).head(8))

# %%
# The accuracy under attack
# -------------------------
# For a linear model and two classes no change within the radii is worse than FGSM. So the accuracy
# under attack is the certified accuracy.

from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score

attacked = adversarial_accuracy_score(model, X_test, y_test, epsilon=epsilon, attack="fgsm")
certified = certified_accuracy_score(model, X_test, y_test, epsilon=epsilon)
print(f"correct under attack: {attacked:.1%}; certified: {certified:.1%}")

# %%
# With ``scale=epsilon`` the curve shows the error for multiples of these radii. Noise of the same
# size hardly matters, because its direction is random.

import numpy as np

from sk_adv.inspection import RobustnessCurveDisplay

RobustnessCurveDisplay.from_estimator(
    model,
    X_test,
    y_test,
    epsilons=np.linspace(0, 5, 11),
    scale=epsilon,
    attacks=["fgsm", "sign_noise"],
)

# %%
# How far is each tumour from another verdict?
# --------------------------------------------
# For a linear model the smallest multiple of the radii that changes a prediction is known exactly.
# Samples to the left of the line change their class within the radii themselves.

import matplotlib.pyplot as plt

from sk_adv.metrics import robustness_radius

radius = robustness_radius(model, X_test, scale=epsilon)
figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for name, color in (("malignant", "tab:red"), ("benign", "tab:blue")):
    chosen = radius[(y_test == name).to_numpy()]
    ax.hist(chosen, bins=np.arange(0, 26), alpha=0.6, color=color, label=name)
ax.axvline(1, color="black", linewidth=1)
ax.set(
    xlabel="smallest multiple of the radii that changes the prediction",
    ylabel="tumours",
    yticks=range(0, 21, 5),
)
ax.legend()
