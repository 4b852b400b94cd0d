"""Cells of the tables of linear models, and what several sections compute for them."""

import warnings

import numpy as np

from _harness import linear_peers as peers
from _harness.report import three_digits
from _harness.timing import Timing


def quietly(call):
    """The result of a call, without warnings: the tables name the fits that did not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def is_unattained(model):
    """Whether our solver stopped because the problem has no minimiser."""
    return model.violation_ > model.tol and model.n_iter_ < model.max_iter


def seconds(timing: Timing):
    return three_digits(timing.seconds)


def ratio(over: Timing, under: Timing):
    return f"{over.seconds / under.seconds:,.2f} x"


def ours_cells(timing):
    model = timing.result
    passes = f"{model.n_iter_} (none)" if is_unattained(model) else model.n_iter_
    return [seconds(timing), passes, f"{model.violation_:.1e}", peers.n_nonzero(model)]


def liblinear_cells(timings):
    peer = timings["liblinear"]
    return [seconds(peer), peers.n_nonzero(peer.result), ratio(timings["ours"], peer)]


def l1_cells(timings):
    cells = liblinear_cells(timings)
    for name in ("celer", "saga"):
        if name not in timings:
            cells += ["-", "-"]
            continue
        model = timings[name].result
        capped = name == "saga" and model.n_iter_[0] >= model.max_iter
        cells += [("> " if capped else "") + seconds(timings[name]), peers.n_nonzero(model)]
    return cells


def certified_error(coef, intercept, X, labels, epsilon, order=1):
    """Share of x with (w_y - w_k)ᵀx + b_y - b_k ≤ ε‖w_y - w_k‖ for some k ≠ y.

    Parameters
    ----------
    coef, intercept : ndarray of shape (n_classes, n_features) and (n_classes,)
        Of two classes, a single row is the second class's, beside zeros.
    X, labels : ndarray of shape (n_samples, n_features) and (n_samples,)
        Labels are positions of classes.
    epsilon : float
    order : {1, 2}, default=1
        The norm of weights: 1 for perturbations in the max-norm, 2 in the Euclidean.
    """
    coef, intercept = np.atleast_2d(coef), np.atleast_1d(intercept)
    if len(coef) == 1:
        coef, intercept = np.vstack([0 * coef, coef]), np.r_[0, intercept]
    logits = X @ coef.T + intercept
    lead = np.take_along_axis(logits, labels[:, None], axis=1) - logits
    reach = epsilon * np.linalg.norm(coef[:, None] - coef, ord=order, axis=2)
    is_robust = lead > reach[labels]
    np.put_along_axis(is_robust, labels[:, None], True, axis=1)
    return 1 - is_robust.all(axis=1).mean()
