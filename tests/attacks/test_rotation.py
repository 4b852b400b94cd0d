"""The rotation attack against its geometry."""

import numpy as np
import pytest

from sk_adv.attacks import fgsm, rotate_towards_gradient

NORMS = [np.inf, 2]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.3, np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])])
def test_rotation_stays_in_the_plane_of_sample_and_gradient_and_uses_the_radius(
    network, data, norm, epsilon, radius_used
):
    X, y = data
    copies = rotate_towards_gradient(network, X, y, epsilon, norm=norm)
    radii = np.broadcast_to(epsilon, 8)
    np.testing.assert_allclose(radius_used(X, copies, radii, norm), 1)
    np.testing.assert_allclose(np.linalg.norm(copies, axis=1), np.linalg.norm(X, axis=1))
    # One tiny FGSM step in the Euclidean norm is along the gradient on the free features.
    free = (radii > 0).astype(float)
    along = fgsm(network, X, y, 1e-3 * free, norm=2) - X
    for x, copy, gradient in zip(X, copies, along, strict=True):
        plane = np.stack([x * free, gradient], 1)
        shares, residual, *_ = np.linalg.lstsq(plane, (copy - x) * free, rcond=None)
        assert residual.sum() < 1e-18 and shares[1] > 0


def test_rotation_in_the_euclidean_norm_has_the_angle_of_the_chord(network, data):
    X, y = data
    copies = rotate_towards_gradient(network, X, y, 0.3)
    length = np.linalg.norm(X, axis=1)
    angle = np.arccos((X * copies).sum(1) / length**2)
    np.testing.assert_allclose(angle, 2 * np.arcsin(0.3 / (2 * length)), rtol=1e-9)


def test_rotation_leaves_what_has_no_direction(network, data, linear_module):
    X, y = data
    np.testing.assert_array_equal(rotate_towards_gradient(network, 0 * X, y, 0.3), 0 * X)
    constant = linear_module(np.zeros(8))
    np.testing.assert_array_equal(rotate_towards_gradient(constant, X, y % 2, 0.3), X)
