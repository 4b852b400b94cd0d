"""Settings for all tests."""

import os

# SciPy reads this on import; scikit-learn checks array API inputs only if it is set.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import torch

# The problems in the tests are small: a second thread costs more than it saves.
torch.set_num_threads(1)
