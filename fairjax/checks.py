"""Checks of the arrays that users pass to public functions.

Shapes are checked always. Values are checked whenever they are concrete, which raises an error that names the value.
Values that are traced cannot be looked at: whether they are valid is then an array, and a result of invalid values is
NaN, never 0, since 0 means parity.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

_SLACK = 1e-6
"""How far rounding may carry a score out of [0, 1]."""


class Rows(NamedTuple):
    """Checked rows: vectors of one length."""

    values: Float[Array, " n"]
    """Decisions or scores, in float32 or, where they were given so, in float64."""
    y: Bool[Array, " n"]
    """Labels."""
    a: Bool[Array, " n"]
    """Protected attribute."""
    weights: Float[Array, " n"] | None
    """Sample weights of the values' type."""
    valid: Bool[Array, ""] | None
    """Whether all traced values are valid; None where nothing needed to be checked under a trace."""

    def or_nan(self, result: Float[Array, "..."]) -> Float[Array, "..."]:
        """The result, or NaN where a traced value is invalid."""
        return result if self.valid is None else jnp.where(self.valid, result, jnp.nan)


def rows(values: Any, y: Any, a: Any, weights: Any = None, *, weightless: bool = False) -> Rows:
    """Check decisions or scores with labels, groups and weights.

    Args:
        values: decisions in {0, 1} or scores in [0, 1], of shape (n,).
        y: labels in {0, 1}, of shape (n,).
        a: protected attribute in {0, 1}, of shape (n,).
        weights: finite non-negative weights of shape (n,), or None.
        weightless: whether all weights may be 0, as in a part of rows that are summed elsewhere.

    Returns:
        The same as arrays of JAX.

    Raises:
        ValueError: if shapes differ or are not (n,), if a concrete value is invalid, or if pandas indices differ.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> rows([0.2, 0.9], [0, 1], [1, 0]).y.tolist()
        [False, True]
    """
    check_index(values=values, y=y, a=a, weights=weights)
    values, y, a = numeric("values", values), numeric("y", y), numeric("a", a)
    for other in (y, a):
        if values.ndim != 1 or values.shape != other.shape:
            raise ValueError(
                f"values, y and a must be vectors of one length, got shapes {values.shape} and {other.shape}; squeeze "
                "columns of shape (n, 1), values[:, 0]"
            )
    values, of_values = scores(values)
    labels, of_labels = indicator("y", y)
    groups, of_groups = indicator("a", a)
    weighed, of_weights = sample_weights(weights, values, weightless=weightless)
    return Rows(values, labels, groups, weighed, both(of_values, of_labels, of_groups, of_weights))


def vector(name: str, values: Any) -> Any:
    """Check that an argument is one number per row; NumPy's arrays, lists and pandas' objects are taken.

    Args:
        name: what the argument is called.
        values: anything array-like.

    Returns:
        An array of JAX or NumPy, of shape (n,).

    Raises:
        ValueError: if it does not have one axis.
        TypeError: if it is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> vector("y", [0, 1]).shape
        (2,)
    """
    array = numeric(name, values)
    if array.ndim != 1:
        squeeze = f"; pass {name}[:, 0]" if array.ndim == 2 and array.shape[1] == 1 else ""
        raise ValueError(f"{name} must have one number per row, shape (n,), found shape {array.shape}{squeeze}")
    return array


def numeric(name: str, values: Any) -> Any:
    """Check that an argument is a dense array of numbers or booleans without a mask.

    Example:
        >>> numeric("x", [[1, 2]]).shape
        (1, 2)
    """
    if isinstance(values, jax.Array):
        if jnp.issubdtype(values.dtype, jax.dtypes.prng_key) or jnp.iscomplexobj(values):
            raise TypeError(f"{name} must hold numbers or booleans, found dtype {values.dtype}")
        return values
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(f"{name} is a sparse matrix, which fairjax does not take: pass {name}.toarray()")
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            raise TypeError(f"{name} is a masked array with masked entries: drop these rows or fill the values in")
        values = np.asarray(values)
    if hasattr(values, "to_numpy") and hasattr(values, "dtype"):  # a pandas series, whose own type may know NA
        if str(values.dtype) in ("category", "string", "str", "object"):
            _not_numbers(name, values.dtype)
        values = values.to_numpy(dtype=np.float64, na_value=np.nan) if _may_lack(values) else values.to_numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not a regular array ({error}): its rows must have one length") from error
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
        _not_numbers(name, array.dtype)
    return array


def indicator(name: str, column: Any) -> tuple[Bool[Array, " n"], Bool[Array, ""] | None]:
    """A column of 0 and 1 as booleans.

    Args:
        name: what the argument is called.
        column: from `vector`.

    Returns:
        Booleans, and whether a traced column is valid; None if that is known.

    Raises:
        ValueError: if a concrete value is neither 0 nor 1.

    Example:
        >>> indicator("a", np.array([0.0, 1.0]))[0].tolist()
        [False, True]
    """
    if column.dtype == bool:
        return jnp.asarray(column), None
    if isinstance(column, jax.core.Tracer):
        return column.astype(bool), jnp.all((column == 0) | (column == 1))
    known = np.asarray(column)
    wrong = ~((known == 0) | (known == 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must hold 0 and 1 only, found {known[row]} in row {row}: say which value is 1 by a comparison, "
            f"such as {name} == {np.unique(known[~np.isnan(known.astype(float))])[-1:].tolist()}, and drop rows that "
            "lack a value"
        )
    return jnp.asarray(known == 1), None


def scores(values: Any) -> tuple[Float[Array, " n"], Bool[Array, ""] | None]:
    """Decisions or scores in floating point, half precision as float32.

    Args:
        values: from `vector`.

    Returns:
        The values, and whether traced ones are valid; None if that is known.

    Raises:
        ValueError: if a concrete value is not in [0, 1].

    Example:
        >>> scores(np.array([True, False]))[0].tolist()
        [1.0, 0.0]
    """
    if isinstance(values, jax.core.Tracer):
        valid = None if values.dtype == bool else jnp.all((values >= -_SLACK) & (values <= 1 + _SLACK))
        return floating(values), valid
    known = np.asarray(values)
    if known.dtype != bool:
        known = known.astype(np.float64)
        wrong = ~((known >= -_SLACK) & (known <= 1 + _SLACK))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"values must be decisions in {{0, 1}} or scores in [0, 1], found {known[row]:g} in row {row}: pass "
                "logits through jax.nn.sigmoid, and drop rows that lack a value"
            )
    return floating(values), None


def sample_weights(
    weights: Any, values: Float[Array, " n"], *, weightless: bool = False
) -> tuple[Float[Array, " n"] | None, Any]:
    """Sample weights of the values' type, and whether traced ones are valid.

    Raises:
        ValueError: if they do not fit the values, or a concrete weight is negative or not finite.

    Example:
        >>> sample_weights([1, 2], jnp.ones(2))[0].tolist()
        [1.0, 2.0]
    """
    if weights is None:
        return None, None
    weights = vector("weights", weights)
    _same_length(values=values, weights=weights)
    if isinstance(weights, jax.core.Tracer):
        valid = jnp.all((weights >= 0) & (weights < jnp.inf))
        valid = valid if weightless else valid & jnp.any(weights > 0)
        return weights.astype(values.dtype), valid
    known = np.asarray(weights).astype(np.float64)
    wrong = ~((known >= 0) & (known < np.inf))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"weights must be finite and not negative, found {known[row]:g} in row {row}")
    if not weightless and not known.any():
        raise ValueError("weights are all 0, so there is nothing to measure: give some row a positive weight")
    return jnp.asarray(weights).astype(values.dtype), None


def floating(values: Any) -> Float[Array, "..."]:
    """Booleans, integers and half precision as float32; float32 and float64 as they are.

    Sums of half precision overflow at 65,504 rows.

    Example:
        >>> floating(jnp.ones(2, jnp.float16)).dtype
        dtype('float32')
    """
    values = jnp.asarray(values)
    return values if values.dtype in (jnp.float32, jnp.float64) else values.astype(jnp.float32)


def check_index(**columns: Any) -> None:
    """Refuse pandas objects whose indices differ: by position, their rows might not belong together.

    Raises:
        ValueError: naming the first row in which they differ.

    Example:
        >>> check_index(y=[0, 1], a=[1, 0])
    """
    indexed = {
        name: column.index for name, column in columns.items() if hasattr(column, "index") and _is_pandas(column)
    }
    if len(indexed) < 2:
        return
    (first, index), *others = indexed.items()
    for name, other in others:
        if len(other) == len(index) and not index.equals(other):
            differ = np.flatnonzero(np.asarray(index != other))
            if not differ.size:  # equal labels of other types
                continue
            row = int(differ[0])
            raise ValueError(
                f"the index of {name} differs from that of {first} (row {row}: {other[row]}, {first} has {index[row]}):"
                f" align them, or pass {name}.to_numpy() if they belong together by position"
            )


def both(*valid: Bool[Array, ""] | None) -> Bool[Array, ""] | None:
    """Whether all of several checks hold; None if none of them was left to the trace.

    Example:
        >>> both(None, jnp.array(True), jnp.array(False)).item()
        False
    """
    found = None
    for one in valid:
        found = one if found is None else found if one is None else found & one
    return found


def check_logits(logits: Any, x: Any) -> None:
    """Check that a network gives one logit per row.

    Raises:
        ValueError: naming the shape found and the way out.

    Example:
        >>> check_logits(jnp.ones(3), jnp.ones((3, 2)))
    """
    n = jax.tree.leaves(x)[0].shape[0]
    if logits.shape != (n,):
        squeeze = "; squeeze its last layer, logits[:, 0]" if logits.shape == (n, 1) else ""
        raise ValueError(
            f"the network must return one logit per row, shape ({n},), found shape {logits.shape}{squeeze}"
        )


def _same_length(**columns: Any) -> None:
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        raise ValueError(f"{', '.join(lengths)} must be vectors of one length, found shapes {found}")


def _is_pandas(column: Any) -> bool:
    return type(column).__module__.partition(".")[0] == "pandas"


def _may_lack(series: Any) -> bool:
    """Whether a series is of one of pandas' own types, in which a value can be NA."""
    return not isinstance(series.dtype, np.dtype)


def _not_numbers(name: str, dtype: Any) -> None:
    raise TypeError(
        f"{name} must hold numbers or booleans, found dtype {dtype}: encode it by a comparison, such as {name} == 'yes'"
    )
