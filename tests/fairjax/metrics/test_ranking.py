"""The area under the ROC curve, compared with scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from fairjax.metrics.ranking import area_under_curve

area = jax.jit(area_under_curve)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=30, max_size=30))
def test_the_area_under_the_curve_is_that_of_scikit_learn_with_ties(rows):
    values, y = np.array([value for value, _ in rows], np.float32), np.array([label for _, label in rows])
    expected = roc_auc_score(y, values) if 0 < y.sum() < len(y) else np.nan
    np.testing.assert_allclose(area(values, y), expected, atol=1e-6)


def test_an_area_that_is_not_defined_is_nan_or_refused():
    assert np.isnan(area(jnp.array([1.0, jnp.nan]), jnp.array([0, 1])))
    assert np.isnan(area(jnp.array([1.0, 2.0]), jnp.array([0, 2])))
    assert np.isnan(area_under_curve(jnp.zeros(0), jnp.zeros(0, bool)))
    with pytest.raises(ValueError, match=r"vectors of one length, found shapes \(2,\) and \(3,\)"):
        area_under_curve(jnp.ones(2), jnp.ones(3, bool))
    with pytest.raises(ValueError, match="y must hold 0 and 1 only"):
        area_under_curve(jnp.ones(2), jnp.array([0, 2]))
