"""A6: rotating a digit a little towards the gradient also fools a network. Section 4."""

import numpy as np
import torch
from _lab.models import plain_maxout
from _lab.rows import row

from sk_adv import as_module
from sk_adv.attacks import rotate_towards_gradient

ANGLES = (5, 10, 20, 30)


@row(
    "A6",
    "M1's error on digits rotated about the origin by an angle, towards the gradient",
    paper="a small angle makes adversarial examples reliably",
    verdict=lambda ours: (
        "agrees: 10 degrees fool M1 on most digits, in a random direction on few"
        if ours["10°"] > 0.5 and ours["10°, random direction"] < 0.1
        else "differs"
    ),
)
def rotation(lab, seed):
    """Each digit by the same angle, in the plane of itself and a direction; its length stays."""
    model, X, y = plain_maxout(lab, seed), lab.digits.X_test.astype(np.float64), lab.digits.y_test
    module = as_module(model, device="cpu", dtype=torch.float64)
    # With no limit on the radius the gradient's direction is reached: a right angle.
    far = 2 * np.linalg.norm(X, axis=1).max()
    towards_gradient = rotate_towards_gradient(module, X, y, far, norm=2)
    noise = np.random.default_rng(seed).normal(size=X.shape)
    directions = {
        "": _quarter_turn(X, towards_gradient),
        ", random direction": _quarter_turn(X, noise),
    }
    found = {"0°": float(1 - model.score(X, y))}
    for angle in np.deg2rad(ANGLES):
        for suffix, quarter in directions.items():
            rotated = np.cos(angle) * X + np.sin(angle) * quarter
            found[f"{np.rad2deg(angle):.0f}°{suffix}"] = float(1 - model.score(rotated, y))
    return found


def _quarter_turn(X, direction):
    """Each digit rotated by a right angle towards its direction."""
    along = (direction * X).sum(1, keepdims=True) / (X**2).sum(1, keepdims=True) * X
    quarter = direction - along
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (X, quarter)]
    return quarter * (lengths[0] / lengths[1])
