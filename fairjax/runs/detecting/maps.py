"""Where in images the evidence lies, by group: mean Grad-CAM maps, and which colours carry the gap of mean logits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax.detect.attribution import BiasByFeature, bias_by_feature
from fairjax.detect.quality import MapsByGroup, grad_cam, maps_by_group
from fairjax.runs.detecting.applies import activation_shapes, needs_images_and_two_groups
from fairjax.runs.detecting.subject import Subject

LEAST_POSITIONS = 16
"""Maps are shown of the last layer with at least so many positions, or else of the layer with the most."""

CHUNK = 256
"""Number of images that are computed at a time."""

CHECKED = 32
"""Number of images on which logits of floats are compared with those of bytes."""


def unfit(subject: Subject) -> str | None:
    """Return why the section does not apply; None if it does."""
    reason = needs_images_and_two_groups(subject)
    if reason is None and shown_layer(subject) is None and divisor_of(subject) is None:
        return "needs a network that shows activations with positions, or one that takes images of floats"
    return reason


def compute(subject: Subject) -> dict[str, pd.DataFrame]:
    """Average the maps of test images by group, and decompose the gap of mean logits by channel, if possible."""
    tables = {"mean_images": _mean_images(subject)}
    layer, divisor = shown_layer(subject), divisor_of(subject)
    if layer is not None:
        found = _maps(subject, layer)
        tables |= {"maps": _tidy(subject, found, layer), "maps_by_group": _counts(subject, found)}
    if divisor is not None:
        tables["bias_by_channel"] = _by_channel(subject, _bias(subject, divisor))
    return tables


def shown_layer(subject: Subject) -> str | None:
    """Return the name of the layer whose maps are shown, see `LEAST_POSITIONS`; None if no layer has positions."""
    positions = {
        name: int(np.prod(shape[1:-1])) for name, shape in activation_shapes(subject).items() if len(shape) == 4
    }
    large = [name for name, number in positions.items() if number >= LEAST_POSITIONS]
    return large[-1] if large else max(positions, key=lambda name: positions[name], default=None)


def divisor_of(subject: Subject) -> int | None:
    """Return what images are divided by as floats so that the logits stay the same; None if there is no such number.

    Attributions are computed on floats. Networks of fairjax divide bytes, and not floats, by 255; a brought network may
    take floats as they are, or only the whole numbers of the example that it was brought with.
    """
    variables, split = subject.of_seed(0)
    images = split.batch(split.test[:CHECKED]).x
    if jnp.issubdtype(images.dtype, jnp.floating):
        return 1
    logits = jax.jit(lambda images: subject.network.apply(variables, images)[0])
    expected = np.asarray(logits(images))
    for divisor in (255, 1):
        try:
            found = np.asarray(logits(images.astype(jnp.float32) / divisor))
        except (TypeError, ValueError):  # the network does not take floats
            continue
        if np.allclose(found, expected, rtol=1e-3, atol=1e-4):
            return divisor
    return None


def _maps(subject: Subject, layer: str) -> MapsByGroup:
    network, draws = subject.network, subject.settings.draws

    def of_seed(variables: Any, split: Any, key: Any) -> MapsByGroup:
        test = split.part("test")
        return maps_by_group(grad_cam(network, variables, test.x, layer), test.a, key, draws)

    return subject.over_seeds(of_seed)


def _tidy(subject: Subject, found: MapsByGroup, layer: str) -> pd.DataFrame:
    """Return one row per seed and position with the mean map of each group and their difference."""
    seeds, _, height, width = found.means.shape
    rows, columns = (grid.ravel() for grid in np.indices((height, width)))
    frames = []
    for number in range(seeds):
        means = {f"mean, {name}": found.means[number, g].ravel() for g, name in enumerate(subject.groups)}
        tests = {
            "difference": found.difference[number, 0].ravel(),
            "p_value": found.p_value[number, 0].ravel(),
            "corrected_p_value": found.corrected_p_value[number, 0].ravel(),
        }
        frames.append(subject.frame(number, {"layer": layer, "row": rows, "column": columns, **means, **tests}))
    return pd.concat(frames, ignore_index=True)


def _counts(subject: Subject, found: MapsByGroup) -> pd.DataFrame:
    """Return one row per seed and group with the numbers of maps."""
    frames = []
    for number in range(len(subject.seeds)):
        content = {"group": subject.groups, "maps": found.counts[number], "empty": found.empty[number]}
        frames.append(subject.frame(number, content))
    return pd.concat(frames, ignore_index=True)


def _mean_images(subject: Subject) -> pd.DataFrame:
    """Return one row per group and pixel with the mean image of the group, over all images, for comparison."""
    x = np.asarray(subject.splits.x if subject.axes.x is None else subject.splits.x[0])
    a = np.asarray(subject.splits.a if subject.axes.a is None else subject.splits.a[0]).astype(int)
    rows, columns = (grid.ravel() for grid in np.indices(x.shape[1:3]))
    frames = []
    for g, name in enumerate(subject.groups):
        numbers, total = np.flatnonzero(a == g), np.zeros(x.shape[1:3])
        for start in range(0, len(numbers), CHUNK):  # so that no copy of all images is made
            total += x[numbers[start : start + CHUNK]].sum(axis=(0, 3), dtype=np.float64)
        brightness = total.ravel() / (len(numbers) * x.shape[3]) if len(numbers) else np.nan
        frames.append(pd.DataFrame({"group": name, "row": rows, "column": columns, "brightness": brightness}))
    return pd.concat(frames, ignore_index=True)


def _bias(subject: Subject, divisor: int) -> BiasByFeature:
    apply, nodes = subject.network.apply, subject.settings.nodes

    def of_seed(variables: Any, split: Any, key: Any) -> BiasByFeature:
        del key
        test = split.part("test")
        x = test.x if jnp.issubdtype(test.x.dtype, jnp.floating) else test.x.astype(jnp.float32) / divisor
        return bias_by_feature(apply, variables, (x, test.a), nodes=nodes, chunk=CHUNK)

    return subject.over_seeds(of_seed)


def _by_channel(subject: Subject, bias: BiasByFeature) -> pd.DataFrame:
    """Return one row per seed and colour channel with its part of the gap of mean logits."""
    differences = np.asarray(bias.differences).sum(axis=(1, 2))
    channels = _channel_names(differences.shape[1])
    frames = []
    for number in range(len(subject.seeds)):
        content = {"channel": channels, "difference": differences[number], "gap": bias.gap[number]}
        frames.append(subject.frame(number, content))
    return pd.concat(frames, ignore_index=True)


def _channel_names(count: int) -> tuple[str, ...]:
    return {1: ("grey",), 3: ("red", "green", "blue")}.get(count) or tuple(f"channel {k}" for k in range(1, count + 1))
