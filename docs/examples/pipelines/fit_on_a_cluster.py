"""
A fit on a cluster
==================

A table in partitions, a cluster of two processes, and the same model as in memory. This script is
not run when the documentation is built: save it and call it with Python. In the place of the
``LocalCluster``, ``Client("scheduler-address:8786")`` reaches a cluster of many machines.
"""

import dask
import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

from sk_adv import AdversarialLogisticRegression
from sk_adv.metrics import adversarial_accuracy_score

N_PARTITIONS, N_ROWS, N_FEATURES = 20, 100_000, 30

# %%
# Each partition is made, or would be read from a file, where it is needed. Ten features tell the
# labels, with noise.

WEIGHTS = np.where(np.arange(N_FEATURES) % 3 == 0, 0.5, 0.0)


def samples(seed):
    """The features of one partition."""
    return np.random.default_rng(seed).standard_normal((N_ROWS, N_FEATURES), dtype=np.float32)


def labels(X, seed):
    """Their labels."""
    noise = np.random.default_rng([seed, 1]).logistic(size=len(X))
    return np.where(X @ WEIGHTS + noise > 0, "yes", "no")


def table():
    """X and y as dask arrays."""
    blocks = [dask.delayed(samples)(seed) for seed in range(N_PARTITIONS)]
    X = [da.from_delayed(block, (N_ROWS, N_FEATURES), np.float32) for block in blocks]
    y = [
        da.from_delayed(dask.delayed(labels)(block, seed), (N_ROWS,), "<U3")
        for seed, block in enumerate(blocks)
    ]
    return da.concatenate(X), da.concatenate(y)


# %%
# The workers compute sums over their partitions; two million rows never meet in one place. The
# accuracy under the worst perturbation is counted by partition as well.

if __name__ == "__main__":
    X, y = table()
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster):
        model = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
        accuracy = adversarial_accuracy_score(model, X, y, epsilon=0.1)
        print(f"{np.count_nonzero(model.coef_)} of {N_FEATURES} features have a weight.")
        print(f"{accuracy:.1%} of {len(y):,} samples stay right under any change of 0.1.")

# sphinx_gallery_thumbnail_path = "_static/cluster.svg"
