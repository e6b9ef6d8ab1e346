"""Classifiers for scikit-learn, and a scorer of bias.

`DebiasedClassifier` is debiased when it is fitted. `NetworkClassifier` is only trained, with any loss: it is the
estimator that the reductions of Fairlearn call.
"""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float

try:
    import sklearn.base  # noqa: F401  (first, so that the message comes before the other modules need it)
    from sklearn.utils import check_consistent_length
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "fairjax.adapters.sklearn needs scikit-learn 1.6 or newer, which cannot be imported "
        f'({error}): pip install "fairjax[sklearn]"'
    ) from error

from fairjax import checks, data
from fairjax.adapters._sklearn_base import NetworkEstimator
from fairjax.adapters._sklearn_bias import bias, bias_scorer, resolve_measure
from fairjax.adapters._sklearn_classifier import NetworkClassifier
from fairjax.adapters._sklearn_fitting import Problem, fit_best, logits_of
from fairjax.arguments import check_method
from fairjax.data import Dataset
from fairjax.hyperparameters import check_at_least
from fairjax.methods import METHODS, Method
from fairjax.metrics.groups import Groups
from fairjax.metrics.levels import columns_of
from fairjax.nn import Mlp, from_linen
from fairjax.selection import RULES, Rule

__all__ = ["DebiasingWarning", "DebiasedClassifier", "NetworkClassifier", "bias", "bias_scorer"]

SMALLEST_MARGIN = 1e-9
"""Distance from 0 of decision values of rows whose score is at the threshold in single precision."""


CHANCE = 1e-4
"""Relative distance from 1 / classes below which a balanced accuracy is that of decisions without information."""


class DebiasingWarning(UserWarning):
    """The selected network does not meet the bound on validation data, or makes the same decision about all rows."""


class DebiasedClassifier(NetworkEstimator):
    """Multilayer perceptron that is trained and then debiased by a method of fairjax.

    `fit` keeps a part of the rows for validation, trains a network on the others with early stopping, and debiases it:
    the method proposes candidates, and the rule selects one of them, with its threshold, on the validation part.
    The sensitive features are needed for fitting only; they are no features of the network unless they are columns of
    `X`. Features must be numbers; `fit` standardises them, and `predict` uses the same means and deviations.

    For two classes, decision values are logits moved by the threshold, and `predict_proba` computes probabilities from
    them: the positive class is predicted if its probability exceeds 0.5, so whatever uses the probabilities makes the
    debiased decisions. `result_.scores(X)` has the network's own scores.

    `fit` requests `sensitive_features` by default, so that with metadata routing a pipeline or a search passes them on.

    Attributes:
        classes_: the labels, sorted.
        positive_: the positive label of two; None if there are more.
        groups_: names of the groups, the privileged one last.
        result_: the `fairjax.Debiased` of the selected network, with the evaluations of all candidates. Its test part
            is empty, and what it says of it is NaN: test data are those that `fit` is not given.
        threshold_: the positive class is predicted if its score, from `result_`, exceeds this; NaN for more than two
            classes.
        bias_: the measure's value that the rule bounds: on validation data, or on train and validation data for the
            rule "pooled".
        satisfied_: whether |bias_| is below the rule's bound. If not, `fit` warns; it also warns if the bound is met
            only by the same decision about all rows.
        seed_: number of the selected seed, less than `n_seeds`.
        n_iter_: epochs for which the selected network was trained.
        n_features_in_: number of features.
        feature_names_in_: names of the features, if `X` was a frame whose columns have strings as names.

    Example:
        >>> from fairjax import Training
        >>> rng = np.random.default_rng(0)
        >>> sex, X = rng.choice(["f", "m"], 600), rng.normal(size=(600, 3))
        >>> X[:, 1] += 2 * (sex == "m")
        >>> y = np.where(X[:, 0] + (sex == "m") > 0.5, "hired", "rejected")
        >>> model = DebiasedClassifier(epsilon=0.15, positive="hired", training=Training(epochs=20), random_state=0)
        >>> decisions = model.fit(X, y, sensitive_features=sex).predict(X)
        >>> model.satisfied_, model.groups_.tolist(), decisions.shape
        (True, ['f', 'm'], (600,))
    """

    # The default request of `fit`, which `set_fit_request` overrides.
    __metadata_request__fit = {"sensitive_features": True}

    # Any value is stored, as scikit-learn demands, and `fit` checks it.
    def __init__(
        self,
        method: Any = "pruning",
        measure: Any = "spd",
        *,
        epsilon: Any = 0.05,
        rule: Any = "objective",
        widths: Any = (32, 32),
        dropout: Any = 0.05,
        training: Any = None,
        n_seeds: Any = 1,
        valid_size: Any = 0.25,
        privileged: Any = None,
        positive: Any = None,
        minimum: Any = 2,
        small: Any = "raise",
        groups_from: Any = None,
        random_state: Any = None,
    ):
        """Store the parameters, which `fit` validates.

        Args:
            method: the debiasing method, a name in `fairjax.METHODS` or an instance such as `fairjax.BiasGda()`.
            measure: the measure of bias, a name in `fairjax.MEASURES` or a measure.
            epsilon: the bound on |bias|.
            rule: name in `fairjax.RULES` of the rule that selects a candidate. "objective", Eq. 3 of the first paper,
                keeps a margin of a fifth of epsilon to the bound.
            widths: numbers of units of the hidden layers.
            dropout: probability with which a unit is dropped in training.
            training: hyperparameters of training; `fairjax.Training(epochs=200)` if omitted.
            n_seeds: number of networks, each trained and debiased on a split of its own, all in one program. The one
                that meets the bound and has the highest score by the rule is kept: balanced accuracy on its
                validation part for "objective".
            valid_size: share of the rows for validation; every group and label gets its share.
            privileged: value of the privileged group, which determines the sign of the bias of two groups; a mapping
                from columns to values if there are several columns. By default, the greatest value.
            positive: the positive label of two, such as that of a loan that is repaid: measures such as "eod" depend on
                it. By default, the greater one.
            minimum: least number of rows of a group.
            small: treatment of groups with fewer rows: "raise" an error, "pool" them into one group, "leave out" of
                comparisons, or "keep".
            groups_from: how to find the groups if `fit` gets no `sensitive_features`: a column of `X` by number or
                name, a list of columns, or a function of `X`, which gets a frame if `fit` got one and an array
                otherwise. Columns of `X` remain features.
            random_state: seed of splits, initialisation, order of rows and dropout; an integer makes results
                reproducible.
        """
        self.method = method
        self.measure = measure
        self.epsilon = epsilon
        self.rule = rule
        self.widths = widths
        self.dropout = dropout
        self.training = training
        self.n_seeds = n_seeds
        self.valid_size = valid_size
        self.privileged = privileged
        self.positive = positive
        self.minimum = minimum
        self.small = small
        self.groups_from = groups_from
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None) -> "DebiasedClassifier":
        """Train a network and debias it.

        Args:
            X: features (n, features), numbers without missing values.
            y: labels (n,) of two or more values of any type.
            sensitive_features: the sensitive attribute of each row: a column of values, or several columns as a frame,
                mapping or array (n, attributes), whose intersections are the groups. Needed unless `groups_from` is
                set, over which it takes precedence.
            sample_weight: weights (n,), not negative; 1 if omitted. Rows of weight 0 are left out.

        Returns:
            The fitted classifier.

        Raises:
            ValueError: if a parameter or the data are invalid, there are no sensitive features, pandas indices differ,
                a group is too small, a part lacks a label or group on which the measure depends, or the method does
                not take as many groups or classes.
            TypeError: if method or measure have the wrong type, or `X` is sparse.
        """
        method, rule, training = self._method(), self._rule(), self._training()
        table = self._dataset(X, y, sensitive_features, sample_weight)
        measure = resolve_measure(self.measure, _groups_of(table), table.num_classes)
        for most, count, kind in (
            (method.groups, table.num_groups, "groups"),
            (method.classes, table.num_classes, "classes"),
        ):
            if count > most:
                raise ValueError(
                    f"{type(method).__name__} takes {most} {kind}, found {count}: choose another method, such as "
                    "pruning"
                )
        outputs = 1 if table.num_classes == 2 else table.num_classes
        network = from_linen(Mlp(widths=tuple(self.widths), dropout=self.dropout, outputs=outputs))
        problem = Problem(network, measure, method, rule, training, table, self.valid_size)
        best = fit_best(problem, self._key(), self.n_seeds)

        self.groups_ = np.asarray(table.group_names, dtype=object)
        self.result_ = best.result
        self.threshold_ = float(best.result.threshold)
        self.bias_ = best.bias
        self.satisfied_ = bool(best.result.satisfied)
        self.seed_ = best.seed
        self.n_iter_ = best.epochs
        self._warn(best.accuracy)
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "n *c"]:
        """Compute logits, moved by the threshold.

        Args:
            X: features (n, features), as in `fit`.

        Returns:
            For two classes (n,), the logit of `classes_[1]` less that of the threshold: above 0, it is predicted. For
            more, the logit of each class (n, classes), of which the largest decides.

        Raises:
            ValueError: if features are missing, too large, or of another number or other names than in `fit`.
            NotFittedError: if the classifier is not fitted.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        result = self.result_
        logits = logits_of(result.network, result.variables, result.mean, result.scale, X)
        if len(self.classes_) > 2:
            return logits
        # `result_.decide` compares scores with the threshold in single precision, and ties are no positive decisions.
        is_positive = np.asarray(jax.nn.sigmoid(logits.astype(np.float32))) > np.float32(self.threshold_)
        threshold = np.clip(self.threshold_, 1e-30, 1 - 1e-16)
        margin = logits - np.log(threshold / (1 - threshold))
        margin = np.where(is_positive, np.maximum(margin, SMALLEST_MARGIN), np.minimum(margin, -SMALLEST_MARGIN))
        return margin if self.positive_ == self.classes_[1] else -margin

    def _warn(self, accuracy: float) -> None:
        """Warn if the bound is not met, or is met by the same decision about all rows."""
        way = "try another method, a larger epsilon, more seeds or wider layers"
        if not self.satisfied_:
            line = next(line for line in str(self.result_).splitlines() if line.startswith("|bias| <"))
            warnings.warn(f"{line}; {way}", DebiasingWarning, stacklevel=3)
        elif abs(accuracy * len(self.classes_) - 1.0) < CHANCE:
            warnings.warn(
                f"the selected network is not better than the same decision about all rows, balanced accuracy "
                f"{accuracy:.3f} on validation data, which has no bias: {way}",
                DebiasingWarning,
                stacklevel=3,
            )

    def _method(self) -> Method:
        """Return the method, and check the other parameters that need no data."""
        check_at_least("n_seeds", self.n_seeds, 1)
        if not 0 < self.valid_size < 1:
            raise ValueError(f"valid_size must be a share of the rows between 0 and 1, got {self.valid_size}")
        if isinstance(self.method, str):
            METHODS.check("method", self.method)
            return METHODS[self.method]()
        check_method(self.method)
        return self.method

    def _rule(self) -> Rule:
        RULES.check("rule", self.rule)
        kind: Callable[..., Rule] = RULES[self.rule]
        margin = {"margin": 0.2 * self.epsilon} if "margin" in getattr(kind, "__dataclass_fields__", ()) else {}
        return kind(epsilon=self.epsilon, **margin)

    def _dataset(self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any) -> Dataset:
        """Check the data, and leave out rows of weight 0."""
        checks.check_index(X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight)
        rows = self._checked(X, y, sample_weight)
        columns = columns_of(self._sensitive(X, rows.X, sensitive_features), "group")
        check_consistent_length(rows.X, *columns.values())
        groups = data.groups(
            {name: column[rows.keep] for name, column in columns.items()},
            minimum=self.minimum,
            small=self.small,
            reference=self.privileged,
        )
        codes, classes = rows.codes, self.classes_.tolist()
        self.positive_ = self._positive()
        if len(classes) == 2 and self.positive_ == self.classes_[0]:
            codes, classes = 1 - codes, classes[::-1]
        options: dict[str, Any] = {"features": self._feature_names(), "classes": range(len(classes))}
        table = data.from_arrays(rows.X[rows.keep], codes, groups, weights=rows.weights, **options)
        return table._replace(classes=tuple(map(str, classes)))

    def _positive(self) -> Any:
        """Return the positive label of two, or None if there are more."""
        if self.positive is None:
            return self.classes_[1] if len(self.classes_) == 2 else None
        if len(self.classes_) > 2 or self.positive not in self.classes_:
            raise ValueError(
                f"positive must be one of two labels, got {self.positive!r} for the labels "
                f"{', '.join(map(str, self.classes_))}"
            )
        return self.positive

    def _sensitive(self, given: Any, X: np.ndarray, sensitive_features: Any) -> Any:
        """Return the sensitive columns: those given to `fit`, or those that follow from the features."""
        if sensitive_features is not None:
            return sensitive_features
        if self.groups_from is None:
            raise ValueError(
                "DebiasedClassifier needs the sensitive attribute of each row: pass fit(X, y, sensitive_features=...), "
                "or set groups_from= to a column of X or a function of X"
            )
        if callable(self.groups_from):
            return self.groups_from(given if isinstance(given, pd.DataFrame) else X)
        wanted = [self.groups_from] if isinstance(self.groups_from, str | int | np.integer) else self.groups_from
        return {str(column): X[:, self._position(column, X.shape[1])] for column in wanted}

    def _position(self, column: Any, count: int) -> int:
        """Return the position of a column that is given by number or by name."""
        names = list(getattr(self, "feature_names_in_", ()))
        if isinstance(column, str) and column in names:
            return names.index(column)
        if isinstance(column, int | np.integer) and -count <= column < count:
            return int(column)
        listed = f"named {', '.join(map(str, names))}" if names else "without names"
        raise ValueError(f"groups_from: X has no column {column!r}, it has {count} columns {listed}")


def _groups_of(table: Dataset) -> Groups:
    assert table.groups is not None  # `data.from_arrays` got named groups
    return table.groups
