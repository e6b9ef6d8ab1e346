"""Differences between groups of people in template sentences, as a penalty."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fairjax.checks import indicator, nan_unless
from fairjax.hyperparameters import check_choice, static
from fairjax.losses.base import Data, Outputs, Term, term
from fairjax.metrics import probabilities
from fairjax.types import AnyArray, Inputs, Rows

Form = Literal["mean", "cells", "people"]
"""Forms of the penalty."""


def template_gap(
    scores: Float[Array, "people cells"], a: Bool[AnyArray, " _"], form: Form = "mean"
) -> Float[Array, ""]:
    """Compute how much the scores of template sentences depend on the people in them.

    Args:
        scores: one score per person and cell; a cell is a sentence with a place for a person.
        a: the group of each person.
        form: "mean", the absolute difference of the groups' mean scores; "cells", the mean over cells of the squared
            difference of the groups' means in the cell; "people", the variance over people of their mean scores, which
            needs no groups.

    Returns:
        A scalar; 0 at parity. NaN if there is no person of a group, unless the form is "people".

    Raises:
        ValueError: if shapes differ, or groups are not 0 and 1.

    Example:
        >>> template_gap(jnp.array([[0.25, 0.5], [0.5, 1.0]]), jnp.array([False, True])).item()
        0.375
    """
    check_choice("form", form, ("mean", "cells", "people"))
    if scores.ndim != 2 or a.shape != scores.shape[:1]:
        raise ValueError(
            f"scores must be of shape (people, cells) and a of shape (people,), found {scores.shape} and {a.shape}"
        )
    if form == "people":
        return jnp.var(jnp.mean(scores, axis=1))
    is_one, valid = indicator("a", a)
    ones = is_one.astype(scores.dtype)[:, None]
    zeros = 1 - ones
    difference = jnp.sum(scores * zeros, axis=0) / jnp.sum(zeros) - jnp.sum(scores * ones, axis=0) / jnp.sum(ones)
    gap = jnp.abs(jnp.mean(difference)) if form == "mean" else jnp.mean(jnp.square(difference))
    return nan_unless(valid, gap)


@term
class TemplateGap(Term):
    """Penalty of differences between groups of people in template sentences, in every step of training.

    The sentences, or their embeddings, are part of the term, since they are not rows of the data. It is not in `TERMS`,
    since it cannot be made from a name and numbers alone.

    Example:
        >>> sentences = jnp.ones((4, 3, 8))  # 4 people, 3 cells, 8 features of an embedding
        >>> TemplateGap(weight=5.0, sentences=sentences, a=jnp.array([True, True, False, False])).form
        'mean'
    """

    label: ClassVar[str] = "Template gap"
    reference: ClassVar[str] = "fairjax"
    equation: ClassVar[str] = "|mean score of templates with people of a=0 - that with people of a=1|"
    zero_at_parity: ClassVar[bool] = True
    needs_group: ClassVar[bool] = False

    sentences: Float[AnyArray, "people cells ..."]
    """Inputs of the network, one for each person in each cell."""
    a: Bool[AnyArray, " people"]
    """The group of each person."""
    form: Form = static("mean")
    """Form of the penalty; see `template_gap`."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("form", self.form, ("mean", "cells", "people"))

    def bind(self, data: Data) -> "TemplateGap":
        """Check that there are two classes, and people of both groups.

        Raises:
            ValueError: otherwise.
        """
        if data.num_classes != 2:
            raise ValueError(f"TemplateGap compares the scores of two classes, found {data.num_classes} classes")
        if self.form != "people" and not isinstance(self.a, jax.core.Tracer):
            found = np.unique(np.asarray(self.a))
            if len(found) != 2:
                raise ValueError(
                    f"TemplateGap needs people of two groups, found {found.tolist()}: form='people' needs none"
                )
        return super().bind(data)

    def observe(self, logits_of: Callable[[Inputs], Float[Array, "n *c"]], batch: Rows) -> Float[Array, "people cells"]:
        """Compute the scores of all sentences."""
        del batch
        people, cells = self.sentences.shape[:2]
        logits = logits_of(jnp.asarray(self.sentences).reshape(people * cells, *self.sentences.shape[2:]))
        return probabilities(logits).reshape(people, cells)

    def value(self, params: Any, outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the penalty, which is the same for all mini-batches."""
        del params, batch
        return template_gap(outputs.observed, self.a, self.form)
