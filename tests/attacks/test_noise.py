"""Noise against its documented distribution."""

import numpy as np
import pytest

from sk_adv.attacks import sign_noise, uniform_noise

NORMS = [np.inf, 2]


@pytest.mark.parametrize("norm", NORMS)
def test_uniform_noise_fills_the_set_and_has_no_direction(network, norm, radius_used):
    epsilon = np.array([0.5, 2.0, 0.0, *[1.0] * 5])
    X = np.ones((20_000, 8))
    noise = uniform_noise(network, X, np.zeros(len(X), int), epsilon, norm=norm) - 1
    used = radius_used(X, X + noise, epsilon, norm)
    # In d dimensions, the share of the unit ball's volume within radius r is r^d.
    counts, _ = np.histogram(used**7, bins=10, range=(0, 1))
    assert abs(counts - 2000).max() < 5 * np.sqrt(20_000 * 0.1 * 0.9)
    deviation = noise.std(0)
    assert (abs(noise.mean(0)) <= 5 * deviation / np.sqrt(len(X))).all()


@pytest.mark.parametrize("norm", NORMS)
def test_sign_noise_has_the_full_radius_and_even_signs(network, norm, radius_used):
    epsilon = np.array([0.5, 2.0, 0.0, *[1.0] * 5])
    X = np.ones((20_000, 8))
    noise = sign_noise(network, X, np.zeros(len(X), int), epsilon, norm=norm) - 1
    np.testing.assert_allclose(radius_used(X, X + noise, epsilon, norm), 1)
    expected = epsilon if norm == np.inf else epsilon / np.sqrt(7)
    np.testing.assert_allclose(abs(noise), np.broadcast_to(expected, X.shape))
    positive = (noise[:, epsilon > 0] > 0).mean(0)
    assert (abs(positive - 0.5) < 5 * 0.5 / np.sqrt(len(X))).all()


@pytest.mark.parametrize("noise", [uniform_noise, sign_noise])
def test_noise_is_reproducible_and_bounded(network, data, noise):
    copies = [
        noise(network, *data, 0.3, bounds=(-0.5, 0.5), random_state=seed) for seed in (0, 0, 1)
    ]
    assert np.array_equal(copies[0], copies[1])
    assert not np.array_equal(copies[0], copies[2])
    assert abs(copies[0]).max() <= 0.5
