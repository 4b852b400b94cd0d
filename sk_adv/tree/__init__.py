"""Tree models as sums of decision trees over raw inputs, and their exact worst cases."""

from sk_adv.tree import _boosting as _boosting
from sk_adv.tree import _ensembles as _ensembles
from sk_adv.tree._as_trees import as_trees
from sk_adv.tree._tree_sum import TreeSum

__all__ = ["TreeSum", "as_trees"]
