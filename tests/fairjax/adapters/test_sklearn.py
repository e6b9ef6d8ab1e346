"""The scikit-learn classifier: scikit-learn's own checks and tools, fairjax and Fairlearn as oracles, and bad input."""

import importlib
import pickle
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import sklearn
from fairlearn.metrics import MetricFrame, demographic_parity_difference, selection_rate, true_positive_rate
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import fairjax
from fairjax import BiasGda, ConstrainedObjective, Mlp, Pruning, Standard, Training, data, from_linen, spd
from fairjax.adapters import _sklearn_fitting
from fairjax.adapters.sklearn import DebiasedClassifier, DebiasingWarning, bias, bias_scorer

ROWS = 400
QUICK = Training(epochs=20, check_every=5, learning_rate=0.01)
SMALL = {"widths": (16,), "training": QUICK, "random_state": 0}
"""Parameters of all small classifiers, so that few programs are compiled."""

EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": (
        "A row of weight 2 is in one part and one mini-batch, while two equal rows may be in different ones, so splits "
        "and steps differ. Rows of weight 0 are left out, but those that remain are too few for two parts."
    ),
}
"""The checks of scikit-learn that fail, each with the reason."""

OF_A_METHOD = (
    *("check_fit_idempotent", "check_methods_sample_order_invariance", "check_methods_subset_invariance"),
    *("check_estimators_pickle", "check_dict_unchanged", "check_classifiers_train", "check_decision_proba_consistency"),
    "check_non_transformer_estimators_n_iter",
)
"""The checks that depend on the method, which also a method with random keys and gradient steps has to pass.

The others are about the data and the parameters, which no method sees before they are checked.
"""

SKIPPED = {"check_array_api_input": "SCIPY_ARRAY_API is not set"}
"""The checks that scikit-learn skips unless an environment variable is set, each with its message."""


def every_second(X):
    """Put rows into two groups by the parity of the rank of their sum, which no label depends on."""
    rank = np.argsort(np.argsort(np.asarray(X, float).sum(axis=1), kind="stable"), kind="stable")
    return np.where(rank % 2, "b", "a")


def people(seed, rows=ROWS):
    """Draw people whose labels depend on their skill and, unfairly, on their sex, which two features show."""
    rng = np.random.default_rng(seed)
    sex, city, skill = rng.choice(["f", "m"], rows), rng.choice(["A", "B", "C"], rows), rng.normal(size=rows)
    income = 1.5 * (sex == "m") + rng.normal(scale=0.7, size=rows)
    hired = skill + 1.2 * (sex == "m") + rng.normal(scale=0.3, size=rows) > 0.6
    frame = pd.DataFrame({"skill": skill, "income": income, "city": city, "sex": sex}, index=np.arange(rows) + 7)
    return frame, pd.Series(np.where(hired, "hired", "rejected"), index=frame.index)


TRAIN, TEST = people(0), people(1)


def numbers(frame):
    return frame[["skill", "income"]]


@pytest.fixture(scope="module")
def fitted():
    """Return a classifier that is debiased by pruning."""
    frame, y = TRAIN
    model = DebiasedClassifier(**SMALL, positive="hired", privileged="m", epsilon=0.1)
    return model.fit(numbers(frame), y, sensitive_features=frame["sex"])


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::fairjax.adapters.sklearn.DebiasingWarning", "ignore::sklearn.exceptions.SkipTestWarning"
)
def test_the_checks_of_scikit_learn_pass_but_for_those_named():
    """Two methods in one test, since they share the programs of training, one for each of twenty shapes of data."""
    training = Training(epochs=40, check_every=40, learning_rate=0.03)
    settings = {"widths": (8,), "dropout": 0.0, "training": training, "random_state": 0}
    settings |= {"epsilon": 0.5, "groups_from": every_second}
    with jax.debug_key_reuse(False):  # other tests check it, and it would double the time
        options = {"expected_failed_checks": EXPECTED_TO_FAIL, "on_fail": None, "on_skip": None}
        results = check_estimator(DebiasedClassifier("pruning", **settings), **options)
        status = {result["check_name"]: result["status"] for result in results if result["status"] != "passed"}
        found = [(result["check_name"], result["exception"]) for result in results if result["status"] == "failed"]
        assert status == {**dict.fromkeys(EXPECTED_TO_FAIL, "xfail"), **dict.fromkeys(SKIPPED, "skipped")}, found
        messages = {result["check_name"]: str(result["exception"]) for result in results}
        assert all(message in messages[name] for name, message in SKIPPED.items())
        assert len(results) > 50
        left = set(OF_A_METHOD)
        for estimator, check in estimator_checks_generator(DebiasedClassifier(BiasGda(epochs=1), **settings)):
            if check.func.__name__ in OF_A_METHOD:
                check(estimator)
                left.discard(check.func.__name__)
        assert not left


def test_the_bias_falls_below_the_bound_and_accuracy_stays(fitted):
    before, after = (fitted.result_.trace.valid.bias[k] for k in (0, fitted.result_.selected))
    assert fitted.satisfied_ and abs(fitted.bias_) < 0.08 and after == pytest.approx(fitted.bias_)
    assert before < -0.3  # women are hired less
    frame, y = TEST
    decisions = fitted.predict(numbers(frame))
    found = bias(y, decisions, sensitive_features=frame["sex"], privileged="m", positive="hired")
    assert abs(found) < 0.15 < 0.35 < -bias(y, y, sensitive_features=frame["sex"], privileged="m", positive="hired")
    assert fitted.score(numbers(frame), y) == accuracy_score(y, decisions) > 0.65


def test_bias_is_that_of_fairlearn(fitted):
    frame, y = TEST
    decisions, sex, groups = fitted.predict(numbers(frame)), frame["sex"], frame[["sex", "city"]]
    for columns in (sex, groups):
        hired, is_hired = y == "hired", decisions == "hired"
        expected = demographic_parity_difference(hired, is_hired, sensitive_features=columns)
        found = bias(y, decisions, sensitive_features=columns, positive="hired")
        assert abs(found) == pytest.approx(expected, abs=1e-6)
        rates = MetricFrame(
            metrics={"selection": selection_rate, "tpr": true_positive_rate},
            **{"y_true": hired, "y_pred": is_hired, "sensitive_features": columns},
        )
        found = bias(y, decisions, sensitive_features=columns, measure="eod", positive="hired")
        assert abs(found) == pytest.approx(rates.difference()["tpr"], abs=1e-6)
    weights = np.random.default_rng(2).uniform(size=len(y))
    rates = MetricFrame(
        metrics=selection_rate,
        **{"y_true": hired, "y_pred": is_hired, "sensitive_features": sex},
        sample_params={"sample_weight": weights},
    )
    found = bias(y, decisions, sensitive_features=sex, sample_weight=weights, privileged="m", positive="hired")
    assert found == pytest.approx(rates.by_group["f"] - rates.by_group["m"], abs=1e-6)


def split_by_hand(seed, positive="hired"):
    """Split the rows for a seed as `fitted` does."""
    frame, y = TRAIN
    key = jax.random.key(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    split_key, *keys = jax.random.split(jax.random.fold_in(key, seed), 3)
    table = numbers(frame).to_numpy(np.float32), (y == positive).to_numpy(), (frame["sex"] == "m").to_numpy()
    split = data.split(split_key, *table, train=0.75, valid=0.125, stratify="group and label")
    return split._replace(valid=jnp.concatenate([split.valid, split.test]), test=split.test[:0]), keys


def by_hand(seed):
    """Train and debias the network of a seed with functions of fairjax, as `fitted` does."""
    split, (fit_key, debias_key) = split_by_hand(seed)
    network, rule = from_linen(Mlp(widths=(16,))), ConstrainedObjective(epsilon=0.1, margin=0.02)
    trained = fairjax.fit(network, split, key=fit_key, training=QUICK)
    return trained, fairjax.debias(Pruning(), network, spd, trained.variables, split, key=debias_key, rule=rule)


def test_the_result_is_that_of_fit_and_debias_by_hand(fitted):
    trained, result = by_hand(0)
    assert fitted.threshold_ == pytest.approx(result.threshold.item()) and fitted.n_iter_ == trained.epochs
    assert fitted.result_.selected == result.selected > 0
    test = numbers(TEST[0])
    np.testing.assert_array_equal(fitted.predict(test) == "hired", result.decide(test.to_numpy()))
    np.testing.assert_allclose(fitted.result_.scores(test.to_numpy()), result.scores(test.to_numpy()), atol=1e-5)


def test_validation_rows_are_a_stratified_part_that_training_does_not_see():
    frame, y = TRAIN
    table = data.from_arrays(numbers(frame), (y == "hired").astype(int), (frame["sex"] == "m").astype(int))
    table = table._replace(groups=data.groups(frame["sex"]))
    keys = _sklearn_fitting.keys_of_seeds(jax.random.key(3), 2)[0]
    splits = _sklearn_fitting.splits_of(table, spd, keys, 0.25)
    assert splits.train.shape == (2, 300) and splits.valid.shape == (2, 100) and splits.test.shape == (2, 0)
    for k in range(2):
        train, valid = np.asarray(splits.train[k]), np.asarray(splits.valid[k])
        np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(ROWS))
        np.testing.assert_allclose(splits.mean[k], table.x[train].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(splits.scale[k], table.x[train].std(axis=0), atol=1e-6)
        for label in (False, True):
            for group in (False, True):
                rows = (table.y == label) & (table.a == group)
                assert rows[valid].sum() == pytest.approx(rows.sum() / 4, abs=1)
    assert not np.array_equal(splits.train[0], splits.train[1])


def test_probabilities_agree_with_decisions_and_order_rows_as_the_scores_do(fitted):
    x = numbers(TEST[0])
    scores, probabilities, decision = (
        fitted.result_.scores(x.to_numpy()),
        fitted.predict_proba(x),
        fitted.decision_function(x),
    )
    assert fitted.classes_.tolist() == ["hired", "rejected"] and fitted.positive_ == "hired"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_array_equal(fitted.classes_[probabilities.argmax(axis=1)], fitted.predict(x))
    np.testing.assert_array_equal(fitted.classes_[(decision > 0).astype(int)], fitted.predict(x))
    assert (np.diff(probabilities[np.argsort(scores), 0]) >= 0).all()
    odds = np.asarray(scores, float) / (1 - np.asarray(scores, float)) * (1 - fitted.threshold_) / fitted.threshold_
    np.testing.assert_allclose(probabilities[:, 0], odds / (1 + odds), atol=1e-5)


def test_fits_repeat_and_copies_predict_the_same(fitted):
    frame, y = TRAIN
    test = numbers(TEST[0])
    expected = fitted.predict_proba(test)
    copies = [pickle.loads(pickle.dumps(fitted)), clone(fitted).fit(numbers(frame), y, sensitive_features=frame["sex"])]
    for copy in copies:
        np.testing.assert_array_equal(copy.predict_proba(test), expected)
    assert copies[0].result_.network == fitted.result_.network  # so that no program is compiled again
    assert clone(fitted).get_params() == fitted.get_params() and fitted.get_params()["training"] == QUICK
    other = (
        clone(fitted).set_params(random_state=1, epsilon=0.2).fit(numbers(frame), y, sensitive_features=frame["sex"])
    )
    assert not np.array_equal(other.predict_proba(test), expected)


def test_programs_are_compiled_once_per_shape(fitted):
    frame, y = TRAIN
    before = fairjax.fitting._fit._cache_size(), fairjax.debiasing._debias._cache_size()
    model = clone(fitted).set_params(epsilon=0.2, random_state=5)
    model.fit(numbers(frame), y, sensitive_features=frame["sex"])
    assert (fairjax.fitting._fit._cache_size(), fairjax.debiasing._debias._cache_size()) == before


def test_several_seeds_are_trained_and_the_best_is_kept(fitted):
    frame, y = TRAIN
    model = clone(fitted).set_params(n_seeds=3).fit(numbers(frame), y, sensitive_features=frame["sex"])
    results = [by_hand(seed)[1] for seed in range(3)]
    scores = [
        (bool(result.satisfied), float(result.trace.valid.balanced_accuracy[result.selected])) for result in results
    ]
    assert model.seed_ == scores.index(max(scores)) and len(set(scores)) == 3
    best = results[model.seed_]
    assert model.satisfied_ == best.satisfied and model.threshold_ == pytest.approx(best.threshold.item())
    assert model.bias_ == pytest.approx(best.trace.valid.bias[best.selected].item(), abs=1e-5)
    x = numbers(TEST[0]).to_numpy()
    np.testing.assert_allclose(model.result_.scores(x), best.scores(x), atol=1e-4)


def test_a_seed_that_meets_the_bound_comes_before_a_more_accurate_one(fitted):
    results = [by_hand(seed) for seed in (0, 1)]
    trained, result = jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
    rule = ConstrainedObjective(epsilon=0.1, margin=0.02)
    accuracy = result.trace.valid.balanced_accuracy
    for best in (0, 1):
        changed = jnp.where(jnp.arange(2)[:, None] == best, 0.6, 0.9) + 0 * accuracy
        valid = result.trace.valid._replace(balanced_accuracy=changed)
        one = result.__class__(**{**vars(result), "trace": result.trace._replace(valid=valid)})
        satisfied = jnp.arange(2) == best
        one = one.__class__(**{**vars(one), "satisfied": satisfied})
        assert _sklearn_fitting._best(rule, trained, one).seed == best


def test_a_pipeline_encodes_categories_and_a_search_compares_methods_and_bounds():
    frame, y = TRAIN
    encoder = make_column_transformer((OneHotEncoder(), ["city"]), ("passthrough", ["skill", "income"]))
    grid = {
        "debiasedclassifier__epsilon": [0.15, 0.9],
        "debiasedclassifier__method": ["pruning", Standard()],
    }
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", DebiasingWarning)
        pipeline = make_pipeline(encoder, DebiasedClassifier(**SMALL))
        scoring = {"accuracy": "accuracy", "bias": bias_scorer(positive="hired")}
        search = GridSearchCV(pipeline, grid, scoring=scoring, refit=most_accurate_of_little_bias, cv=2)
        search.set_params(error_score="raise").fit(frame, y, sensitive_features=frame["sex"])
    table = pd.DataFrame(search.cv_results_)
    pruned = table["param_debiasedclassifier__method"] == "pruning"
    within = table["param_debiasedclassifier__epsilon"] == 0.15
    assert table[pruned & within]["mean_test_bias"].item() > -0.2  # scores are -|bias|
    assert (table[~(pruned & within)]["mean_test_bias"] < -0.2).all()
    assert search.best_params_ == {"debiasedclassifier__epsilon": 0.15, "debiasedclassifier__method": "pruning"}
    assert search.best_estimator_[-1].n_features_in_ == 5 and search.best_estimator_[-1].satisfied_
    decisions = search.predict(TEST[0])
    assert abs(bias(TEST[1], decisions, sensitive_features=TEST[0]["sex"])) < 0.2
    assert accuracy_score(TEST[1], decisions) > 0.6


def most_accurate_of_little_bias(results):
    """Return the number of the most accurate candidate among those whose bias is below 0.2."""
    return int(np.argmax(np.where(results["mean_test_bias"] > -0.2, results["mean_test_accuracy"], 0)))


def test_a_pipeline_takes_sensitive_features_without_routing(fitted):
    frame, y = TRAIN
    pipeline = make_pipeline("passthrough", clone(fitted))
    pipeline.fit(numbers(frame), y, debiasedclassifier__sensitive_features=frame["sex"])
    np.testing.assert_array_equal(pipeline.predict(numbers(TEST[0])), fitted.predict(numbers(TEST[0])))


def test_groups_may_follow_from_the_features(fitted):
    frame, y = TRAIN
    x = numbers(frame).assign(male=(frame["sex"] == "m").astype(float))
    kwargs = {**SMALL, "method": "standard", "epsilon": 0.9}
    expected = DebiasedClassifier(**kwargs).fit(x, y, sensitive_features=x["male"])
    for way in ("male", 2, -1, ["male"], lambda table: table["male"] > 0.5):
        model = DebiasedClassifier(**kwargs, groups_from=way).fit(x, y)
        np.testing.assert_array_equal(model.predict_proba(x), expected.predict_proba(x))
    assert model.groups_.tolist() == ["False", "True"] and model.feature_names_in_.tolist()[-1] == "male"


@pytest.mark.parametrize("positive", ("hired", "rejected"))
def test_measures_are_those_of_the_positive_label(positive):
    frame, y = TRAIN
    model = DebiasedClassifier("standard", "eod", **SMALL, positive=positive, epsilon=2.0, privileged="m")
    model.fit(numbers(frame), y, sensitive_features=frame["sex"])
    assert model.positive_ == positive and model.score(numbers(frame), y) > 0.8
    valid = np.asarray(split_by_hand(0, positive)[0].valid)
    valid = valid[y.to_numpy()[valid] == positive]
    rates = (model.predict(numbers(frame)) == positive)[valid], frame["sex"].to_numpy()[valid]
    assert model.bias_ == pytest.approx(rates[0][rates[1] == "f"].mean() - rates[0][rates[1] == "m"].mean(), abs=1e-6)


def test_any_number_of_labels_and_groups():
    frame, _ = TRAIN
    level = pd.cut(frame["skill"] + 0.8 * (frame["sex"] == "m"), [-9, -0.2, 0.8, 9], labels=["low", "mid", "top"])
    y = level.astype(str)
    model = DebiasedClassifier("standard", **SMALL, epsilon=0.9, minimum=50)
    model.fit(numbers(frame), y, sensitive_features=frame[["sex", "city"]])
    assert model.classes_.tolist() == ["low", "mid", "top"] and model.positive_ is None
    assert model.groups_.tolist() == ["f, A", "f, B", "f, C", "m, A", "m, B", "m, C"]
    assert model.decision_function(numbers(frame)).shape == model.predict_proba(numbers(frame)).shape == (ROWS, 3)
    assert np.isnan(model.threshold_) and model.score(numbers(frame), y) > 0.7
    decisions = model.predict(numbers(frame))
    found = bias(y, decisions, sensitive_features=frame[["sex", "city"]])
    rates = [
        pd.Series(decisions == name).groupby([frame["sex"].to_numpy(), frame["city"].to_numpy()]).mean()
        for name in model.classes_
    ]
    with pytest.raises(ValueError, match="ConstrainedThreshold takes 2 classes, found 3: choose another method"):
        model.set_params(method="threshold").fit(numbers(frame), y, sensitive_features=frame["sex"])
    assert found == pytest.approx(max(rate.max() - rate.min() for rate in rates), abs=1e-6)


def test_small_groups_are_pooled_on_request(fitted):
    frame, y = TRAIN
    rare = frame["sex"].where(np.arange(ROWS) >= 3, "x").where(np.arange(ROWS) >= 2, "z")
    with pytest.raises(ValueError, match="groups must have at least 2 rows, found fewer in 'x' .1.: pool them"):
        clone(fitted).fit(numbers(frame), y, sensitive_features=rare)
    model = DebiasedClassifier("standard", **SMALL, epsilon=0.9, minimum=3, small="leave out")
    model.fit(numbers(frame), y, sensitive_features=rare.replace("z", "x").where(np.arange(ROWS) != 2, "f"))
    assert model.groups_.tolist() == ["f", "m", "x"]


def test_rows_of_weight_0_count_as_absent_and_weights_count(fitted):
    frame, y = TRAIN
    x, sex = numbers(frame), frame["sex"]
    extra, noise = pd.concat([x, 100 + x[:50]], ignore_index=True), y[:50].where(y[:50] == "", "other")
    labels, groups = pd.concat([y, noise], ignore_index=True), pd.concat([sex, sex[:50]], ignore_index=True)
    weights = np.repeat([3.0, 0.0], [ROWS, 50])
    model = clone(fitted).fit(extra, labels, sensitive_features=groups, sample_weight=weights)
    assert model.classes_.tolist() == ["hired", "rejected"]
    np.testing.assert_array_equal(model.predict_proba(x), fitted.predict_proba(x))
    uneven = clone(fitted).fit(x, y, sensitive_features=sex, sample_weight=np.where(y == "hired", 9.0, 1.0))
    assert not np.array_equal(uneven.predict_proba(x), fitted.predict_proba(x))


def refused(error, match, change=(), x=None, y=None, **arguments):
    frame, labels = TRAIN
    arguments = {"sensitive_features": frame["sex"], **arguments}
    model = DebiasedClassifier(**{**SMALL, **dict(change)})
    with pytest.raises(error, match=match):
        model.fit(numbers(frame) if x is None else x, labels if y is None else y, **arguments)


def test_bad_data_are_refused():
    frame, y = TRAIN
    refused(ValueError, r"pass fit\(X, y, sensitive_features=...\)", sensitive_features=None)
    refused(ValueError, "inconsistent numbers of samples", sensitive_features=frame["sex"].to_numpy()[1:])
    refused(
        ValueError, "the index of sensitive_features differs", sensitive_features=frame["sex"].set_axis(range(ROWS))
    )
    refused(ValueError, "fewer than two groups can be compared", sensitive_features=["f"] * ROWS)
    refused(ValueError, "missing value of 'sex' in row 0", sensitive_features=frame["sex"].where(frame.index > 7))
    refused(ValueError, "could not convert string to float", x=frame)
    refused(ValueError, "contains NaN", x=numbers(frame).assign(income=frame["income"].where(frame.index > 7)))
    refused(ValueError, "found one class, 'a'", y=["a"] * ROWS)
    refused(ValueError, "Unknown label type: continuous", y=frame["skill"].to_numpy(), x=numbers(frame).to_numpy())
    refused(
        ValueError,
        "[Ss]ample weights must contain at least one non-zero|weights are zero",
        sample_weight=np.zeros(ROWS),
    )
    refused(ValueError, "egative", sample_weight=np.full(ROWS, -1.0))
    rare = np.where(np.arange(ROWS) < 1, "never", y)
    refused(ValueError, "the valid part .100 rows. has no row with label never, of which there are 1", y=rare)
    few = {"x": numbers(frame)[:4], "y": ["a", "b", "a", "b"], "sensitive_features": ["f", "f", "m", "m"]}
    refused(ValueError, "at least 2 rows each, found 3 and 1 of 4 samples", **few)


def test_bad_parameters_are_refused():
    refused(ValueError, "method: there is no method named 'prunning': did you mean pruning", {"method": "prunning"})
    refused(TypeError, r"pass an instance, Pruning\(\)", {"method": Pruning})
    refused(ValueError, "no measure named 'sdp'", {"measure": "sdp"})
    refused(ValueError, "no rule named 'best'", {"rule": "best"})
    refused(ValueError, "epsilon, the bound on |bias|, must be positive", {"epsilon": 0.0})
    refused(ValueError, "n_seeds must be at least 1", {"n_seeds": 0})
    refused(ValueError, "valid_size must be a share of the rows between 0 and 1, got 1.5", {"valid_size": 1.5})
    refused(TypeError, r"pass an instance, Training\(epochs=100\)", {"training": Training})
    refused(ValueError, "positive must be one of two labels, got 'yes'", {"positive": "yes"})
    refused(ValueError, "the reference 'x' is not among the values", {"privileged": "x"})
    refused(ValueError, "X has no column 'sex', it has 2", {"groups_from": "sex"}, sensitive_features=None)
    refused(ValueError, "widths must be 1 to 100", {"widths": ()})


def test_bad_rows_are_refused_at_prediction(fitted):
    x = numbers(TEST[0])
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(x[["income", "skill"]])
    with pytest.raises(ValueError, match="finite in single precision, found 1e.300 in row 2, column 1"):
        fitted.predict(x.assign(income=x["income"].where(np.arange(ROWS) != 2, 1e300)))


def test_what_is_not_met_is_said(fitted):
    frame, y = TRAIN
    with pytest.warns(DebiasingWarning, match="validation data: not met, since the smallest |bias| .* another method"):
        model = DebiasedClassifier("standard", **SMALL).fit(numbers(frame), y, sensitive_features=frame["sex"])
    assert not model.satisfied_ and abs(model.bias_) > 0.3
    with pytest.warns(DebiasingWarning, match="not better than the same decision about all rows"):
        model = DebiasedClassifier(**SMALL).fit(numbers(frame)[["income"]], y, sensitive_features=frame["sex"])


def test_a_bias_that_is_unknown_is_no_parity():
    groups = ["f", "f", "m", "m"]
    assert np.isnan(bias([0, 0, 1, 1], [0, 1, 1, 1], sensitive_features=groups, measure="eod"))
    assert bias([1, 1, 1, 1], [1, 1, 1, 1], sensitive_features=groups, positive=1) == 0
    for labels, options, match in (
        ([1, 1, 1, 1], {}, "all labels are .*1.*: pass positive="),
        ([0, 1, 1, 1], {"positive": "yes"}, "positive must be one of the labels"),
        ([0, 1, 2, 1], {"positive": 1}, "found 3 labels: omit it"),
        ([0, 1, 1], {}, "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=match):
            bias(labels, labels, sensitive_features=groups, **options)
    with pytest.raises(ValueError, match="fewer than two groups"):
        bias([0, 1], [0, 1], sensitive_features=["f", "f"])


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "fairjax.adapters.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r'scikit-learn 1.6 or newer.*pip install "fairjax\[sklearn\]"'):
        importlib.import_module("fairjax.adapters.sklearn")
