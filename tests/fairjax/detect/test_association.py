"""Association with the group, compared with SciPy and statsmodels, and the annotation of variables."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from holm_of_statsmodels import holm_of_statsmodels
from scipy import stats

from fairjax.detect import annotate, association, bias_by_feature, variables_of
from fairjax.detect import association as associate

N = 400


@pytest.fixture(scope="module")
def table():
    """Return a frame with numbers and categories, of which some depend on the group."""
    random = np.random.default_rng(0)
    a = random.random(N) < 0.4
    frame = pd.DataFrame({"age": random.normal(size=N) + 0.4 * a, "noise": random.normal(size=N)})
    frame["sex"] = a.astype(float)
    frame["flag"] = (random.random(N) < 0.3 + 0.2 * a).astype(float)
    job = np.where(a, random.choice(4, N, p=(0.4, 0.3, 0.2, 0.1)), random.choice(4, N, p=(0.1, 0.3, 0.3, 0.3)))
    dummies = pd.get_dummies(pd.Series(job, name="job"), prefix="job", prefix_sep="=").astype(float)
    return pd.concat([frame, dummies], axis=1), a, job


def standardised(frame):
    return ((frame - frame.mean()) / frame.std()).to_numpy(np.float32)


def crosstab(column, a):
    return pd.crosstab(np.asarray(a), np.asarray(column)).to_numpy()


def corrected_cramer(observed):
    """Compute Cramér's V with Bergsma's correction of its bias, from the uncorrected one."""
    n, (r, k) = observed.sum(), observed.shape
    uncorrected = stats.contingency.association(observed, method="cramer")
    square = max(0.0, uncorrected**2 * (min(r, k) - 1) - (r - 1) * (k - 1) / (n - 1))
    return np.sqrt(square / (min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1))


def test_numbers_have_the_point_biserial_correlation_of_scipy(table):
    frame, a, _ = table
    for x in (frame.to_numpy(), standardised(frame)):
        found = association(x, a, list(frame))
        for k, name in enumerate(("age", "noise")):
            expected = stats.pointbiserialr(a, frame[name])
            np.testing.assert_allclose(found.correlation[k], expected.statistic, rtol=1e-4)
            np.testing.assert_allclose(found.strength[k], abs(expected.statistic), rtol=1e-4)
            np.testing.assert_allclose(found.p[k], expected.pvalue, rtol=2e-3)
        assert found.test[:4] == ("t", "t", "chi-square", "chi-square")


def test_columns_of_two_values_have_phi_and_the_chi_square_test(table):
    frame, a, _ = table
    found = association(standardised(frame), a.astype(np.float32), list(frame))
    for k in range(2, 8):
        observed = crosstab(frame.iloc[:, k], a)
        expected = stats.chi2_contingency(observed, correction=False)
        np.testing.assert_allclose(found.p[k], expected.pvalue, rtol=1e-6)
        np.testing.assert_allclose(found.strength[k], np.sqrt(expected.statistic / N), rtol=1e-5)
        np.testing.assert_allclose(found.correlation[k], np.corrcoef(frame.iloc[:, k], a)[0, 1], rtol=1e-4)
    np.testing.assert_allclose(found.correlation[2], 1, rtol=1e-5)


def test_one_hot_variables_are_judged_whole(table):
    frame, a, job = table
    columns = variables_of(list(frame))
    observed = crosstab(job, a)
    for x in (frame, frame.drop(columns="job=0")):  # also if a category has no column
        found = association(standardised(x), a, list(x), columns[: x.shape[1]])
        assert found.variables == ("age", "noise", "sex", "flag", "job")
        np.testing.assert_allclose(found.p[4], stats.chi2_contingency(observed).pvalue, rtol=1e-6)
        np.testing.assert_allclose(found.strength[4], corrected_cramer(observed), rtol=1e-6)
    np.testing.assert_allclose(found.p_holm, holm_of_statsmodels(found.p), rtol=1e-12)


def test_rare_categories_are_pooled_and_small_tables_are_tested_exactly():
    random = np.random.default_rng(1)
    a, rare = random.random(N) < 0.5, random.choice(60, N)
    job = np.where(random.random(N) < 0.5, -1, rare)
    x = (job[:, None] == np.arange(-1, 60)).astype(float)
    found = association(x, a, columns=["job"] * 61)
    observed = crosstab(job >= 0, a)
    np.testing.assert_allclose(found.p, stats.chi2_contingency(observed, correction=False).pvalue, rtol=1e-9)
    assert found.strength[0] == corrected_cramer(observed)
    few = x[:, 1 + np.argmax(x[:, 1:].any(axis=0))]
    single = association(few[:, None], a)
    assert single.test == ("Fisher",)
    np.testing.assert_allclose(single.p, stats.fisher_exact(crosstab(few, a))[1], rtol=1e-9)


def test_cramers_v_of_many_independent_categories_is_small():
    random = np.random.default_rng(2)
    strengths = []
    for _ in range(40):
        job, a = random.choice(25, 1000), random.random(1000) < 0.4
        strengths.append(association(np.eye(25)[job], a, columns=["job"] * 25).strength[0])
    assert np.mean(strengths) < 0.05 < stats.contingency.association(crosstab(job, a), method="cramer")


def test_more_groups_have_an_analysis_of_variance(table):
    frame, _, job = table
    found = association(frame[["age", "noise", "sex"]].to_numpy(), job, num_groups=4)
    for k, name in enumerate(("age", "noise")):
        expected = stats.f_oneway(*(frame[name][job == group] for group in range(4)))
        np.testing.assert_allclose(found.p[k], expected.pvalue, rtol=1e-6)
    assert found.test == ("F", "F", "chi-square") and (found.correlation >= 0).all()
    np.testing.assert_allclose(found.p[2], stats.chi2_contingency(crosstab(frame["sex"], job)).pvalue, rtol=1e-6)


def test_columns_that_are_no_code_are_judged_by_their_strongest(table):
    frame, a, _ = table
    x = frame[["age", "noise", "flag"]].to_numpy()
    found, single = association(x, a, columns=("pay", "pay", "pay")), association(x, a)
    numbers = [stats.pointbiserialr(a, column).pvalue for column in x.T]
    assert found.test == ("least of columns",)
    assert found.strength[0] == single.strength.max()
    np.testing.assert_allclose(found.p, min(1, 3 * min(numbers)), rtol=1e-6)


def test_what_does_not_vary_has_no_association():
    a = np.arange(20) % 2
    found = association(np.column_stack([np.ones(20), a, a]), a, columns=("constant", "sex", "sex"))
    assert found.test == ("none", "least of columns")
    assert np.isnan([found.correlation[0], found.strength[0], found.p[0], found.p_holm[0]]).all()
    assert found.p_holm[1] < 1e-3
    one_hot = association(np.column_stack([np.zeros(20), a, 1 - a]), a, columns=["job"] * 3)  # an empty category
    assert one_hot.test == ("chi-square",)
    assert one_hot.strength[0] == pytest.approx(1.0)


def test_columns_belong_to_variables_by_their_names():
    names = ("age", "age is missing", "job=cook", "job=is=odd", "job is missing", "is missing", "=x", "sex")
    assert variables_of(names) == ("age", "age", "job", "job", "job", "is missing", "=x", "sex")
    with pytest.raises(TypeError, match="one name per column, found the string"):
        variables_of("age")


def test_what_is_no_table_with_groups_is_refused():
    x, a = np.ones((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"found shapes \(4, 2\) and \(3,\)"):
        associate(x, a[:3])
    with pytest.raises(ValueError, match="names must name each of the 2 columns of x, found 1"):
        associate(x, a, ["age"])
    with pytest.raises(ValueError, match="variable of each of the 2 columns of x, found 3 names"):
        associate(x, a, columns=["age"] * 3)
    with pytest.raises(ValueError, match="variable of each of the 2 columns of x, found 'ab'"):
        associate(x, a, columns="ab")
    with pytest.raises(ValueError, match="found none in group 0 of 2"):
        associate(x, np.ones(4))
    with pytest.raises(ValueError, match="column 'x2' of x has missing or infinite"):
        associate(np.array([[1, np.nan]] * 4), a)


@pytest.fixture(scope="module")
def explained(table):
    """Return the bias of a linear network, its associations, and the names."""
    frame, a, _ = table
    names, columns, x = list(frame), variables_of(list(frame)), standardised(frame)
    w = jnp.array([1.5, 2.0, 0.001, 0.0, 0.5, 0.5, 0.0, -0.5])

    def linear(variables, x, *, shifts=None, key=None):
        return x @ variables["w"], variables

    bias = bias_by_feature(linear, {"w": w}, (x, a), columns=columns, nodes=1)
    return bias, association(x, a, names, columns), names, columns


def test_variables_are_annotated_by_importance_and_association(explained):
    bias, found, names, columns = explained
    table = annotate(bias, found, "sex", names, columns).set_index("variable")
    assert list(table.index) == ["noise", "age", "job", "sex", "flag"]
    assert table.loc[table["fairness_sensitive"]].index.tolist() == ["age", "job", "sex"]
    assert table.loc[table["task_relevant"]].index.tolist() == ["noise"]
    assert table.loc["flag", ["associated", "important", "fairness_sensitive"]].tolist() == [True, False, False]
    assert not table.loc["sex", "important"]  # and sensitive all the same
    unnamed = annotate(bias, found, None, names, columns).set_index("variable")
    assert not unnamed.loc["sex", "fairness_sensitive"]
    tested = annotate(bias, found, "sex", names, columns, rule="test", level=found.p_holm[0] / 2)
    assert not tested.set_index("variable").loc["age", "associated"]
    strict = annotate(bias, found, "sex", names, columns, coverage=0.3).set_index("variable")
    assert strict["important"].sum() == 1


def test_variables_that_cannot_be_annotated_are_refused(explained):
    bias, found, names, columns = explained
    with pytest.raises(ValueError, match=r"same variables, found 8 \(.*\) and 5"):
        annotate(bias, found, "sex", names)
    with pytest.raises(ValueError, match="attribute must be one of the variables.*'gender'"):
        annotate(bias, found, "gender", names, columns)
    with pytest.raises(ValueError, match="rule must be strength or test"):
        annotate(bias, found, "sex", names, columns, rule="p")
    with pytest.raises(ValueError, match="coverage must be between 0 and 1, got 95"):
        annotate(bias, found, "sex", names, columns, coverage=95.0)
    unknown = bias._replace(importance_of_variables=bias.importance_of_variables * jnp.nan)
    with pytest.raises(ValueError, match="importance is NaN"):
        annotate(unknown, found, "sex", names, columns)
