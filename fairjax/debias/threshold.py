"""A single threshold chosen under the constraint: the least that a debiasing method has to beat."""

import dataclasses

import jax

from fairjax.debias import standard


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstrainedThreshold:
    """The network as it came; its threshold maximises the selection rule's score on validation data."""


METHOD = standard.METHOD._replace(threshold="rule")
"""No steps: candidate 0, with another threshold, is the result."""
