"""Classifiers and modules that the calls are made on; each is fitted once and kept."""

import functools
import warnings

import numpy as np
import pandas as pd
import torch
from fuzz_values import COLUMNS, INDICES, NORMAL
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import nn

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier, FGSMTransformer
from sk_adv.differentiable import as_module
from sk_adv.linear_model import AdversarialLogisticRegressionCV
from sk_adv.neural_network import AdversarialNet, MaxoutNet

NAMES = {"numbers": {2: (0, 1), 3: (0, 1, 2)}, "words": {2: ("no", "yes"), 3: ("a", "b", "c")}}
NAMES["odd numbers"] = {2: (-1, 1), 3: (5, 7, 9)}


def net(n_classes=2, module=None, **params):
    """A tiny net, not yet initialised."""
    if module is None:
        module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, n_classes))
    return AdversarialNet(module, **{"max_epochs": 1, "verbose": 0, "train_split": None} | params)


def columns(classifier):
    """A classifier behind a ColumnTransformer, for frames with a column of text."""
    parts = [("numbers", StandardScaler(), COLUMNS), ("text", OneHotEncoder(), ["t"])]
    return make_pipeline(ColumnTransformer(parts), classifier)


def with_text(X):
    """A frame with a further column, of text."""
    frame = pd.DataFrame(np.asarray(X), columns=COLUMNS)
    return frame.assign(t=["x", "y", "z"] * (len(X) // 3) + ["x"] * (len(X) % 3))


FAST = {
    "LogisticRegression": LogisticRegression,
    "SVC": SVC,
    "LinearSVC": LinearSVC,
    "MLP": lambda: MLPClassifier((4,), max_iter=5, random_state=0),
    "scaled": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "scaled SVC": lambda: make_pipeline(MinMaxScaler(), SVC(kernel="poly", degree=2)),
    "imputed": lambda: make_pipeline(SimpleImputer(), LogisticRegression()),
    "calibrated": lambda: CalibratedClassifierCV(LinearSVC(), cv=2),
    "isotonic": lambda: CalibratedClassifierCV(LogisticRegression(), cv=2, method="isotonic"),
    "voting": lambda: VotingClassifier(
        [("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"
    ),
    "hard voting": lambda: VotingClassifier([("a", LogisticRegression()), ("b", LinearSVC())]),
    "search": lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2),
    "bagging": lambda: BaggingClassifier(LogisticRegression(), n_estimators=2, random_state=0),
    "one against rest": lambda: OneVsRestClassifier(LinearSVC()),
    "ridge": RidgeClassifier,
    "SGD": lambda: SGDClassifier(max_iter=5, tol=None, random_state=0),
    "Gaussian process": GaussianProcessClassifier,
    "naive Bayes": GaussianNB,
    "linear": lambda: AdversarialLogisticRegression(epsilon=0.1, C=1.0),
    "linear in L2": lambda: AdversarialLogisticRegression(epsilon=0.1, norm=2, C=1.0),
    "linear search": lambda: AdversarialLogisticRegressionCV(epsilons=2, cv=2, C=1.0),
    "maxout": lambda: AdversarialMaxoutClassifier((4,), 2, max_iter=2, random_state=0),
    "attacked": lambda: make_pipeline(
        FGSMTransformer(LogisticRegression(), stage="train"), LogisticRegression()
    ),
    "forest": lambda: RandomForestClassifier(n_estimators=2, max_depth=2, random_state=0),
    "tree boosting": lambda: GradientBoostingClassifier(
        n_estimators=3, max_depth=2, random_state=0
    ),
    "tree histograms": lambda: make_pipeline(
        StandardScaler(), HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=4)
    ),
    "neighbours": KNeighborsClassifier,
    "columns": lambda: columns(LogisticRegression()),
    "frame": LogisticRegression,
    "single": LogisticRegression,
    "net": None,
    "net in place": None,
}
DIFFERENTIABLE = [
    name
    for name in FAST
    if name not in ("forest", "neighbours", "net", "net in place") and not name.startswith("tree")
]


@functools.cache
def fitted(name, n_classes=2, kind="numbers"):
    """A fitted classifier."""
    X, y = NORMAL, np.asarray(NAMES[kind][n_classes])[INDICES[n_classes]]
    state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name.startswith("net"):
            torch.manual_seed(0)
            first = [InPlace(lambda X: X.mul_(2), n_classes)] if name == "net in place" else [None]
            model = net(n_classes, *first).fit(X.astype(np.float32), INDICES[n_classes])
        elif name == "columns":
            model = FAST[name]().fit(with_text(X), y)
        elif name == "frame":
            model = FAST[name]().fit(pd.DataFrame(X, columns=COLUMNS), y)
        else:
            model = FAST[name]().fit(X.astype(np.float32) if name == "single" else X, y)
    np.random.set_state(state)  # noqa: NPY002
    torch.set_rng_state(torch_state)
    return model


def classifier(draw):
    """A classifier, the names of its classes, and whether it needs a frame with text."""
    if draw.is_odd() and draw.chance(0.3):
        odd = [LogisticRegression(), LinearRegression().fit(NORMAL, NORMAL[:, 0]), None, "SVC", SVC]
        odd += [nn.Linear(3, 2), StandardScaler().fit(NORMAL), net(), object(), lambda X: X]
        odd += [MLPClassifier((4,), max_iter=2).fit(NORMAL, np.eye(2, dtype=int)[INDICES[2]])]
        odd += [FrozenEstimator(LogisticRegression()), AdversarialMaxoutClassifier()]
        return draw.of(*odd), (0, 1), False
    name, n_classes = draw.of(*FAST), draw.of(2, 2, 3)
    kind = "numbers" if "net" in name else draw.of("numbers", "numbers", *NAMES)
    model = fitted(name, n_classes, kind)
    model = FrozenEstimator(model) if draw.chance(0.05) and "net" not in name else model
    return model, NAMES[kind][n_classes], name == "columns"


def surrogate(draw):
    """A surrogate, in most calls None."""
    odd = [LogisticRegression(), FrozenEstimator(fitted("linear")), make_pipeline(StandardScaler())]
    odd += [RandomForestClassifier(2), "LogisticRegression", LogisticRegression, LinearRegression()]
    odd += [fitted("scaled"), FrozenEstimator(LogisticRegression()), 3, net(), LinearSVC()]
    return draw.usual_or_odd([None, None, None, LogisticRegression()], odd)


class InPlace(nn.Module):
    """A module whose first operation changes its input."""

    def __init__(self, first, n_classes=None):
        super().__init__()
        self.first, self.layer = first, nn.Linear(3, n_classes or 2)
        if n_classes is None:
            self.double()

    def forward(self, X):
        return self.layer(self.first(X))


class Returning(nn.Module):
    """A module that returns something else than a tensor of logits."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.layer = answer, nn.Linear(3, 2).double()

    def forward(self, X):
        return self.answer(self.layer(X))


def module(draw):
    """A module with three inputs, and its number of classes."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        if not (draw.is_odd() or draw.chance(0.2)):
            name, n_classes = draw.of(*DIFFERENTIABLE), draw.of(2, 3)
            if name == "columns":
                name = "scaled"
            return as_module(fitted(name, n_classes)), n_classes
        relu = nn.ReLU(inplace=True)
        usual = [nn.Linear(3, 2), nn.Linear(3, 2).half(), nn.Linear(3, 2).bfloat16(), relu]
        usual += [InPlace(relu), InPlace(lambda X: X.add_(1)), InPlace(lambda X: X.clamp_(0, 1))]
        usual += [nn.Sequential(relu, nn.Linear(3, 2)), MaxoutNet(3, 2, (4,), 2)]
        usual += [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()]
        usual += [Returning(lambda z: (z, z)), torch.jit.script(nn.Sequential(nn.Linear(3, 2)))]
        usual += [torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3)), nn.Identity()]
        odd = [
            Returning(lambda z: [z]),
            Returning(lambda z: {"z": z}),
            Returning(lambda z: z[:, :1]),
        ]
        odd += [Returning(lambda z: z[:, 0]), Returning(lambda z: z.detach()), nn.Linear(4, 2)]
        odd += [Returning(lambda z: z * torch.nan), Returning(lambda z: z * torch.inf), None, "net"]
        odd += [Returning(lambda z: z.sum()), Returning(lambda z: z.detach().numpy()), object()]
        odd += [nn.Conv2d(3, 2, 1), nn.Embedding(3, 2), lambda X: X, Returning(lambda z: None)]
        odd += [
            Returning(lambda z: z[:1]),
            Returning(lambda z: z.long()),
            fitted("linear"),
            nn.Linear,
        ]
        odd += [Returning(lambda z: z.to(torch.complex64)), Returning(lambda z: z.argmax(1))]
        return draw.usual_or_odd(usual, odd), 2
    finally:
        torch.set_rng_state(torch_state)
