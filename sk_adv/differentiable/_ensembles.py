"""Rules for ensembles: voting, bagging, one-vs-rest, stacking."""

from functools import partial

import torch
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.multiclass import OneVsRestClassifier, _ConstantPredictor
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from sk_adv.differentiable._as_module import as_module, as_part, classifier_within, parts_of
from sk_adv.differentiable._columns_in_hand import columns_in_hand, holding, numbers_for
from sk_adv.differentiable._composition import (
    Chain,
    Select,
    decision_values,
    log_probabilities,
    preferences,
    run,
)
from sk_adv.differentiable._linear import is_affine, log_of, with_zero


def in_columns(log_p: Tensor, columns: Tensor, n_classes: int) -> Tensor:
    """Log probabilities of all classes from those of some; the others have probability 0."""
    return log_of(log_p.new_zeros(log_p.shape[0], n_classes)).index_copy(1, columns, log_p)


def response(module: nn.Module, method: str, X: Tensor) -> Tensor:
    """The values of the estimator's method of that name, in n_classes columns.

    For two classes the columns of `decision_function` are (0, d).
    """
    if method == "predict_proba":
        return log_probabilities(module, X).exp()
    return decision_values(module, X)


def refuse_pairs(estimator):
    """Raise `ValueError` if `decision_function` has a column for each two of several classes."""
    if len(estimator.classes_) > 2 and _compares_pairs(estimator):
        raise ValueError(
            "as_module takes decision values that have one column per class; got "
            f"decision_function_shape='ovo' in {type(estimator).__name__}. Set it to 'ovr', which "
            "gives the same predictions."
        )


def _compares_pairs(estimator):
    shape = getattr(estimator, "decision_function_shape", None)
    return shape == "ovo" or any(map(_compares_pairs, parts_of(estimator)))


class AmongAllClasses(nn.Module):
    """A member that has seen only some of the ensemble's classes.

    Parameters
    ----------
    member : nn.Module

    columns : array-like of int
        Indices of the member's classes among the ensemble's.

    n_classes : int
        Number of classes of the ensemble.
    """

    has_parts = True

    def __init__(self, member, columns, n_classes):
        super().__init__()
        self.member = member
        self.register_buffer("columns", torch.as_tensor(columns).clone())
        self.n_classes = n_classes

    def forward(self, X):
        """Logits of X; a class that the member has not seen has a probability of 0."""
        return in_columns(run(self.member, X).log_softmax(1), self.columns, self.n_classes)

    def log_probabilities(self, X):
        """Log probabilities of all classes."""
        return in_columns(log_probabilities(self.member, X), self.columns, self.n_classes)

    def decision_values(self, X):
        """Numbers in the order of the member's preferences, the classes not seen last."""
        order = preferences(self.member, X).log_softmax(1)
        return in_columns(order, self.columns, self.n_classes)


class Ensemble(nn.Module):
    """Members, modules that give logits of all classes, and their weights, scaled to sum 1."""

    has_parts = True

    def __init__(self, members, weights=None):
        super().__init__()
        self.members = nn.ModuleList(members)
        if weights is None:
            weights = torch.ones(len(self.members), dtype=torch.float64)
        weights = torch.as_tensor(weights, dtype=torch.float64)
        self.register_buffer("weights", weights / weights.sum())

    def decision_values(self, X):
        """The mean of the members' `decision_function`."""
        return self._collect(decision_values, X) @ self.weights

    def preferences(self, X):
        """The logits, because bagging predicts by probabilities or votes, not by decisions."""
        return self(X)

    def _collect(self, function, X):
        """A function of (member, X) for all members, along the last axis."""
        values = torch.stack([function(member, X) for member in self.members], dim=-1)
        return values.to(self.weights.dtype)


class MeanProbability(Ensemble):
    """log Σₘ wₘ pₘ(x): the mean of the members' probabilities.

    It is the log-sum-exp of log wₘ + log pₘ, which neither over- nor underflows.
    """

    def forward(self, X):
        """Log probabilities of X, of shape (n_samples, n_classes)."""
        return (self._collect(log_probabilities, X) + self.weights.log()).logsumexp(-1)


def log_odds(logits: Tensor) -> Tensor:
    """log(pₖ / (1 - pₖ)) of all classes k, where p is the softmax of the logits."""
    log_p = logits.log_softmax(1)
    largest = nn.functional.one_hot(log_p.argmax(1), log_p.shape[1]).bool()
    # log(1 - p) loses its digits where p is almost 1; there the others' sum has them.
    others = log_p.masked_fill(largest, -torch.inf)
    rest = torch.where(largest, others.logsumexp(1, keepdim=True), (-others.exp()).log1p())
    return log_p - rest


class Votes(Ensemble):
    """The share of votes of each class, plus a confidence too small to overturn a difference.

    Votes have no gradient. So the logits are votes plus a bounded confidence, as scikit-learn's are
    for votes between each two classes (`sklearn.utils.multiclass._ovr_decision_function`),

        vₖ + g/(3K) (Σₘ wₘ tₘₖ / (1 + |tₘₖ|) - 2k) ,

    where v are the shares of votes of K classes, tₘₖ is member m's log-odds of class k, and g the
    smallest difference between the votes of two classes at x, or 1 if all votes are equal. So the
    class with the most votes has the largest logit. Among classes with equally many votes the last
    term prefers the first, which scikit-learn predicts. Each member's confidence is bounded
    separately; otherwise a member with large decision values would hide the others' gradients.
    """

    def votes(self, X):
        """The share of votes, of shape (n_samples, n_classes)."""
        values = self._collect(preferences, X)
        choices = nn.functional.one_hot(values.argmax(1), values.shape[1])
        return torch.einsum("nmk,m->nk", choices.to(self.weights), self.weights)

    def forward(self, X):
        """Logits of X, of shape (n_samples, n_classes)."""
        votes = self.votes(X)
        t = self._collect(lambda member, X: log_odds(run(member, X)), X)
        confidence = (t / (1 + t.abs())) @ self.weights
        gaps = votes.sort(1).values.diff(dim=1)
        # Sums of weights that differ only by rounding count as equal.
        rounding = len(self.members) * torch.finfo(votes.dtype).eps
        gap = torch.where(gaps > rounding, gaps, 1.0).amin(1, keepdim=True)
        n_classes = votes.shape[1]
        rank = torch.arange(n_classes, device=votes.device)
        return votes + gap / (3 * n_classes) * (confidence - 2 * rank)

    def log_probabilities(self, X):
        """The logarithm of the share of votes, whose gradient is 0."""
        return log_of(self.votes(X))


def among_all_classes(module, member, ensemble):
    """The module of a member, whose labels are the indices of the ensemble's classes."""
    n_classes = len(ensemble.classes_)
    if len(member.classes_) == n_classes:
        return module
    return AmongAllClasses(module, member.classes_, n_classes)


def read_by_classes(module, member, ensemble):
    """The module of a member whose columns an ensemble takes for those of `member.classes_`.

    A skorch net has a column for each of its logits, whatever labels it has seen. Where these are
    not as many, the ensemble mistakes one class for another, and the module raises `ValueError`.
    """
    net = classifier_within(member)
    if isinstance(net, NeuralNetClassifier):
        names = type(ensemble).__name__, type(net).__name__
        module.register_forward_hook(partial(_refuse_other_columns, *names, len(net.classes_)))
    return module


def _refuse_other_columns(ensemble, net, n_classes, module, inputs, logits):
    n_columns = logits.shape[1]
    if n_columns != n_classes:
        raise ValueError(
            f"{ensemble} takes the {n_columns} columns of this {net} for those of the {n_classes} "
            f"labels that it has seen, but column k is label k: give the {net} the parameter "
            f"classes=list(range({n_columns})), and {ensemble} a y with all of these labels; or a "
            "module with one output for each label in y, coded from 0 on without gaps."
        )


@as_module.register(VotingClassifier, passes_columns=True)
def _(voting):
    weights = voting._weights_not_none
    if weights is not None and (min(weights) < 0 or sum(weights) == 0):
        raise ValueError(
            "as_module takes a VotingClassifier with weights that are not negative, and some "
            f"positive; got weights={voting.weights!r}."
        )
    mean = MeanProbability if voting.voting == "soft" else Votes
    # A net has a column for each class, and voting takes them all.
    members = [
        module
        if isinstance(classifier_within(member), NeuralNetClassifier)
        else among_all_classes(module, member, voting)
        for member, module in zip(voting.estimators_, map(as_part, voting.estimators_), strict=True)
    ]
    return mean(members, weights)


def on_features(member, features):
    """The module of a member that sees some of the features."""
    columns = columns_in_hand()
    if columns is None:
        return Chain(Select(features), as_module(member))
    with holding(columns.of_features(features)):
        return as_part(member)


@as_module.register(BaggingClassifier, passes_columns=True)
def _(bagging):
    members = [
        among_all_classes(
            read_by_classes(on_features(member, features), member, bagging), member, bagging
        )
        for member, features in zip(bagging.estimators_, bagging.estimators_features_, strict=True)
    ]
    probable = [hasattr(estimator, "predict_proba") for estimator in bagging.estimators_]
    if not any(probable):
        return Votes(members)
    # In a mixed ensemble the members without probabilities vote.
    return MeanProbability(
        member if has_probabilities else Votes([member])
        for member, has_probabilities in zip(members, probable, strict=True)
    )


class AgainstTheRest(nn.Module):
    """The column of each member's class, where each member tells a class from the rest.

    A single member, for two classes, gives both its columns.

    Parameters
    ----------
    members : list of nn.Module
        Each gives the logits of (the rest, the class).

    function : decision_values or log_probabilities
        The values that are taken from the members.
    """

    has_parts = True

    def __init__(self, members, function):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.function = function

    def forward(self, X):
        """The columns, (n_samples, n_classes)."""
        if len(self.members) == 1:
            return self.function(self.members[0], X)
        return torch.stack([self.function(member, X)[:, 1] for member in self.members], dim=1)

    @property
    def is_affine(self):
        """Whether the columns are decision values of affine members."""
        return self.function is decision_values and all(map(is_affine, self.members))


class NormalizedAgainstTheRest(nn.Module):
    """Log probabilities of each class against the rest; the softmax divides by their sum.

    The decision values are an `AgainstTheRest` too.
    """

    has_parts = True

    def __init__(self, log_probabilities, decision_values):
        super().__init__()
        self.columns = log_probabilities
        self.decision_values = decision_values

    def forward(self, X):
        """Log probabilities of X, of shape (n_samples, n_classes)."""
        return self.columns(X).log_softmax(1)


@as_module.register(OneVsRestClassifier, passes_columns=True)
def _(one_vs_rest):
    if one_vs_rest.multilabel_:
        raise ValueError(
            "as_module takes one label per sample; got a OneVsRestClassifier fitted with several. "
            "Pass one of its estimators_, a classifier of one of the labels."
        )
    members = list(map(as_part, one_vs_rest.estimators_))
    # Like predict, which takes probabilities only where there are no decisions.
    has_decision = hasattr(one_vs_rest, "decision_function")
    decision = AgainstTheRest(members, decision_values if has_decision else log_probabilities)
    if not hasattr(one_vs_rest, "predict_proba"):
        return decision
    return NormalizedAgainstTheRest(AgainstTheRest(members, log_probabilities), decision)


class Constant(nn.Module):
    """The same decision value and probability, 0 or 1, of the second class for any X."""

    def __init__(self, value):
        super().__init__()
        self.register_buffer("value", torch.as_tensor(value, dtype=torch.float64))

    def forward(self, X):
        """Logits of X, of shape (n_samples, 2)."""
        # 0 * X changes nothing, but gives the output a gradient.
        value = self.value + 0 * X[:, :1]
        return log_of(torch.cat([1 - value, value], dim=1))

    def decision_values(self, X):
        """(0, value)."""
        return with_zero(self.value + 0 * X[:, :1])


@as_module.register(_ConstantPredictor)
def _(constant):
    return Constant(constant.y_)


class Responses(nn.Module):
    """The members' responses side by side, then what the module `passthrough` makes of X."""

    has_parts = True

    def __init__(self, members, methods, n_classes, passthrough=None):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.methods = methods
        self.n_classes = n_classes
        self.passthrough = passthrough

    def forward(self, X):
        """The input of the final estimator, of shape (n_samples, n_responses)."""
        columns = []
        for member, method in zip(self.members, self.methods, strict=True):
            values = response(member, method, X)
            # decision_function has one column if the member has two classes. predict_proba loses
            # one if the whole ensemble has two; a member fitted before may have seen others.
            n_classes = self.n_classes if method == "predict_proba" else values.shape[1]
            columns.append(values[:, 1:] if n_classes == 2 else values)
        if self.passthrough is not None:
            columns.append(self.passthrough(X))
        return torch.cat(columns, dim=1)


def refuse_predictions(stacking):
    """The error if members are stacked by their predictions, or None."""
    if "predict" not in getattr(stacking, "stack_method_", [stacking.stack_method]):
        return None
    return ValueError(
        "as_module takes a StackingClassifier whose members have predict_proba or "
        "decision_function: predictions have no gradient. Set stack_method to 'auto', "
        "'predict_proba' or 'decision_function' and leave out members without these."
    )


@as_module.register(StackingClassifier, refuse=refuse_predictions, passes_columns=True)
def _(stacking):
    if isinstance(stacking.classes_, list):
        raise ValueError(
            "as_module takes one label per sample; got a StackingClassifier fitted with several."
        )
    for estimator, method in zip(stacking.estimators_, stacking.stack_method_, strict=True):
        if method == "decision_function":
            refuse_pairs(estimator)
    passthrough = None
    if stacking.passthrough:
        remedy = "Set passthrough=False, or encode them before the StackingClassifier."
        passthrough = Chain(*numbers_for(stacking, remedy))
    responses = Responses(
        map(as_part, stacking.estimators_),
        stacking.stack_method_,
        len(stacking.classes_),
        passthrough,
    )
    return Chain(responses, as_module(stacking.final_estimator_))


@parts_of.register(VotingClassifier)
def _(voting):
    return [estimator for _, estimator in voting.estimators if estimator != "drop"]


@parts_of.register(StackingClassifier)
def _(stacking):
    members = [estimator for _, estimator in stacking.estimators if estimator != "drop"]
    return members if stacking.final_estimator is None else [*members, stacking.final_estimator]


@parts_of.register(BaggingClassifier)
def _(bagging):
    return [DecisionTreeClassifier() if bagging.estimator is None else bagging.estimator]


@parts_of.register(OneVsRestClassifier)
def _(one_vs_rest):
    return [one_vs_rest.estimator]
