"""Attacks on the samples of a dask collection, partition by partition."""

import numpy as np
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state

from sk_adv._collections import collection_of, in_memory, partitions_of
from sk_adv._perturbations import as_perturbation_set
from sk_adv._validation import check_dense, name_of


def seeds_of(random_state, n):
    """One seed for each partition, so that results do not depend on the order of the work.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        A `RandomState` is moved by one draw. None draws fresh seeds.
    n : int

    Returns
    -------
    list of int
        `numpy.random.SeedSequence(random_state).generate_state(n)` for an integer.
    """
    generator = check_random_state(random_state)
    if isinstance(random_state, np.random.RandomState):
        random_state = generator.randint(2**31)
    return np.random.SeedSequence(random_state).generate_state(n).tolist()


def check_surrogate(surrogate):
    """Raise `TypeError` if a surrogate would have to be fitted to the rows of one partition."""
    if surrogate is not None and not isinstance(surrogate, FrozenEstimator):
        raise TypeError(
            "For a dask collection a surrogate must be fitted already, so that all partitions meet "
            f"the same one: pass FrozenEstimator({name_of(surrogate)}(...).fit(sample, "
            "estimator.predict(sample)))."
        )


def check_collection_is_dense(partitions, who="An attack"):
    """Raise `TypeError` if dask knows the blocks of a collection to be sparse matrices."""
    meta = getattr(partitions.collection, "_meta", None)
    if sparse.issparse(meta):
        check_dense(meta, who)


def perturb_by_partition(copies_of, estimator, X, y, *, options, random_state):
    """Lazy adversarial copies of a dask collection, of its kind.

    Parameters
    ----------
    copies_of : callable
        `perturb`.
    estimator : object
    X : dask array or dask dataframe
    y : dask array, dask Series or array-like of shape (n_samples,)
    options : dict
        `epsilon`, `norm`, `bounds` and the other arguments of `perturb`, checked but for these.
    random_state : int, RandomState instance or None
    """
    partitions = partitions_of(X, y)
    check_collection_is_dense(partitions)
    options = options_for(partitions, options)
    like = like_copies(partitions.like, options["epsilon"])
    blocks = partitions.map(
        _copies,
        each={"random_state": seeds_of(random_state, len(partitions))},
        copies_of=copies_of,
        estimator=estimator,
        like=like,
        options=options,
    )
    return collection_of(blocks, like, partitions)


def options_for(partitions, options):
    """Options of an attack for all partitions: radius, norm and bounds as one checked set."""
    options = dict(options)
    radius, bounds = in_memory(options["epsilon"]), in_memory(options.pop("bounds", None))
    norm = options.pop("norm", np.inf)
    options["epsilon"] = as_perturbation_set(radius, norm, bounds, partitions.like)
    return options


def _copies(X, y, sample_weight, copies_of, estimator, like, random_state, options):
    if not X.shape[0]:
        return in_types_of(like, X)
    return in_types_of(like, copies_of(estimator, X, y, random_state=random_state, **options))


def like_copies(like, perturbations, *, is_double=False):
    """The dtypes of copies, the same in all partitions.

    In memory a column of integers becomes one of floats where a copy changes it. Here it does where
    the radius is positive or `bounds` limit it, since one partition does not know of the others.

    Parameters
    ----------
    like : ndarray or frame of shape (0, ...)
    perturbations : PerturbationSet
    is_double : bool, default=False
        Whether columns of a frame that may change become float64 in any case.
    """
    if not hasattr(like, "columns"):
        is_kept = like.dtype in (np.float32, np.float64) or like.dtype.kind not in "fiub"
        return like if is_kept else like.astype(np.float64)
    types = list(like.dtypes)
    is_single = not is_double and all(dtype == np.float32 for dtype in types)
    changes = _may_change(perturbations, len(types))
    like = like.copy()
    for j, dtype in enumerate(types):
        if changes[j] and _is_number(dtype):
            like.isetitem(j, like.iloc[:, j].astype(np.float32 if is_single else np.float64))
    return like


def _is_number(dtype):
    # Types of pandas, such as "Int64", have a kind as well.
    return getattr(dtype, "kind", "O") in "fiub"


def _may_change(perturbations, n_features):
    changes = perturbations.epsilon.expand(n_features).numpy() > 0
    low, high = perturbations.bounds or (-np.inf, np.inf)
    return changes | (np.asarray(low) > -np.inf) | (np.asarray(high) < np.inf)


def in_types_of(like, copies):
    """Copies of one partition in the dtypes of all."""
    if not hasattr(like, "columns"):
        return np.asarray(copies, dtype=like.dtype)
    changed = [j for j, dtype in enumerate(like.dtypes) if copies.dtypes.iloc[j] != dtype]
    if changed:
        copies = copies.copy()
    for j in changed:
        copies.isetitem(j, copies.iloc[:, j].astype(like.dtypes.iloc[j]))
    return copies
