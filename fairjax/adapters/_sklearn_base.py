"""What the classifiers for scikit-learn have in common: checks of parameters and data, and predictions from logits."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from fairjax.training import Training
from fairjax.types import KeyArray


class CheckedData(NamedTuple):
    """Checked rows, and which of them are kept: those of weight 0 are left out."""

    X: Float[np.ndarray, "n d"]
    codes: Int[np.ndarray, " kept"]
    """Positions of the labels in `classes_`, of the rows that are kept."""
    weights: Float[np.ndarray, " kept"] | None
    """Weights of the rows that are kept; None if all are equal."""
    keep: Bool[np.ndarray, " n"]


class NetworkEstimator(ClassifierMixin, BaseEstimator):
    """Base of the classifiers, whose parameters include `training` and `random_state`."""

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels.

        Args:
            X: features (n, features), as in `fit`.

        Returns:
            The predicted labels (n,).

        Raises:
            ValueError: as `decision_function`.
            NotFittedError: if the classifier is not fitted.
        """
        decision = self.decision_function(X)  # type: ignore[attr-defined]
        return self.classes_[decision.argmax(axis=1) if decision.ndim == 2 else (decision > 0).astype(int)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n c"]:
        """Compute the probabilities of the classes from the decision values.

        Args:
            X: features (n, features), as in `fit`.

        Returns:
            The probability of each class of `classes_`, (n, classes); the predicted class has the largest.

        Raises:
            ValueError: as `decision_function`.
            NotFittedError: if the classifier is not fitted.
        """
        decision = self.decision_function(X)  # type: ignore[attr-defined]
        if decision.ndim == 1:
            decision = np.stack([np.zeros_like(decision), decision], axis=1)
        powers = np.exp(decision - decision.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def _training(self) -> Training:
        """Return the hyperparameters of training."""
        training: Any = self.training  # type: ignore[attr-defined]
        if training is None:
            return Training(epochs=200)
        if not isinstance(training, Training):
            raise TypeError(
                f"training must be a fairjax.Training or None, got {type(training).__name__}: pass an instance, "
                "Training(epochs=100)"
            )
        return training

    def _key(self) -> KeyArray:
        """Draw the random key of a fit."""
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)  # type: ignore[attr-defined]
        return jax.random.key(seed)

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> CheckedData:
        """Check the data, leave out rows of weight 0, and find the classes."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        weights = None
        keep = np.ones(len(y), bool)
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            keep = weights > 0
            if not keep.any():
                raise ValueError("all sample weights are zero: at least two classes need rows of positive weight")
            weights = None if (weights[keep] == weights[keep][0]).all() else weights[keep]
        self.classes_ = np.unique(y[keep])
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs labels of at least two classes, found one class, "
                f"{self.classes_.tolist()[0]!r}"
            )
        return CheckedData(X, np.searchsorted(self.classes_, y[keep]), weights, keep)

    def _feature_names(self) -> list[str] | None:
        """Return the names of the features, unless there are none or two are equal."""
        names = getattr(self, "feature_names_in_", None)
        return None if names is None or len(set(names)) < len(names) else list(names)
