"""One run of `predict`: score new rows with networks that `debias` trained on a user's own table."""

import dataclasses
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from rich.console import Console

from fairjax import checkpoint
from fairjax.data.encoder import TableEncoder
from fairjax.data.expressions import check_columns
from fairjax.data.own_table import read_table
from fairjax.metrics import probabilities
from fairjax.nn import Network, from_linen
from fairjax.nn.description import check_like, describe_variables
from fairjax.runs.files import write_text
from fairjax.runs.function_in_file import FunctionInFile
from fairjax.runs.given_network import EXAMPLE_ROWS, given_network
from fairjax.runs.values import expand_paths

CHUNK = 2**16
"""Number of rows that are scored at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Score new rows with the networks of a run on your own table."""

    network: Path | None = None
    """Folder of saved networks, such as results/loans-sex-spd/networks/pruning."""
    code: str | None = None
    """Function that returned the network, FILE.py:FUNCTION, if it was debiased with --network FILE.py:FUNCTION."""
    table: tuple[str, ...] = ()
    """Files of new rows with the columns of the table that the network was trained on."""
    out: Path | None = None
    """File of the scores, by default scores.csv beside the network."""
    seeds: tuple[int, ...] = ()
    """Seeds whose networks score the rows. By default all."""
    keep: tuple[str, ...] = ()
    """Columns of the table that are written beside the scores, such as those that an audit needs."""
    unknown: Literal["raise", "zeros"] = "raise"
    """What to do with categories that did not occur in training: stop, or set all features of the column to 0."""

    def __post_init__(self) -> None:
        """Expand paths."""
        expand_paths(self)


def run(settings: PredictSettings, console: Console) -> None:
    """Score the rows of a table and write them to a file.

    Args:
        settings: the settings.
        console: the console that shows the path.

    Raises:
        ValueError, OSError: if the network or the table cannot be used; the message says what to do.
    """
    if settings.network is None or not settings.table:
        raise ValueError("predict needs a saved network, --network, and files of rows, --table")
    saved = checkpoint.load(settings.network)
    about, given = _checked(settings, saved)
    seeds = tuple(saved.about["seeds"])
    unknown = [seed for seed in settings.seeds if seed not in seeds]
    if unknown:
        raise ValueError(f"seeds must be some of {', '.join(map(str, seeds))}, got {unknown[0]}")
    rows = read_table(settings.table, tuple(dict.fromkeys(settings.keep)))
    encoder = TableEncoder.from_plain(about["encoder"])
    check_columns([column.column for column in encoder.columns], list(rows.frame.columns), rows.name)
    x = encoder.encode(rows.frame, settings.unknown, place=rows.place)
    chosen = settings.seeds or seeds
    at = [seeds.index(seed) for seed in chosen]
    thresholds = [about["threshold"][place] for place in at] if "threshold" in about else None
    network = from_linen(cast(Any, saved.module)) if given is None else _given(given, saved, x)
    columns = _columns(scores(saved, x, at, network), chosen, thresholds)
    taken = [name for name in rows.kept.columns if name in columns]
    if taken:
        raise ValueError(
            f"the column {taken[0]} cannot be kept, since predict writes a column of this name: rename it in the table"
        )
    out = settings.out or settings.network / "scores.csv"
    # kept columns are text, so the format of numbers leaves them alone
    written = pd.concat([rows.kept, pd.DataFrame(columns)], axis=1)
    write_text(out, written.to_csv(index=False, float_format="%.9g"))
    console.print(f"scores: {out} ({len(rows.frame):,} rows)", soft_wrap=True, markup=False, highlight=False)


def _checked(settings: PredictSettings, saved: checkpoint.Saved) -> tuple[dict[str, Any], FunctionInFile | None]:
    """Check that new rows can be encoded and the network applied.

    Returns:
        How rows are encoded, and the function that returns the network if it is no module of `fairjax.nn`.
    """
    if saved.about.get("images"):
        raise ValueError(
            f"{settings.network} was debiased on images, and predict scores tables: apply the network of "
            "fairjax.checkpoint.load in Python, to images of the same size and colours from fairjax.data.decode_images"
        )
    about = saved.about.get("table")
    if about is None:
        raise ValueError(
            f"{settings.network} was not trained on a table of your own, so it does not say how to encode new rows: "
            "use fairjax.checkpoint.load in Python"
        )
    if about.get("mapped"):
        raise ValueError(
            f"{settings.network} was trained on features that {' and '.join(about['mapped'])} changed by a map of its "
            "train rows, which is not saved: use fairjax.preprocess.prepare_rows in Python"
        )
    if saved.module is not None:
        if settings.code is not None:
            raise ValueError(f"{settings.network} holds its own network, so --code would change nothing: leave it out")
        return about, None
    source = saved.about.get("given", {}).get("source")
    if settings.code is None or source is None:
        way_out = f"add --code {source}" if source else "use fairjax.checkpoint.load in Python"
        raise ValueError(
            f"{settings.network} holds the variables of a network that is no module of fairjax.nn, and not its code: "
            f"{way_out}"
        )
    return about, FunctionInFile.parse(settings.code, "code")


def _given(source: FunctionInFile, saved: checkpoint.Saved, x: np.ndarray) -> Network:
    """Make the network of a user's function, and check that the saved variables are of such a network."""
    about = saved.about["given"]
    example = x[:EXAMPLE_ROWS]
    if saved.about["table"]["mean"] is not None:
        mean, scale = (np.asarray(saved.about["table"][name][0], np.float32) for name in ("mean", "scale"))
        example = (example - mean) / scale
    classes = saved.about.get("structure", {}).get("classes", ("0", "1"))
    given = given_network(source, example, classes, columns=about["columns"], output=about["output"])
    one = jax.tree.map(operator.itemgetter(0), saved.variables)
    try:
        check_like(describe_variables(one)["leaves"], given.variables)
    except ValueError as error:
        raise ValueError(f"{source} returns another network than the one that was debiased: {error}") from error
    return given.network


def _columns(probability: np.ndarray, seeds: Sequence[int], thresholds: Sequence[float] | None) -> dict[str, Any]:
    """Return the columns of scores and decisions by name."""
    columns: dict[str, Any] = {}
    for i, seed in enumerate(seeds):
        suffix = "" if len(seeds) == 1 else f"_{seed}"
        if probability.ndim == 3:
            columns |= {f"score{suffix}_{k}": probability[i, :, k] for k in range(probability.shape[2])}
            columns[f"decision{suffix}"] = probability[i].argmax(axis=1)
            continue
        columns[f"score{suffix}"] = probability[i]
        if thresholds is not None:
            columns[f"decision{suffix}"] = (probability[i] > np.float32(thresholds[i])).astype(int)
    return columns


def scores(saved: checkpoint.Saved, x: np.ndarray, at: list[int], network: Network) -> np.ndarray:
    """Return the scores of rows by some of the saved networks.

    Args:
        saved: the networks, with a leading axis.
        x: encoded features, not standardised.
        at: positions of the networks.
        network: their functions.

    Returns:
        Probabilities (networks, rows), with an axis of classes behind them if there are more than two.
    """
    about, place = saved.about["table"], np.asarray(at)
    variables = jax.tree.map(lambda leaf: leaf[place], saved.variables)
    mean, scale = (
        None if about[name] is None else jnp.asarray(np.asarray(about[name], np.float32)[place])
        for name in ("mean", "scale")
    )

    @jax.jit
    def score(rows: jax.Array) -> jax.Array:
        def of_seed(variables: Any, mean: jax.Array | None, scale: jax.Array | None) -> jax.Array:
            inputs = rows if mean is None or scale is None else (rows - mean[None]) / scale[None]
            return probabilities(network.apply(variables, inputs)[0])

        return jax.vmap(of_seed)(variables, mean, scale)

    parts = [np.asarray(score(jnp.asarray(x[start : start + CHUNK]))) for start in range(0, len(x), CHUNK)]
    return np.concatenate(parts, axis=1)
