"""Settings for all tests."""

import os

# SciPy reads this on import; scikit-learn checks array API inputs only if it is set.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pandas as pd
import pytest
import torch

# The problems in the tests are small: a second thread costs more than it saves.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trips():
    """Numbers, a category that is text and one that is a number, and three classes."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "port": rng.choice(["C", "Q", "S"], 90),
            "age": rng.normal(size=90),
            "deck": rng.integers(0, 3, 90),
            "fare": rng.normal(size=90),
        },
        index=np.arange(90)[::-1],
    )
    score = X["age"] - X["fare"] + (X["port"] == "Q") + 0.5 * X["deck"] + rng.normal(size=90) / 2
    return X, np.array(["low", "mid", "top"])[np.digitize(score, score.quantile([0.33, 0.67]))]
