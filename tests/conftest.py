"""Settings for all tests."""

import os

# Read by SciPy when it is imported: scikit-learn's check of array API inputs runs with it only.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import torch

# The problems here are small: waking a second thread costs more than it saves.
torch.set_num_threads(1)
