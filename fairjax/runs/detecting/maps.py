"""Where in images the evidence lies, by group: mean Grad-CAM maps, and which colours carry the gap of mean logits."""

from typing import Any

import jax
import numpy as np
import pandas as pd

from fairjax.detect.attribution import BiasByFeature, bias_by_feature
from fairjax.detect.quality import MapsByGroup, grad_cam, maps_by_group
from fairjax.runs.detecting.subject import Subject

LEAST_POSITIONS = 16
"""Maps are shown of the last layer with at least so many positions, or else of the layer with the most."""

CHUNK = 256
"""Number of images that are computed at a time."""


def compute(subject: Subject) -> dict[str, pd.DataFrame]:
    """Average the maps of test images by group, and decompose the gap of mean logits by channel."""
    layer = shown_layer(subject)
    found = _maps(subject, layer)
    bias = _bias(subject)
    return {
        "maps": _tidy(subject, found, layer),
        "maps_by_group": _counts(subject, found),
        "mean_images": _mean_images(subject),
        "bias_by_channel": _by_channel(subject, bias),
    }


def shown_layer(subject: Subject) -> str:
    """Return the name of the layer whose maps are shown; see `LEAST_POSITIONS`."""
    from fairjax.detect.concepts.sites import layer_names

    variables, split = subject.of_seed(0)
    assert subject.network.activations is not None
    one = jax.tree.map(lambda leaf: leaf[:1], split.x)
    shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(subject.network.activations, variables, one))]
    layers = {
        name: int(np.prod(shape[1:-1]))
        for name, shape in zip(layer_names(variables), shapes, strict=True)
        if len(shape) == 4
    }
    large = [name for name, positions in layers.items() if positions >= LEAST_POSITIONS]
    return large[-1] if large else max(layers, key=lambda name: layers[name])


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
        brightness = x[a == g].astype(np.float64).mean(axis=(0, 3)).ravel()
        frames.append(pd.DataFrame({"group": name, "row": rows, "column": columns, "brightness": brightness}))
    return pd.concat(frames, ignore_index=True)


def _bias(subject: Subject) -> BiasByFeature:
    apply, nodes = subject.network.apply, subject.settings.nodes

    def of_seed(variables: Any, split: Any, key: Any) -> BiasByFeature:
        del key
        test = split.part("test")
        x = test.x if np.issubdtype(test.x.dtype, np.floating) else test.x.astype(np.float32)
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
