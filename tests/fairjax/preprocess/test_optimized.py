"""Optimized pre-processing: its linear programme against other formulations and AIF360, and its draws."""

import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog
from tables import columns, dataset, made, one_split, raw_part

from fairjax.datasets.coarse import coarse_adult, coarse_compas
from fairjax.preprocess import OptimizedPreprocessing, distortion_adult, distortion_compas, prepare
from fairjax.preprocess.optimized import Programme, smallest_epsilon, solve
from fairjax.types import Batch, WeightedBatch

DATA = os.environ.get("FAIRJAX_DATA")


def new_key(seed=0):
    return jax.random.key(seed)


def toy(seed=0, groups=2, values=3):
    """A random programme with one feature and its distortion: one step per value, and labels that may only grow."""
    rng = np.random.default_rng(seed)
    cells = 2 * values
    joint = rng.random((groups, cells)) * (1 + np.arange(groups)[:, None] * (np.arange(cells) % 2))
    x, y = np.divmod(np.arange(cells), 2)
    distortion = np.abs(x[:, None] - x[None]) + 1.0 * (y[:, None] < y[None]) + 3.0 * (y[:, None] > y[None])
    return Programme(joint / joint.sum(), distortion, (0.99, 1.99, 2.99), (0.3, 0.1, 0.0), 2)


def by_loops(programme, epsilon):
    """The same programme with all entries as variables and every constraint written out, solved in its dual form."""
    groups, cells = programme.joint.shape
    size = groups * cells * cells

    def index(d, old, new):
        return (d * cells + old) * cells + new

    upper, bounds, equal = [], [], []
    for d, old in itertools.product(range(groups), range(cells)):
        row = np.zeros(size + cells)
        row[[index(d, old, new) for new in range(cells)]] = 1
        equal.append(row)
    of_cell = programme.joint.sum(axis=0)
    for old, (c, delta) in itertools.product(
        range(cells), zip(programme.thresholds, programme.probabilities, strict=True)
    ):
        row = np.zeros(size + cells)
        for d, new in itertools.product(range(groups), range(cells)):
            if programme.distortion[old, new] >= c:
                row[index(d, old, new)] = programme.joint[d, old] / of_cell[old]
        upper.append(row)
        bounds.append(delta)
    for d, e, label in itertools.product(range(groups), range(groups), range(2)):
        row = np.zeros(size + cells)
        for old, new in itertools.product(range(cells), range(label, cells, 2)):
            row[index(d, old, new)] += programme.joint[d, old] / programme.joint[d].sum()
            row[index(e, old, new)] -= programme.joint[e, old] / programme.joint[e].sum()
        upper.append(row)
        bounds.append(epsilon)
    for new, sign in itertools.product(range(cells), (1, -1)):
        row = np.zeros(size + cells)
        for d, old in itertools.product(range(groups), range(cells)):
            row[index(d, old, new)] = sign * programme.joint[d, old]
        row[size + new] = -1
        upper.append(row)
        bounds.append(sign * of_cell[new])
    cost = np.concatenate([np.zeros(size), np.full(cells, 0.5)])
    upper, bounds, equal = np.array(upper), np.array(bounds), np.array(equal)
    # min c x, U x <= b, E x = 1, x >= 0 has the dual max -b l + 1 m, -U'l + E'm <= c, l >= 0.
    dual = linprog(
        np.concatenate([bounds, -np.ones(len(equal))]),
        A_ub=np.hstack([-upper.T, equal.T]),
        b_ub=cost,
        bounds=[(0, None)] * len(upper) + [(None, None)] * len(equal),
        method="highs-ipm",
    )
    return -dual.fun if dual.status == 0 else None


def check_feasible(programme, solution, epsilon):
    np.testing.assert_allclose(solution.table.sum(axis=2), 1, atol=1e-7)
    assert (solution.table >= 0).all()
    assert np.ptp(solution.rates, axis=0).max() <= epsilon + 1e-7
    share = programme.joint / programme.joint.sum(axis=0)
    for c, delta in zip(programme.thresholds, programme.probabilities, strict=True):
        exceeded = (solution.table * (programme.distortion >= c)[None]).sum(axis=2)
        assert ((share * exceeded).sum(axis=0) <= delta + 1e-7).all()


@pytest.mark.parametrize(("seed", "groups", "epsilon"), [(0, 2, 0.05), (1, 2, 0.1), (2, 3, 0.1)])
def test_the_optimum_is_that_of_the_dual_programme(seed, groups, epsilon):
    programme = toy(seed, groups)
    solution = solve(programme, epsilon)
    check_feasible(programme, solution, epsilon)
    assert solution.objective > 0.001
    np.testing.assert_allclose(solution.objective, by_loops(programme, epsilon), atol=1e-7)


def test_the_optimum_is_that_of_a_grid():
    """With one value of the feature, the map is the probability to change each label in each group."""
    joint = np.array([[0.35, 0.05], [0.25, 0.35]])
    programme = Programme(joint, 1.0 - np.eye(2), (0.5,), (0.2,), 2)
    epsilon, grid = 0.3, np.linspace(0, 0.5, 51)
    up0, down0, up1, down1 = np.meshgrid(grid, grid, grid, grid, indexing="ij", sparse=True)
    after0, after1 = 0.35 * up0 + 0.05 * (1 - down0), 0.25 * up1 + 0.35 * (1 - down1)
    feasible = (np.abs(after0 / 0.4 - after1 / 0.6) <= epsilon + 1e-9) & (0.35 * up0 + 0.25 * up1 <= 0.12 + 1e-9)
    feasible &= 0.05 * down0 + 0.35 * down1 <= 0.08 + 1e-9
    best = np.where(feasible, np.abs(after0 + after1 - 0.4), np.inf).min()
    solution = solve(programme, epsilon)
    check_feasible(programme, solution, epsilon)
    assert solution.objective <= best + 1e-9 and best < 0.01


def test_infeasible_constraints_name_the_smallest_epsilon():
    programme = toy()._replace(probabilities=(0.01, 0.0, 0.0))
    least = smallest_epsilon(programme)
    assert by_loops(programme, least - 1e-3) is None
    with pytest.raises(ValueError, match=rf"infeasible: .* within epsilon=0.001 .* one is {least + 5e-5:.4f}"[:-1]):
        solve(programme, 0.001)
    check_feasible(programme, solve(programme, least + 1e-4), least + 1e-4)


def test_rows_are_drawn_from_the_map():
    split = one_split()
    train = raw_part(split, "train")
    preprocessor = made("optimized")
    prepared = preprocessor.apply(new_key(), train)
    fitted = prepared.fitted
    assert np.abs(np.diff(fitted.solution.rates[:, 1]))[0] <= 0.2 + 1e-7
    assert np.ptp([np.mean(np.asarray(train.y)[np.asarray(train.a) == g]) for g in (0, 1)]) > 0.21
    draws = [preprocessor.apply(new_key(seed), train).train for seed in range(1, 30)]
    means = np.mean([np.asarray(draw.y) for draw in draws], axis=0)
    codes = 2 * fitted.table.codes(np.asarray(train.x)) + np.asarray(train.y)
    table = fitted.solution.table[np.asarray(train.a).astype(int), codes]
    expected = table.reshape(len(codes), -1, 2).sum(axis=1)[:, 1]
    assert np.abs(means - expected).max() < 0.4 and abs(means.mean() - expected.mean()) < 0.02
    assert (np.asarray(draws[0].x)[:, 3:].sum(axis=1) == 1).all()
    np.testing.assert_array_equal(draws[0].a, train.a)
    weighted = WeightedBatch(*train, jnp.full(len(train.y), 2.0))
    same = preprocessor.apply(new_key(), weighted)
    np.testing.assert_allclose(same.fitted.solution.objective, fitted.solution.objective, atol=1e-9)
    np.testing.assert_array_equal(same.train.y, prepared.train.y)


def test_features_of_test_rows_are_mapped_with_the_group():
    split = one_split()
    preprocessor = made("optimized", test="mapped")
    assert preprocessor.needs_group_at_test and not made("optimized").needs_group_at_test
    prepared = prepare(preprocessor, new_key(), split)
    old, new = raw_part(split, "test"), raw_part(prepared, "test")
    assert not np.array_equal(old.x, new.x) and (np.asarray(new.x)[:, 3:].sum(axis=1) == 1).all()
    np.testing.assert_array_equal(old.y, new.y)
    fitted = preprocessor.apply(new_key(1), raw_part(split, "train")).fitted
    np.testing.assert_allclose(fitted.of_features.sum(axis=2), 1, atol=1e-6)
    unseen = jnp.full((2, 6), 99.0)
    np.testing.assert_array_equal(preprocessor.transform(new_key(2), fitted, unseen, jnp.array([True, False])), unseen)


def test_what_cannot_be_optimized_is_refused():
    x, y, a = columns()
    rows = Batch(jnp.asarray(x), jnp.asarray(y), jnp.asarray(a))
    with pytest.raises(TypeError, match="solves a linear programme on the host and cannot be traced"):
        jax.jit(OptimizedPreprocessing().apply)(new_key(), rows)
    with pytest.raises(ValueError, match="more than 40 combinations of values after the variable 'job'"):
        made("optimized", most_cells=40).apply(new_key(), rows)
    with pytest.raises(ValueError, match="there must be one probability per threshold, got 3 and 1"):
        OptimizedPreprocessing(thresholds=(1.0,))
    with pytest.raises(ValueError, match="thresholds must be positive"):
        OptimizedPreprocessing(thresholds=(0.0, 1.0, 2.0))
    with pytest.raises(ValueError, match="epsilon must be between 0 and 1, got 2.0"):
        OptimizedPreprocessing(epsilon=2.0)
    with pytest.raises(ValueError, match="distortion of .* must be 0, since nothing changes: found 1.0"):
        made("optimized", distortion=lambda old, new: 1.0).apply(new_key(), rows)
    with pytest.raises(ValueError, match="no row with y=1 and a=0"):
        made("optimized").apply(new_key(), rows._replace(y=rows.y & rows.a))
    assert dataset().features[3] == "job=cook"


def halves(data, folder, seed):
    if not DATA or not (Path(DATA) / folder).is_dir():
        pytest.skip(f"FAIRJAX_DATA has no {folder}")
    table = data()
    train = np.random.default_rng(seed).permutation(len(table.y))[: len(table.y) // 2]
    return table, Batch(table.x[train], table.y[train], table.a[train])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_compas_is_as_published(seed):
    """The first two halves need no change of the distribution, and the third one has no map."""
    table, rows = halves(coarse_compas, "compas", seed)
    assert table.x.shape == (5278, 9)
    preprocessor = OptimizedPreprocessing(distortion=distortion_compas).named(table)
    if seed < 2:
        assert preprocessor.fit(rows).solution.objective < 1e-7
    else:
        with pytest.raises(ValueError, match="infeasible: .*; the smallest feasible one is 0.05"):
            preprocessor.fit(rows)


@pytest.mark.slow
def test_adult_is_as_published():
    """The objective that AIF360 0.6.1 reaches with cvxpy 1.9.3 is 0.013421."""
    table, rows = halves(coarse_adult, "adult", 0)
    assert table.x.shape == (48842, 17)
    solution = OptimizedPreprocessing(distortion=distortion_adult).named(table).fit(rows).solution
    np.testing.assert_allclose(solution.objective, 0.013416, atol=1e-6)
    np.testing.assert_allclose(solution.rates[:, 1], [0.218, 0.268], atol=1e-3)


def test_distortions_are_those_of_aif360():
    theirs = pytest.importorskip("aif360.algorithms.preprocessing.optim_preproc_helpers.distortion_functions")
    ages, priors = ("Less than 25", "25 to 45", "Greater than 45"), ("0", "1 to 3", "More than 3")
    rng = np.random.default_rng(0)
    for _ in range(60):
        pair = [
            {"age_cat": rng.choice(ages), "priors_count": rng.choice(priors), "c_charge_degree": rng.choice(["F", "M"])}
            | {"sex": float(rng.integers(2)), "y": int(rng.integers(2))}
            for _ in range(2)
        ]
        named = [
            {name: value for name, value in cell.items() if name != "y"}
            | {"two_year_recid": ("No recid.", "Did recid.")[cell["y"]]}
            for cell in pair
        ]
        ours = [{**cell, "age_cat": cell["age_cat"].replace(" to ", " - ")} for cell in pair]
        assert distortion_compas(*ours) == theirs.get_distortion_compas(*named)
    years, decades = ("<6", "6", "7", "12", ">12"), ("10", "20", "60", ">=70")
    cells = [
        {"age": age, "education": year, "race": 1.0, "y": y}
        for age, year, y in itertools.product(decades, years, (0, 1))
    ]
    for old, new in itertools.product(cells, cells):
        named = [
            {"Age (decade)": cell["age"], "Education Years": cell["education"], "Income Binary": cell["y"]}
            for cell in (old, new)
        ]
        assert distortion_adult(old, new) == theirs.get_distortion_adult(*named)


@pytest.mark.filterwarnings("ignore")  # AIF360 uses what pandas has deprecated
def test_the_optimum_is_aif360s():
    pytest.importorskip("cvxpy")
    from aif360.algorithms.preprocessing.optim_preproc_helpers.opt_tools import OptTools

    rng = np.random.default_rng(0)
    a = rng.random(600) < 0.6
    x = rng.integers(0, 3, 600)
    y = rng.random(600) < 0.2 + 0.3 * a + 0.1 * x

    def distortion(old, new):
        return abs(old["x"] - new["x"]) + 1.0 * (old["y"] != new["y"])

    frame = pd.DataFrame({"d": a.astype(float), "x": x.astype(float), "y": y.astype(int)})
    tools = OptTools(df=frame)
    tools.set_features(D=["d"], X=["x"], Y=["y"])
    tools.set_distortion(distortion, clist=[0.99, 1.99, 2.99])
    tools.optimize(epsilon=0.1, dlist=[0.3, 0.1, 0], verbose=False)
    rows = Batch(jnp.asarray(x[:, None], jnp.float32), jnp.asarray(y), jnp.asarray(a))
    preprocessor = OptimizedPreprocessing(epsilon=0.1, probabilities=(0.3, 0.1, 0.0), features=("x",))
    ours = OptimizedPreprocessing(
        epsilon=0.1, probabilities=(0.3, 0.1, 0.0), features=("x",), distortion=distortion
    ).fit(rows)
    np.testing.assert_allclose(ours.solution.objective, tools.optimum, atol=1e-5)
    np.testing.assert_allclose(preprocessor.fit(rows).solution.objective, ours.solution.objective, atol=1e-9)
