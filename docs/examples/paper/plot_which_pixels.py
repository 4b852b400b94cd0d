"""
Which pixels tell which digits apart
====================================

A model of ten digits has ten weights for each pixel. Trained against an adversary who may change
every pixel, most of these weights are exactly equal: four pixels in five tell no digit from
another, and no pixel makes more than a few groups of digits. A 4 is told from a 9 by 23 pixels, a 0
from a 1 by 109: the more two digits look alike, the fewer pixels are worth the risk.
"""

# %%
# The data are 5,000 real digits of MNIST, with pixels from 0 (paper) to 1 (ink). The adversary may
# darken or lighten each pixel by up to ``epsilon``. One model is fitted for each of three radii, on
# half of the digits; the others test it.

import numpy as np
from sklearn.model_selection import train_test_split

from sk_adv import AdversarialLogisticRegression
from sk_adv.datasets import load_mnist_sample

digits = load_mnist_sample()
X_train, X_test, y_train, y_test = train_test_split(
    digits.data, digits.target, test_size=0.5, stratify=digits.target, random_state=0
)
models = {
    epsilon: AdversarialLogisticRegression(epsilon=epsilon).fit(X_train, y_train)
    for epsilon in (0.05, 0.1, 0.2)
}

# %%
# Pixels with one weight, and pixels with several
# -----------------------------------------------
# Weights that differ cost the model, as the adversary uses the difference. So the solution gives
# digits the same weight of a pixel, to the last bit, unless telling them apart by it is worth that
# cost. A pixel with one weight for all digits is ignored: the weight is 0. A pixel with two splits
# the digits into two groups, and so on. No rounding is needed to count them:

n_levels = {
    epsilon: np.array([len(np.unique(weights)) for weights in model.coef_.T])
    for epsilon, model in models.items()
}
for epsilon, model in models.items():
    levels, error = n_levels[epsilon], 1 - model.score(X_test, y_test)
    print(f"epsilon {epsilon}: {np.sum(levels == 1)} of 784 pixels are ignored, the others have up")
    print(f"  to {levels.max()} different weights; {error:.1%} of the clean test digits are wrong")

# %%
# The larger the radius, the fewer pixels are in use, and the fewer groups each makes.

import matplotlib.pyplot as plt
from matplotlib.colors import BoundaryNorm, ListedColormap

most = max(levels.max() for levels in n_levels.values())
shades = plt.get_cmap("viridis_r")(np.linspace(0.1, 1, most - 1))
colours = ListedColormap(["0.93", *shades])
borders = BoundaryNorm(np.arange(most + 1) + 0.5, most)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
for ax, (epsilon, levels) in zip(axes, n_levels.items(), strict=True):
    image = ax.imshow(levels.reshape(28, 28), cmap=colours, norm=borders)
    ax.set(title=f"ε = {epsilon}: {np.sum(levels > 1)} pixels in use", xticks=[], yticks=[])
bar = figure.colorbar(image, ax=axes, ticks=range(1, most + 1), shrink=0.8)
bar.set_label("different weights of a pixel (1: ignored)")

# %%
# Pairs of digits
# ---------------
# A pixel helps to tell two digits apart only if their weights differ. Grey pixels have exactly the
# same weight for both. Ink on a red pixel speaks for the first digit, ink on a blue one for the
# second. The lines are the outlines of the mean digits, red for the first and blue for the second.

coef = models[0.1].coef_
pairs = [(4, 9), (3, 5), (7, 9), (0, 6), (1, 7), (3, 8)]
gaps = np.array([coef[first] - coef[second] for first, second in pairs])
reach = np.quantile(np.abs(gaps[gaps != 0]), 0.97)
diverging = plt.get_cmap("RdBu_r").with_extremes(bad="0.88")
figure, axes = plt.subplots(2, 3, figsize=(10, 6.8), layout="constrained")
for ax, (first, second), gap in zip(axes.flat, pairs, gaps, strict=True):
    shown = np.ma.masked_equal(gap, 0).reshape(28, 28)
    image = ax.imshow(shown, cmap=diverging, vmin=-reach, vmax=reach)
    for digit, colour in ((first, "firebrick"), (second, "steelblue")):
        mean = X_train[y_train == digit].mean(axis=0).reshape(28, 28)
        ax.contour(mean, levels=[0.4], colors=colour, linewidths=1, alpha=0.6)
    n_pixels = np.count_nonzero(gap)
    ax.set(title=f"{first} or {second}: {n_pixels} pixels", xticks=[], yticks=[])
bar = figure.colorbar(image, ax=axes, shrink=0.8, extend="both")
bar.set_label("weight for the first digit less that for the second")

# %%
# All pairs
# ---------
# The number of pixels that tell two digits apart, for all pairs. It is smallest for digits that
# share most of their ink, such as 4, 7 and 9, or 3, 5 and 8.

n_pixels = np.count_nonzero(coef[:, None] - coef, axis=2)
figure, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
ax.imshow(np.where(np.eye(10), np.nan, n_pixels), cmap="Blues", vmin=0, vmax=1.6 * n_pixels.max())
for first, second in zip(*np.nonzero(n_pixels), strict=True):
    ax.text(second, first, n_pixels[first, second], ha="center", va="center", fontsize=9)
ax.set(xticks=range(10), yticks=range(10), xlabel="digit", ylabel="digit")
ax.set_title("pixels that tell two digits apart, ε = 0.1")
