"""Facts that follow from the classes of training data, in memory or in partitions."""

from functools import cached_property

import torch


class ClassFacts:
    """A mixin for training sets with `solved`, `shares` and `class_sums`."""

    @property
    def is_binary(self):
        return len(self.solved) == 2

    @property
    def is_constant(self):
        """Whether a single class has weight, so that an intercept alone explains it."""
        return len(self.solved) == 1

    @property
    def class_means(self):
        """The weighted means of the solved classes, (n_solved, n_features)."""
        return self.class_sums / self.shares[:, None]

    @cached_property
    def gaps_of_means(self):
        """Differences of the class means, for each two classes: (n_pairs, n_features)."""
        means = self.class_means
        return torch.cat([means[k] - means[:k] for k in range(1, len(means))])
