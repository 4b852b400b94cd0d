"""Attacks on fitted estimators, with class labels and arrays, frames or tensors."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import _check_y, _num_samples, check_is_fitted

from sk_adv._arrays import check_samples_kind, in_container_of, readable, to_numpy
from sk_adv._collections import check_collection, is_collection
from sk_adv._devices import check_device
from sk_adv._perturbations import as_perturbation_set, sample_shape
from sk_adv._validation import check_dense, check_labels_present, name_of
from sk_adv._warnings import tells_once
from sk_adv.attacks._forms import form_of
from sk_adv.attacks._partitions import check_surrogate, perturb_by_partition
from sk_adv.attacks._table import resolve_attack
from sk_adv.differentiable._as_module import classes_of, error_of, refused_part
from sk_adv.differentiable._linear import NotLinearError
from sk_adv.tree._as_trees import is_made_of_trees


@tells_once
def perturb(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    attack="fgsm",
    attack_params: dict | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    target: object = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
) -> ArrayLike:
    """Make adversarial copies of samples against a fitted classifier.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule, such as a `Pipeline`; or any other
        classifier, together with a `surrogate`, or with `attack="auto"` or "square".

    X : array-like, frame, torch.Tensor or dask collection of shape (n_samples, n_features) or \
            (n_samples, ...)
        Clean samples, in the estimator's raw units. NaN is passed to the estimator and stays NaN.
        Columns that hold no numbers stay unperturbed, and a warning names them. So do columns that
        reach the classifier only through steps for which `as_module`, or for trees `as_trees`, has
        no rule; "auto" and "square" change them all the same, by random search.

    y : array-like or dask collection of shape (n_samples,)
        Labels, whose loss the attack increases. Samples with a label that the estimator has never
        seen stay clean, as they are misclassified already.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X: one number, one number per feature, or an
        array that broadcasts to one sample. For a frame also one number per column name; columns
        that a dict does not name stay unperturbed.

    attack : str or callable, default="fgsm"
        Name of an attack: "fgsm", "fgsm_rs", "pgd", "apgd", "square", "uniform_noise",
        "sign_noise", "rotate_towards_gradient", "exact" for linear models and trees, or "auto", the
        strongest that the estimator allows; or a function with the signature of
        `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped. Each end is given like `epsilon`;
        None is no limit.

    target : label, default=None
        Class to move the samples towards, instead of away from y.

    surrogate : estimator, default=None
        For models without gradients, and attacks that need one: a classifier for which `as_module`
        has a rule. A clone of it is fitted to the model's own predictions on X and attacked
        instead of the model. A `FrozenEstimator` is used as it is.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Device of the attack. None means the device of the estimator's weights.

    Returns
    -------
    array, frame, torch.Tensor or dask collection of the shape and type of X
        The adversarial copies. Those of a dask array or a dask dataframe are made when they are
        computed, partition by partition.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse, the attack needs a gradient, `as_module` has no rule for the estimator and
        there is no surrogate, the attack does not accept one of the arguments, or `attack="exact"`
        is used on a model that is neither linear nor a sum of trees. Or if X is a dask collection,
        and there is a surrogate that is not a `FrozenEstimator`.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    *Dask collections.* X may be a dask array or a dask dataframe, whose copies are then a lazy
    collection of the same kind, with the same partitions. Errors in the data of a partition appear
    when it is computed, and name the partition. Each partition has a seed of its own, for partition
    i of n the i-th of `numpy.random.SeedSequence(random_state).generate_state(n)`: random attacks
    give the same copies on any scheduler, but other ones for other partitions. In a dask dataframe
    a column of integers becomes one of floats if its radius is positive or `bounds` limit it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.attacks import perturb
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> copies = perturb(model, X, y, epsilon={"petal length (cm)": 0.5})
    >>> (copies - X).abs().max().round(3).to_dict()
    {'sepal length (cm)': 0.0, 'sepal width (cm)': 0.0, 'petal length (cm)': 0.5, \
'petal width (cm)': 0.0}

    By partition, with dask:

    >>> import dask.dataframe as dd
    >>> parts = dd.from_pandas(X, npartitions=3)
    >>> lazy = perturb(model, parts, y, epsilon={"petal length (cm)": 0.5})
    >>> lazy.npartitions, bool((lazy.compute() == copies).all(axis=None))
    (3, True)
    """
    attack = resolve_attack(attack, attack_params, target=target)
    if is_collection(X):
        check_attack_on_collection(estimator, X, attack, target, surrogate)
        options = {"epsilon": epsilon, "norm": norm, "bounds": bounds, "attack": attack}
        options |= {"target": target, "surrogate": surrogate, "device": device}
        return perturb_by_partition(
            perturb, estimator, X, y, options=options, random_state=random_state
        )
    classes, y = check_classifier(estimator, X, y)
    perturbations = as_perturbation_set(epsilon, norm, bounds, X)
    if surrogate is not None:
        estimator = fit_surrogate(surrogate, estimator, X)
        classes = classes_of(estimator, X)
    attacked = np.isin(y, classes)
    indices = np.searchsorted(classes, y[attacked])
    context = {"random_state": random_state}
    if target is not None:
        attacked = np.ones(len(y), dtype=bool)
        indices = np.full(len(y), index_of_target(target, classes))
        context["targeted"] = True

    device = None if device is None else check_device(device)
    form = form_of(
        estimator,
        X,
        attack,
        perturbations,
        classes=classes,
        device=device,
        targeted=target is not None,
    )
    values = form.values
    copies = values.clone() if isinstance(values, torch.Tensor) else values.copy()
    # Where no column can change, there is nothing to attack.
    if attacked.any() and (form.free is None or form.free.any()):
        rows = torch.from_numpy(attacked).to(values.device) if torch.is_tensor(values) else attacked
        try:
            copies[rows] = form.attacked(rows, indices, **context)
        except NotLinearError as error:
            raise NotLinearError(name_of(estimator)) from error
    free = form.free
    if isinstance(X, torch.Tensor) and not isinstance(copies, torch.Tensor):
        copies = torch.as_tensor(copies, device=X.device)
        return copies.to(X.dtype) if X.is_floating_point() else copies
    if hasattr(X, "columns"):
        # The other columns of a frame keep their types.
        may_change = _may_change(values, copies, form.perturbations)
        free = may_change if free is None else free & may_change
    return in_container_of(X, copies, free=free)


def check_attack_on_collection(estimator, X, attack, target=None, surrogate=None):
    """Raise an error where one is certain before the partitions of X are looked at."""
    check_collection(X)
    check_takes(estimator, X)
    check_surrogate(surrogate)
    if surrogate is None:
        check_attackable(estimator, attack)
    if target is not None:
        index_of_target(target, np.asarray(estimator.classes_))


def _may_change(values, copies, perturbations):
    """Which columns have a positive radius, or have changed, as `bounds` change them too."""
    radii = perturbations.largest_radii(values.shape[1:]).numpy()
    same = (copies == values) | (np.isnan(copies) & np.isnan(values))
    return (radii > 0) | ~same.all(axis=0)


def fit_surrogate(surrogate, estimator, X, **weights):
    """Fit a differentiable classifier to the predictions of another classifier on X.

    Parameters
    ----------
    surrogate : object
        A classifier for which `as_module` has a rule. A clone of it is fitted. A `FrozenEstimator`
        around a fitted classifier is used as it is.

    estimator : object
        The fitted classifier.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features)

    **weights : dict
        `sample_weight`, for the surrogate's fit.

    Returns
    -------
    object
        The fitted surrogate.

    Raises
    ------
    TypeError
        If `as_module` has no rule for the surrogate.
    ValueError
        If the classifier predicts only one class on X.
    """
    check_attackable(surrogate)
    if not is_classifier(surrogate):
        raise TypeError(f"surrogate must be a classifier; got {name_of(surrogate)}.")
    if isinstance(surrogate, FrozenEstimator):
        check_is_fitted(surrogate)
        return surrogate
    if is_collection(X):
        check_surrogate(surrogate)
    check_has_classes(estimator)
    predicted = estimator.predict(readable(estimator, X))
    if len(np.unique(predicted)) < 2:
        raise ValueError(
            f"{type(estimator).__name__} predicts class {predicted[0]} for all samples, so there "
            "is no boundary for the surrogate to learn: pass more samples, or a FrozenEstimator "
            "around a fitted surrogate."
        )
    return clone(surrogate).fit(readable(surrogate, X), predicted, **weights)


def is_attackable(estimator, attack=None):
    """Whether `perturb` takes an estimator, once it is fitted, without a surrogate.

    None as the attack stands for one that needs gradients.
    """
    return _attack_error(estimator, attack) is None


def check_attackable(estimator, attack=None):
    """Raise an error unless `perturb` takes an estimator, once it is fitted."""
    error = _attack_error(estimator, attack)
    if error is not None:
        raise error


def check_certifiable(estimator, who):
    """Raise a `TypeError` unless `as_module` takes an estimator, for a function of this name."""
    part = refused_part(estimator, exempt=ColumnTransformer)
    if part is not None:
        raise TypeError(
            f"{who} needs a rule of as_module or as_trees for {name_of(part)}, and there is none. "
            "adversarial_accuracy_score takes any classifier with attack='square', or together "
            "with a `surrogate`, such as LogisticRegression(), and bounds the accuracy under "
            "attack from above."
        ) from _attack_error(estimator)


def _attack_error(estimator, attack=None):
    if attack is not None and attack.attack.needs != "module":
        return None
    if attack is not None and attack.attack.takes_trees and is_made_of_trees(estimator):
        return None
    # Columns behind a ColumnTransformer that have no rule stay unperturbed.
    return error_of(estimator, exempt=ColumnTransformer)


def check_has_classes(estimator):
    """Raise an error unless the estimator is fitted, and a classifier."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "classes_"):
        raise TypeError(
            f"estimator must be a classifier with the attribute classes_; "
            f"got {type(estimator).__name__}."
        )


def check_takes(estimator, X):
    """Check that an estimator is a fitted classifier for samples of the shape of X, and return it.

    X may also be a dask collection, of which only the shape is known.
    """
    check_has_classes(estimator)
    if isinstance(estimator.classes_, list):
        raise ValueError(
            f"An attack needs one label per sample; got a {type(estimator).__name__} fitted to "
            "several. Attack one of its `estimators_`, each of which predicts one label."
        )
    shape = sample_shape(X)
    if not shape:
        raise ValueError(f"X must have shape (n_samples, n_features); got {tuple(np.shape(X))}.")
    n_features = getattr(estimator, "n_features_in_", None)
    if n_features is not None and shape != (n_features,):
        name = type(estimator).__name__
        if len(shape) > 1:
            raise ValueError(
                f"X must have shape (n_samples, n_features), as {name} was fitted with "
                f"{n_features} features; got shape {tuple(X.shape)}."
            )
        raise ValueError(
            f"X has {shape[0]} features, but {name} was fitted with {n_features} features."
        )
    return shape


def check_classifier(estimator, X, y, *, accept_sparse=False):
    """Check that y and the shape of X fit a fitted classifier, and that X is dense.

    With `accept_sparse`, a SciPy matrix passes too.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
    y : ndarray of shape (n_samples,)
    """
    if not (accept_sparse and sparse.issparse(X)):
        check_dense(
            X,
            "An attack",
            "; scores, reports and curves of linear models take a SciPy matrix with attack='exact'",
        )
    check_samples_kind(X)
    shape = check_takes(estimator, X)
    if not _num_samples(X):
        raise ValueError(
            f"Found array with 0 sample(s) (shape={(0, *shape)}) while a minimum of 1 is required."
        )
    y = _check_y(to_numpy(y), estimator=estimator)
    check_labels_present(y)
    if len(y) != _num_samples(X):
        raise ValueError(
            f"y must have one label per sample of X: got {len(y)} for {_num_samples(X)}."
        )
    classes = classes_of(estimator, X.tocsr() if sparse.issparse(X) else X)
    kinds = [(isinstance(one[0], str), one.dtype.kind in "mM") for one in (y, classes)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"y must hold labels of the type that {type(estimator).__name__} was fitted to, such "
            f"as {classes[:1].tolist()[0]!r}; got {y[:1].tolist()[0]!r}."
        )
    return classes, y


def index_of_target(target, classes):
    """Return the position of a target among the classes; raise `ValueError` if it is not there."""
    found = np.flatnonzero(classes == target) if np.ndim(target) == 0 else []
    if len(found) != 1:
        raise ValueError(f"target must be one of the classes {classes.tolist()}; got {target!r}.")
    return found[0]
