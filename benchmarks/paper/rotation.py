"""A6: rotating a digit a little towards the gradient also fools a network. Section 4."""

import numpy as np
from _lab.networks import maxout
from _lab.rows import row

from sk_adv.metrics import adversarial_accuracy_score

ANGLES = (5, 10, 20, 30)


@row(
    "A6",
    "M1 on digits rotated about the origin towards the gradient, by the angle in degrees",
    paper="a small angle makes adversarial examples reliably",
    verdict=lambda ours: "agrees" if ours["20°"] > 0.5 else "differs",
)
def rotation(lab, seed):
    """The radius 2 ‖x‖ sin(θ/2) is that of the median length: θ is the median digit's angle."""
    model, X, y = maxout(lab, seed), lab.digits.X_test, lab.digits.y_test
    length = np.median(np.linalg.norm(X, axis=1))
    found = {"0°": float(1 - model.score(X, y))}
    for angle in ANGLES:
        radius = 2 * length * np.sin(np.deg2rad(angle) / 2)
        accuracy = adversarial_accuracy_score(
            model, X, y, epsilon=radius, attack="rotate_towards_gradient", norm=2
        )
        found[f"{angle}°"] = float(1 - accuracy)
    return found
