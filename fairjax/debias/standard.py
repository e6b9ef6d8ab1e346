"""STANDARD: the trained network with its threshold, nothing else."""

import dataclasses
import functools

import jax

from fairjax.loop import Method, evaluation_mode


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Standard:
    """The network as it came; its threshold maximises balanced accuracy on validation data."""


METHOD = Method(
    init=lambda task, config, key, variables, parts, evaluation: variables,
    step=lambda task, config, parts, state: state,
    candidate=lambda state, member: state,
    steps=lambda config, variables: 0,
    logits=functools.partial(evaluation_mode, candidate=lambda state, member: state),
)
"""No steps: candidate 0 is the result."""
