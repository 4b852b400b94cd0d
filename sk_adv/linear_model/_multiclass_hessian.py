"""The Hessian of the bound of several classes in the Euclidean norm."""

from dataclasses import dataclass

import torch

from sk_adv.linear_model._multiclass_pairs import centre, laplacian, sum_by_pair


@dataclass
class RowSketch:
    """The samples that a Hessian is made of: all, or a random part with larger weights.

    Attributes
    ----------
    X : StandardisedDesign of shape (n_rows, n_features)
        In single precision, if the data is large.
    y : torch.Tensor of shape (n_rows,)
    weight : torch.Tensor of shape (n_rows,)
        Their sum is 1.
    rows : torch.Tensor of shape (n_rows,) or slice
        Positions of these samples in the data.
    """

    X: object
    y: torch.Tensor
    weight: torch.Tensor
    rows: object

    def hessian(self, point):
        """The Hessian at a `MulticlassPoint`."""
        return MulticlassHessian(point, self, point.samples.adversarial, point.samples.clean)

    def add(self, before, after):
        """Take account of a step; there is no need to, with all samples or many."""


class MulticlassHessian:
    """The Hessian at a `MulticlassPoint`, from the samples of a `RowSketch`; never formed.

    `adversarial` and `clean` are the probabilities of all samples there.
    """

    def __init__(self, point, sketch, adversarial, clean):
        self.point, self.sketch = point, sketch
        problem = point.problem
        weight = sketch.weight[:, None]
        self.parts = [
            (share * weight, probability[sketch.rows])
            for share, probability in (
                (1 - problem.rows.alpha, adversarial),
                (problem.rows.alpha, clean),
            )
        ]

    def product(self, step):
        """The Hessian times a step."""
        point, problem = self.point, self.point.problem
        coef, intercept = step[:, :-1], step[:, -1]
        changes = point.penalties.changes(coef)
        gradient, balance, mass = self._of_samples(coef, intercept, changes)
        result = gradient + problem.ridge * coef
        result += point.penalties.gradient(mass)
        result += point.penalties.curvature_product(point.mass, coef, changes)
        return problem.with_intercept(result, balance)

    def _of_samples(self, coef, intercept, changes):
        """Changes of the sums over samples: the gradient in W and in b, and the mass."""
        sketch = self.sketch
        logits = sketch.X.logits(coef) + intercept
        bounded = softmax_change(*self.parts[0], logits + changes[sketch.y])
        residual = bounded
        if self.point.problem.rows.alpha > 0:
            residual = bounded + softmax_change(*self.parts[1], logits)
        return sketch.X.gradient(residual.T), residual.sum(0), sum_by_pair(bounded, sketch.y)

    def preconditioner(self):
        """A function that multiplies with an approximate inverse: one block for each feature."""
        point, problem = self.point, self.point.problem
        n_classes = problem.n_classes
        mean = point.coef.new_zeros(n_classes, n_classes)
        for weight, probability in self.parts:
            weighted = weight * probability
            mean += torch.diag(weighted.sum(0)) - weighted.T @ probability
        identity = torch.eye(n_classes, dtype=mean.dtype, device=mean.device)
        # Features that are always 0, and a change that is the same for all classes, have no
        # curvature of their own.
        floor = 1e-2 * (mean.diagonal().max() + 1e-300)
        stiff = laplacian(point.mass / point.penalties.root)
        blocks = problem.rows.mean_square[:, None, None] * mean + floor * identity
        blocks += problem.epsilon[:, None, None] ** 2 * stiff
        blocks += problem.ridge[:, None, None] * identity
        features = torch.linalg.inv(blocks)
        offset = torch.linalg.inv(mean + floor * identity)

        def apply(step):
            coef = torch.einsum("jkl,lj->kj", features, step[:, :-1])
            return problem.with_intercept(centre(coef), centre(offset @ step[:, -1]))

        return apply


def softmax_change(weight, probability, change):
    """Weighted change of a softmax for a change of its logits."""
    return weight * probability * (change - (probability * change).sum(1, keepdim=True))
