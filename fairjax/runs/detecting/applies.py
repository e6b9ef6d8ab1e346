"""Conditions under which a section applies to the data."""

import jax

from fairjax.detect.concepts import layer_names
from fairjax.runs.detecting.subject import Kind, Subject


def needs_two_groups(subject: Subject) -> str | None:
    """Return why a section that compares two groups and explains one logit does not apply; None if it does."""
    groups, classes = len(subject.structure.groups), len(subject.structure.classes)
    if groups != 2 or subject.splits.a.ndim - (subject.axes.a == 0) != 1:
        return f"compares two groups, found {groups}: choose one attribute, with --protected or --privileged"
    if classes != 2:
        return f"explains the logit of two classes, found {classes}"
    return None


def needs_kind(subject: Subject, kind: Kind) -> str | None:
    """Return why a section that is for one kind of data does not apply; None if it does."""
    what = {"table": "a table of features", "images": "images", "other": "other inputs"}
    return None if subject.kind == kind else f"is for {what[kind]}, found {what[subject.kind]}"


def needs_table_and_two_groups(subject: Subject) -> str | None:
    """Return why a section for two groups of a table does not apply; None if it does."""
    return needs_kind(subject, "table") or needs_two_groups(subject)


def needs_images_and_two_groups(subject: Subject) -> str | None:
    """Return why a section for two groups of images does not apply; None if it does."""
    return needs_kind(subject, "images") or needs_two_groups(subject)


def activation_shapes(subject: Subject) -> dict[str, tuple[int, ...]]:
    """Return the shape of the activations of one row in each layer; none if the network does not show them."""
    if subject.network.activations is None:
        return {}
    variables, split = subject.of_seed(0)
    one = jax.tree.map(lambda leaf: leaf[:1], split.x)
    try:
        shown = jax.eval_shape(subject.network.activations, variables, one)
    except ValueError:  # those of some layers of a brought network cannot be read
        return {}
    return {name: leaf.shape for name, leaf in zip(layer_names(variables), jax.tree.leaves(shown), strict=True)}
