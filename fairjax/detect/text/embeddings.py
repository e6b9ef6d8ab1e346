"""Token embeddings as inputs of a network, with respect to which the logit has a derivative."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from fairjax.detect.rows import map_chunks
from fairjax.nn.network import ApplyFn
from fairjax.types import AnyArray, KeyArray, Variables

EMBEDDINGS = "embeddings"
"""Name of the token embeddings among the inputs of the new network."""

TOLERANCE = 1e-4
"""Largest difference between the logits of tokens and of their embeddings, relative to the largest logit or 1."""


@dataclasses.dataclass(frozen=True)
class EmbeddedApply:
    """A network of token embeddings made from a network of tokens: an `ApplyFn` whose `x` comes from `embed`.

    The table of embeddings is an array of the variables, in which each token is looked up. Texts are computed with
    another table, whose first entries are the embeddings of all their tokens in order, and with the tokens 0, 1, 2, ...
    """

    apply: ApplyFn
    """The network of tokens."""
    table: tuple[str, ...]
    """Names that lead to the table of embeddings in the variables, such as ("params", "words")."""
    tokens: str
    """Name of the tokens among the inputs."""
    integers: tuple[str, ...]
    """Names of the other inputs that are integers, such as the mask of padding; they are given as floats."""

    def __call__(
        self,
        variables: Variables,
        x: dict[str, AnyArray],
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        """Compute the logits of embedded texts, in evaluation mode."""
        if key is not None:
            raise ValueError("a network of token embeddings is for explanations: use the network of tokens to train")

        table = jnp.asarray(_entry(variables, self.table))

        def of_rows(rows: dict[str, Array]) -> Array:
            embeddings = rows[EMBEDDINGS]
            n, length, width = embeddings.shape
            own = embeddings.reshape(n * length, width)
            if len(own) <= len(table):  # of the same shape as before, which Flax checks
                own = table.at[: len(own)].set(own.astype(table.dtype))
            inputs: dict[str, Any] = {self.tokens: jnp.arange(n * length, dtype=jnp.int32).reshape(n, length)}
            for name, value in rows.items():
                if name != EMBEDDINGS:
                    inputs[name] = jnp.round(value).astype(jnp.int32) if name in self.integers else value
            options: Any = {} if shifts is None else {"shifts": shifts}
            return self.apply(_with_entry(variables, self.table, own), inputs, **options)[0]

        rows = {name: jnp.asarray(value) for name, value in x.items()}
        return map_chunks(of_rows, rows, chunk=max(1, len(table) // rows[EMBEDDINGS].shape[1])), variables


class Embedded(NamedTuple):
    """A network of token embeddings and embedded texts."""

    apply: EmbeddedApply
    """The network, with the variables of the network of tokens."""
    x: dict[str, Float[AnyArray, "n ..."]]
    """The texts: `embeddings` (n, length, width) in place of tokens, and the other inputs as floats."""


def embed(
    apply: ApplyFn,
    variables: Variables,
    x: Any,
    *,
    tokens: str = "input_ids",
    table: str | None = None,
) -> Embedded:
    """Turn a network of tokens and its inputs into one of token embeddings, for gradients and attributions.

    The network must look up its tokens in one table of its variables, and use them nowhere else.

    Args:
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n texts, a dictionary of arrays; all texts have one length, shorter ones are padded.
        tokens: name of the tokens among the inputs, integers (n, length).
        table: name of the table in the variables, with dots between nested names, such as "params.words"; found by
            comparing logits if omitted.

    Returns:
        The network of embeddings and its inputs. Attribute with a baseline of the same structure, from `baseline`.

    Raises:
        ValueError: if the inputs are not a dictionary with these tokens, the table does not exist, the logits of
            embeddings are not those of the tokens, or the table cannot be found because logits do not depend on it.

    Example:
        >>> def apply(variables, x, *, shifts=None, key=None):
        ...     return jnp.sum(variables["params"]["words"][x["input_ids"]], axis=(1, 2)), variables
        >>> variables = {"params": {"words": jnp.arange(8.0).reshape(4, 2)}, "masks": {}}
        >>> embedded = embed(apply, variables, {"input_ids": jnp.array([[1, 3]])})
        >>> embedded.apply(variables, embedded.x)[0].tolist(), embedded.apply.table
        ([18.0], ('params', 'words'))
    """
    if not isinstance(x, dict) or tokens not in x:
        found = f"the inputs {', '.join(map(str, x))}" if isinstance(x, dict) else type(x).__name__
        raise ValueError(f"x must be a dictionary with the tokens {tokens!r}, got {found}: name them by tokens=")
    ids = x[tokens]
    if np.ndim(ids) != 2 or not np.issubdtype(np.dtype(ids.dtype), np.integer):
        raise ValueError(f"the tokens {tokens!r} must be integers (n, length), got {ids.dtype} {np.shape(ids)}")
    tables = _tables(variables, 1 if isinstance(ids, Tracer) else int(np.max(ids)) + 1)
    if table is not None:
        chosen = [path for path in tables if ".".join(path) == table]
        if not chosen:
            names = ", ".join(".".join(path) for path in tables) or "none"
            raise ValueError(
                f"the variables have no table {table!r} of the tokens' embeddings; arrays that could be: {names}"
            )
        tables = chosen
    elif any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((variables, x))) and len(tables) > 1:
        names = ", ".join(".".join(path) for path in tables)
        raise ValueError(
            f"under jit or vmap, the table cannot be found by its logits: name it by table=, one of {names}"
        )
    integers = tuple(name for name, value in x.items() if name != tokens and _is_integer(value))
    tried = {}
    for path in tables:
        embedded = EmbeddedApply(apply, path, tokens, integers)
        inputs = _inputs(variables, x, path, tokens)
        gap = _gap(embedded, apply, variables, x, inputs)
        if gap <= TOLERANCE and (table is not None or _is_used(embedded, apply, variables, x)):
            return Embedded(embedded, inputs)
        tried[".".join(path)] = "logits do not depend on it" if gap <= TOLERANCE else f"logits differ by {gap:.2g}"
    listed = ", ".join(f"{name} ({why})" for name, why in tried.items()) or "none"
    raise ValueError(
        f"no table of the variables gives the network's logits when texts are embedded; tried {listed}: the tokens "
        "must be looked up in one table and used nowhere else, so pass the mask of padding as an input of its own, and "
        "name the table by table= if logits do not depend on it, as with a head of zeros"
    )


def baseline(embedded: Embedded, replaced: Any, embedding: Any = None) -> dict[str, Array]:
    """Return inputs in which the embeddings of some tokens are replaced, as a baseline of attributions.

    Args:
        embedded: from `embed`.
        replaced: booleans (n, length), true at tokens of words; special tokens and padding stay as they are.
        embedding: the embedding that replaces them, such as that of `[MASK]`; 0 if omitted.

    Returns:
        Inputs shaped like `embedded.x`.

    Raises:
        ValueError: if shapes differ.
    """
    h = embedded.x[EMBEDDINGS]
    if np.shape(replaced) != h.shape[:2]:
        raise ValueError(f"replaced must be booleans of shape {h.shape[:2]}, got {np.shape(replaced)}")
    value = jnp.zeros(h.shape[2], h.dtype) if embedding is None else jnp.asarray(embedding, h.dtype)
    if value.shape != h.shape[2:]:
        raise ValueError(f"embedding must have shape {h.shape[2:]}, got {value.shape}")
    return {**embedded.x, EMBEDDINGS: jnp.where(jnp.asarray(replaced, bool)[:, :, None], value[None, None], h)}


def embedding_of(embedded: Embedded, variables: Variables, token: int) -> Float[Array, " width"]:
    """Return the embedding of one token, such as the mask's."""
    return jnp.asarray(_entry(variables, embedded.apply.table))[token]


def sum_by_word(
    attributions: Float[AnyArray, "n length width"], numbers: AnyArray, count: int | None = None
) -> Float[Array, "n words"]:
    """Sum attributions of token embeddings over the embedding's columns and over the tokens of each word.

    Args:
        attributions: attributions of the embeddings, such as those of `integrated_gradients`.
        numbers: number of each token's word, -1 at tokens of no word, such as `adapters.text.words_of(texts).numbers`.
        count: number of words, which must be given under a trace; the largest number plus one if omitted.

    Returns:
        One attribution per word; NaN where a text has fewer words, or a word has no token.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> sum_by_word(jnp.ones((1, 3, 2)), np.array([[-1, 0, 0]])).tolist()
        [[4.0]]
    """
    if np.shape(attributions)[:2] != np.shape(numbers):
        raise ValueError(
            f"numbers must have the shape of the tokens, {np.shape(attributions)[:2]}, got {np.shape(numbers)}"
        )
    count = int(np.max(np.asarray(numbers), initial=-1)) + 1 if count is None else count
    tokens = jnp.sum(jnp.asarray(attributions), axis=2)
    members = jnp.asarray(numbers)[:, :, None] == jnp.arange(count)[None, None]
    sums = jnp.einsum("nl,nlw->nw", tokens, members.astype(tokens.dtype), precision="highest")
    return jnp.where(jnp.any(members, axis=1), sums, jnp.nan)


def _is_integer(value: Any) -> bool:
    return np.issubdtype(np.dtype(value.dtype), np.integer) or value.dtype == bool


def _tables(variables: Variables, rows: int) -> list[tuple[str, ...]]:
    """Return the paths of all matrices with at least so many rows, the longest first."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    found = [
        (leaf.shape[0], _names(path))
        for path, leaf in leaves
        if np.ndim(leaf) == 2 and leaf.shape[0] >= rows and np.issubdtype(np.dtype(leaf.dtype), np.floating)
    ]
    return [path for _, path in sorted(found, key=lambda entry: -entry[0])]


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the names of a leaf's path: keys of dictionaries, positions in lists, and names of fields."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def _entry(tree: Any, names: tuple[str, ...]) -> Any:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return next(leaf for path, leaf in leaves if _names(path) == names)


def _with_entry(tree: Any, names: tuple[str, ...], value: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, leaf: value if _names(path) == names else leaf, tree)


def _inputs(variables: Variables, x: dict[str, Any], table: tuple[str, ...], tokens: str) -> dict[str, Any]:
    looked_up = jnp.asarray(_entry(variables, table))
    h = jnp.take(looked_up, jnp.asarray(x[tokens]), axis=0)
    others = {name: jnp.asarray(value) for name, value in x.items() if name != tokens}
    return {EMBEDDINGS: h} | {n: v.astype(h.dtype) if _is_integer(v) else v for n, v in others.items()}


def _gap(embedded: EmbeddedApply, apply: ApplyFn, variables: Variables, x: Any, inputs: Any) -> float:
    """Return how much the logits of two texts change when they are embedded; 0 if traced, infinite on an error."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((variables, x))):
        return 0.0
    texts, two = _two(x, embedded.tokens)
    expected = np.asarray(apply(variables, texts)[0])
    try:
        found = np.asarray(embedded(variables, {name: value[two] for name, value in inputs.items()})[0])
    except (TypeError, ValueError):  # another matrix, which is used for something else
        return np.inf
    if found.shape != expected.shape or not np.all(np.isfinite(found)):
        return np.inf
    return _distance(found, expected)


def _is_used(embedded: EmbeddedApply, apply: ApplyFn, variables: Variables, x: Any) -> bool:
    """Return whether the logits of two texts change if the table's rows change places; true if traced."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((variables, x))):
        return True
    texts, _ = _two(x, embedded.tokens)
    moved = jnp.roll(jnp.asarray(_entry(variables, embedded.table)), 1, axis=0)
    found = np.asarray(apply(_with_entry(variables, embedded.table, moved), texts)[0])
    return not _distance(found, np.asarray(apply(variables, texts)[0])) <= TOLERANCE


def _two(x: dict[str, Any], tokens: str) -> tuple[dict[str, Array], np.ndarray]:
    """Return the first and the last text, and their numbers."""
    two = np.array([0, np.shape(x[tokens])[0] - 1])
    return {name: jnp.asarray(value)[two] for name, value in x.items()}, two


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found - expected)) / max(1.0, float(np.max(np.abs(expected)))))
