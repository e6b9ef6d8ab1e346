"""A scikit-learn classifier that trains a network with any composed loss, `NetworkClassifier`."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

from fairjax import checks, data
from fairjax.adapters._sklearn_base import NetworkEstimator
from fairjax.adapters._sklearn_fitting import logits_of, split_of_rows
from fairjax.fitting import fit
from fairjax.losses import Loss
from fairjax.metrics.levels import columns_of
from fairjax.nn import Mlp, Network, from_linen, linear_classifier
from fairjax.types import Split


class NetworkClassifier(NetworkEstimator):
    """Multilayer perceptron, or logistic regression, trained with any loss of fairjax.

    It takes sample weights, so the reductions of Fairlearn, which train a classifier many times with other labels and
    weights, can use it: `ExponentiatedGradient(NetworkClassifier(...), DemographicParity())`. `fairjax.reductions`
    makes the same trainings for many multipliers and seeds at once. Features must be numbers; `fit` standardises them,
    and `predict` uses the same means and deviations.

    Attributes:
        classes_: the labels, sorted.
        groups_: names of the groups; None if the loss needs no groups.
        network_: the `fairjax.Network`.
        variables_: its variables.
        mean_, scale_: mean and standard deviation of each feature over the train rows.
        loss_: the loss on validation rows at the end of training.
        n_iter_: epochs of training.
        n_features_in_: number of features.
        feature_names_in_: names of the features, if `X` was a frame whose columns have strings as names.

    Example:
        >>> import warnings
        >>> from fairlearn.reductions import DemographicParity, GridSearch
        >>> from fairjax import Training
        >>> rng = np.random.default_rng(0)
        >>> sex, X = rng.choice(["f", "m"], 300), rng.normal(size=(300, 2))
        >>> y = (X[:, 0] + 1.5 * (sex == "m") > 0.75).astype(int)
        >>> X[:, 1] += 2 * (sex == "m")
        >>> training = Training(epochs=60, learning_rate=0.2, plateau_patience=60, batch_size=300)
        >>> model = NetworkClassifier(widths=(), valid_size=0, training=training, random_state=0)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # about what pandas 4 will change for Fairlearn
        ...     search = GridSearch(model, DemographicParity(), grid_size=5).fit(X, y, sensitive_features=sex)
        >>> gaps = [decisions[sex == "m"].mean() - decisions[sex == "f"].mean() for decisions in (y, search.predict(X))]
        >>> bool(gaps[0] > 0.4), bool(abs(gaps[1]) < 0.2)
        (True, True)

    References:
        Agarwal, Beygelzimer, Dudik, Langford and Wallach (2018), A Reductions Approach to Fair Classification, ICML.
    """

    # The default request of `fit`, which `set_fit_request` overrides.
    __metadata_request__fit = {"sensitive_features": True}

    # Any value is stored, as scikit-learn demands, and `fit` checks it.
    def __init__(
        self,
        widths: Any = (32, 32),
        *,
        dropout: Any = 0.05,
        loss: Any = None,
        training: Any = None,
        valid_size: Any = 0.25,
        random_state: Any = None,
    ):
        """Store the parameters, which `fit` validates.

        Args:
            widths: numbers of units of the hidden layers; none, `()`, for logistic regression.
            dropout: probability with which a unit is dropped in training.
            loss: a `fairjax.losses.Loss`; the cross-entropy if omitted.
            training: hyperparameters of training; `fairjax.Training(epochs=200)` if omitted.
            valid_size: share of the rows for validation, whose loss determines the learning rate and the end of
                training; every label and group gets its share. With 0, all rows are train rows, and their own loss
                takes its place.
            random_state: seed of the split, initialisation, order of rows and dropout; an integer makes results
                reproducible.
        """
        self.widths = widths
        self.dropout = dropout
        self.loss = loss
        self.training = training
        self.valid_size = valid_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, sensitive_features: Any = None) -> "NetworkClassifier":
        """Train the network.

        Args:
            X: features (n, features), numbers without missing values.
            y: labels (n,) of two or more values of any type.
            sample_weight: weights (n,), not negative; 1 if omitted. Rows of weight 0 are left out.
            sensitive_features: the sensitive attribute of each row: a column of values, or several columns as a frame,
                mapping or array (n, attributes), whose intersections are the groups. Needed if a term of the loss
                depends on groups, and ignored otherwise.

        Returns:
            The fitted classifier.

        Raises:
            ValueError: if a parameter or the data are invalid, the loss needs groups and there are no sensitive
                features, or training diverged.
            TypeError: if loss or training have the wrong type, or `X` is sparse.
        """
        training, loss = self._training(), self._loss()
        key, network_key = jax.random.split(self._key())
        split = self._split(X, y, sample_weight, sensitive_features, loss, key)
        self.network_ = self._network()
        fitted = fit(self.network_, split, key=network_key, training=training, loss=loss)
        if not np.isfinite(fitted.loss):
            raise ValueError(
                "training diverged, since the validation loss was never finite: lower the learning rate, such as "
                f"training=Training(learning_rate={float(np.ravel(training.learning_rate)[0]) / 10:g})"
            )
        self.variables_, self.mean_, self.scale_ = fitted.variables, split.mean, split.scale
        self.loss_, self.n_iter_ = float(fitted.loss), int(fitted.epochs)
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "n *c"]:
        """Compute logits.

        Args:
            X: features (n, features), as in `fit`.

        Returns:
            For two classes (n,), the logit of `classes_[1]`: above 0, it is predicted. For more, the logit of each
            class (n, classes), of which the largest decides.

        Raises:
            ValueError: if features are missing, too large, or of another number or other names than in `fit`.
            NotFittedError: if the classifier is not fitted.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return logits_of(self.network_, self.variables_, self.mean_, self.scale_, X)

    def _loss(self) -> Loss:
        """Return the loss."""
        if self.loss is None:
            return Loss()
        if not isinstance(self.loss, Loss):
            raise TypeError(
                f"loss must be a fairjax.losses.Loss or None, got {type(self.loss).__name__}: pass Loss(terms=(...,))"
            )
        return self.loss

    def _network(self) -> Network:
        outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
        widths = tuple(self.widths)
        if not widths:
            return linear_classifier(outputs)
        return from_linen(Mlp(widths=widths, dropout=self.dropout, outputs=outputs))

    def _split(self, X: Any, y: Any, sample_weight: Any, sensitive_features: Any, loss: Loss, key: Any) -> Split:
        """Check the data and divide them into train and validation rows."""
        if not 0 <= self.valid_size < 1:
            raise ValueError(f"valid_size must be a share of the rows, at least 0 and below 1, got {self.valid_size}")
        needed = any(term.needs_group for term in loss.terms)
        if needed and sensitive_features is None:
            raise ValueError(
                "a term of the loss depends on groups, so the sensitive attribute of each row is needed: pass "
                "fit(X, y, sensitive_features=...)"
            )
        if needed:
            # scikit-learn goes by position whatever the indices are, and so do Fairlearn's reductions
            checks.check_index(X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight)
        rows = self._checked(X, y, sample_weight)
        self.groups_, a, num_groups = None, np.zeros(rows.codes.shape, bool), 2
        if needed:
            columns = columns_of(sensitive_features, "group")
            check_consistent_length(rows.X, *columns.values())
            groups = data.groups({name: column[rows.keep] for name, column in columns.items()})
            self.groups_, a, num_groups = np.asarray(groups.names, dtype=object), groups.a, len(groups)
        table = data.from_arrays(
            rows.X[rows.keep],
            rows.codes,
            np.arange(len(rows.codes)) % 2,  # a table has two groups, which are replaced below
            features=self._feature_names(),
            classes=range(len(self.classes_)),
            weights=rows.weights,
        )
        counts: dict[str, Any] = {"num_groups": num_groups, "num_classes": len(self.classes_)}
        return split_of_rows((table.x, table.y, a, table.weights), key, float(self.valid_size), **counts)
