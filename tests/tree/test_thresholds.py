import numpy as np
import pytest

from sk_adv.tree._thresholds import as_compared_in_float32, last_true


@pytest.mark.parametrize("strictly", [False, True])
def test_thresholds_of_the_cast_to_float32_are_those_that_bisection_finds(strictly):
    rng = np.random.default_rng(0)
    float32 = np.finfo(np.float32)
    single = rng.standard_normal(200).astype(np.float32)
    special = np.array([0.0, 1.0, float32.max, float32.tiny, float32.smallest_subnormal, np.inf])
    half_way = (single.astype(float) + np.nextafter(single, np.float32(np.inf))) / 2
    thresholds = np.concatenate(
        [
            special,
            special / 3,
            [1e39, 1e300, 1e-46, 1e-310],
            single,
            half_way,
            np.nextafter(half_way, np.inf),
            rng.standard_normal(200) * 10.0 ** rng.uniform(-46, 39, 200),
        ]
    )
    thresholds = np.concatenate([thresholds, -thresholds])

    def goes_left(x):
        with np.errstate(over="ignore"):
            cast = x.astype(np.float32)
        return cast < thresholds if strictly else cast <= thresholds

    expected = last_true(goes_left, thresholds.shape)
    np.testing.assert_array_equal(as_compared_in_float32(thresholds, strictly=strictly), expected)


def test_shape_of_thresholds_is_kept():
    assert as_compared_in_float32(np.zeros((2, 3))).shape == (2, 3)
    assert as_compared_in_float32(np.zeros(0)).shape == (0,)
