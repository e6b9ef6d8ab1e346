"""Checks of one column: numbers, codes, scores and weights, with their validity under tracing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax.types import AnyArray

SLACK = 1e-6
"""Tolerance for scores that rounding has moved out of [0, 1]."""


def nan_unless(valid: Bool[Array, ""] | None, result: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the result if a condition holds or needs no check, else NaN with a NaN gradient.

    Args:
        valid: whether all traced values are valid, or None if they are known to be.
        result: the result computed from them.

    Example:
        >>> nan_unless(jnp.array(False), jnp.array(0.5)).item()
        nan
    """
    # Multiply by NaN: with `where`, the gradient would be 0 although the value is NaN.
    return result if valid is None else result * jnp.where(valid, 1.0, jnp.nan).astype(result.dtype)


def codes(name: str, column: Any, count: int) -> tuple[Int[Array, " n"], Bool[Array, ""] | None]:
    """Check a column of codes 0, 1, ..., count - 1.

    Args:
        name: name of the argument in messages.
        column: array from `vector`.
        count: number of codes.

    Returns:
        Codes as int32, and whether they are valid if the column is traced, else None.

    Raises:
        ValueError: if a concrete value is not a whole number from 0 to count - 1.

    Example:
        >>> codes("y", np.array([2.0, 0.0]), 3)[0].tolist()
        [2, 0]
    """
    if isinstance(column, Tracer):
        if column.dtype == bool:
            return column.astype(jnp.int32), None
        whole = (column >= 0) & (column < count)
        if jnp.issubdtype(column.dtype, jnp.floating):
            whole &= jnp.floor(column) == column
        return jnp.where(whole, column, 0).astype(jnp.int32), jnp.all(whole)
    array = np.asarray(column)
    array = array.astype(np.float64) if array.dtype.kind not in "biu" else array
    wrong = ~((array >= 0) & (array < count))
    if array.dtype.kind == "f":
        wrong |= np.floor(array) != array
    if wrong.any():
        row = int(np.argmax(wrong))
        kind = "classes" if name in ("y", "values") else "groups"
        raise ValueError(
            f"{name} must hold codes from 0 to {count - 1}, found {array[row]:g} in row {row}: encode the {kind} as 0, "
            f"1, ..., for example with pandas.factorize, drop rows that lack a value, or state num_{kind} if there are "
            "more"
        )
    return jnp.asarray(array.astype(np.int32)), None


def vector(name: str, values: Any) -> Any:
    """Check that an argument has one number per row; arrays, lists and pandas objects are accepted.

    Args:
        name: name of the argument in messages.
        values: anything array-like.

    Returns:
        A JAX or NumPy array of shape (n,).

    Raises:
        ValueError: if it does not have exactly one axis.
        TypeError: if it is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> vector("y", [0, 1]).shape
        (2,)
    """
    array = numeric(name, values)
    if array.ndim != 1:
        squeeze = f": pass {name}[:, 0]" if array.ndim == 2 and array.shape[1] == 1 else ""
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
    if hasattr(values, "pandas_index") and hasattr(values, "left_out"):  # recognised without importing pandas
        raise TypeError(
            f"{name} must be an array, found Groups: pass their column, groups.a, to a measure for {len(values)} "
            "groups, such as that of Dataset.measure"
        )
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(f"{name} is a sparse matrix, which fairjax does not take: pass {name}.toarray()")
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            raise TypeError(f"{name} is a masked array with masked entries: drop these rows or fill the values in")
        values = np.asarray(values)
    if hasattr(values, "to_numpy") and hasattr(values, "dtype"):  # a pandas series, whose dtype may allow NA
        if str(values.dtype) in ("category", "string", "str", "object"):
            _not_numbers(name, values.dtype)
        values = values.to_numpy(dtype=np.float64, na_value=np.nan) if _may_lack(values) else values.to_numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not a regular array ({error}): its rows must all have the same length") from error
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
        _not_numbers(name, array.dtype)
    return array


def indicator(name: str, column: Any) -> tuple[Bool[Array, " n"], Bool[Array, ""] | None]:
    """Convert a column of 0 and 1 to booleans.

    Args:
        name: name of the argument in messages.
        column: array from `vector`.

    Returns:
        Booleans, and whether the column is valid if it is traced, else None.

    Raises:
        ValueError: if a concrete value is neither 0 nor 1.

    Example:
        >>> indicator("a", np.array([0.0, 1.0]))[0].tolist()
        [False, True]
    """
    if column.dtype == bool:
        return jnp.asarray(column), None
    if isinstance(column, Tracer):
        return column.astype(bool), jnp.all((column == 0) | (column == 1))
    array = np.asarray(column)
    wrong = ~((array == 0) | (array == 1))
    if wrong.any():
        missing = np.isnan(array.astype(np.float64))
        if missing.any():
            raise ValueError(
                f"{name} must hold 0 and 1 only, found {missing.sum()} missing values, the first in row "
                f"{np.argmax(missing)}: drop these rows"
            )
        distinct = np.unique(array)
        listed = ", ".join(f"{value:g}" for value in distinct[:5]) + (", ..." if distinct.size > 5 else "")
        advice = f"say which value is 1 by a comparison, such as {name} == {distinct[-1]:g}"
        if name in ("a", "groups") and distinct.size > 2:
            advice += ", or state num_groups where a function takes it, or make them with fairjax.data.groups"
        raise ValueError(
            f"{name} must hold 0 and 1 only, found {listed} (the first in row {np.argmax(wrong)}): {advice}"
        )
    return jnp.asarray(array == 1), None


def scores(values: Any) -> tuple[Float[Array, "..."], Bool[Array, ""] | None]:
    """Convert decisions or scores to floating point, half precision to float32.

    Args:
        values: array from `numeric`.

    Returns:
        The values, and whether they are valid if they are traced, else None.

    Raises:
        ValueError: if a concrete value is not in [0, 1].

    Example:
        >>> scores(np.array([True, False]))[0].tolist()
        [1.0, 0.0]
    """
    if isinstance(values, Tracer):
        soft = floating(values)
        return soft, None if values.dtype == bool else jnp.all((soft >= -SLACK) & (soft <= 1 + SLACK))
    array = np.asarray(values)
    if array.dtype != bool:
        array = array.astype(np.float64)
        wrong = ~((array >= -SLACK) & (array <= 1 + SLACK))
        if wrong.any():
            position = tuple(np.argwhere(wrong)[0])
            raise ValueError(
                f"values must be decisions in {{0, 1}} or scores in [0, 1], found {array[position]:g} in row "
                f"{position[0]}: pass logits through jax.nn.sigmoid or jax.nn.softmax, and drop rows that lack a value"
            )
    return floating(values), None


def sample_weights(
    weights: Any, values: Float[AnyArray, "n ..."], *, weightless: bool = False
) -> tuple[Float[Array, " n"] | None, Any]:
    """Check sample weights and convert them to the dtype of the values.

    Returns:
        The weights or None, and whether they are valid if they are traced, else None.

    Raises:
        ValueError: if the shapes of weights and values differ, or a concrete weight is negative or not finite.

    Example:
        >>> sample_weights([1, 2], jnp.ones(2))[0].tolist()
        [1.0, 2.0]
    """
    if weights is None:
        return None, None
    weights = vector("weights", weights)
    if weights.shape != values.shape[:1]:
        raise ValueError(
            f"values and weights must be vectors of one length, found shapes values {values.shape}, weights "
            f"{weights.shape}"
        )
    if isinstance(weights, Tracer):
        wide = floating(weights)  # in half precision a weight of 100,000 would be infinite
        valid = jnp.all((wide >= 0) & (wide < jnp.inf))
        return weights.astype(values.dtype), valid if weightless else valid & jnp.any(wide > 0)
    array = np.asarray(weights).astype(np.float64)
    wrong = ~((array >= 0) & (array < np.inf))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"weights must be finite and not negative, found {array[row]:g} in row {row}")
    if not weightless and not array.any():
        raise ValueError("weights are all 0, so there is nothing to measure: give some row a positive weight")
    return jnp.asarray(weights).astype(values.dtype), None


def floating(values: Any) -> Float[Array, "..."]:
    """Convert booleans and integers to JAX's default float, and half precision to float32; keep float32 and float64.

    Sums in half precision would overflow at 65,504 rows.

    Example:
        >>> floating(jnp.ones(2, jnp.float16)).dtype
        dtype('float32')
    """
    values = jnp.asarray(values)
    if values.dtype in (jnp.float32, jnp.float64):
        return values
    half = jnp.issubdtype(values.dtype, jnp.floating)
    return values.astype(jnp.float32 if half else jnp.result_type(float))


def all_valid(*valid: Bool[Array, ""] | None) -> Bool[Array, ""] | None:
    """Return whether all checks hold; None if all of them are None.

    Example:
        >>> all_valid(None, jnp.array(True), jnp.array(False)).item()
        False
    """
    result = None
    for condition in valid:
        result = condition if result is None else result if condition is None else result & condition
    return result


def _may_lack(series: Any) -> bool:
    """Return whether a series has one of pandas' own dtypes, in which a value can be NA."""
    return not isinstance(series.dtype, np.dtype)


def _not_numbers(name: str, dtype: Any) -> None:
    raise TypeError(
        f"{name} must hold numbers or booleans, found dtype {dtype}: encode it by a comparison, such as "
        f"{name} == 'yes', or as codes, for example with pandas.factorize"
    )


def check_merged(before: np.ndarray, after: np.ndarray, names: tuple[str, ...]) -> None:
    """Check that a smaller floating type keeps the differences in columns far from 0, such as Unix times in float32.

    Each column is checked as a whole and, where a gap separates its values, on either side of the gap: a single 0 for
    a missing time must not hide that the times themselves become equal. Values that differ by no more than rounding in
    float64 count as one value.

    Args:
        before: numbers of shape (n, d).
        after: the same numbers in the floating type used for computation.
        names: names of the columns, for the message.

    Raises:
        ValueError: naming the column, how many values it has and how many of them are kept.

    Example:
        >>> times = np.array([[0.0], [1e9], [1e9 + 1]])
        >>> check_merged(times, times.astype(np.float32), ("time",))
        Traceback (most recent call last):
        ...
        ValueError: column 'time' of x has 2 different values between 1000000000 and 1000000001, ...
    """
    is_integer = before.dtype.kind in "iu"
    if before.dtype.kind == "b" or (not is_integer and before.dtype.itemsize <= after.dtype.itemsize):
        return
    exact = 2 ** (np.finfo(after.dtype).nmant + 1)
    for column, name in enumerate(names):
        original = before[:, column]
        if (is_integer and (not original.size or max(-int(original.min()), int(original.max())) <= exact)) or (
            not is_integer and np.array_equal(original, after[:, column].astype(original.dtype), equal_nan=True)
        ):
            continue
        values = np.unique(original if is_integer else original[np.isfinite(original)])
        gaps, narrowed = np.diff(values.astype(np.float64)), values.astype(after.dtype)
        merged = narrowed[1:] == narrowed[:-1]
        if not is_integer:
            within_rounding = gaps <= 1e-13 * np.abs(values[1:])
            merged &= ~within_rounding | ((values[1:] == np.rint(values[1:])) & (values[:-1] == np.rint(values[:-1])))
        stretches = [(0, len(values))]
        while stretches:
            start, end = stretches.pop()
            if not merged[start : end - 1].any():
                continue
            low, high = float(values[start]), float(values[end - 1])
            if np.spacing(np.abs(narrowed[[start, end - 1]]).max()).astype(np.float64) >= 1e-4 * (high - low):
                count, num_distinct = end - start, end - start - int(merged[start : end - 1].sum())
                advice = f"subtract an offset first, such as x[{name!r}] - {low:.12g}"
                if count < len(values):
                    advice = f"make two columns of it, whether a value is near {low:.12g} and how far it is from there"
                raise ValueError(
                    f"column {name!r} of x has {count} different values between {low:.12g} and {high:.12g}, of which "
                    f"{after.dtype} keeps {num_distinct}: {advice}, or pass x in {after.dtype} if these differences "
                    "mean nothing"
                )
            widest = start + int(np.argmax(gaps[start : end - 1]))
            if gaps[widest] > 0.5 * (high - low):
                stretches += [(start, widest + 1), (widest + 1, end)]
