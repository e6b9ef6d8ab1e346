"""Read and check raw files, and encode them as AIF360 does."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.datasets.files import DataError
from fairjax.metrics.groups import Groups, groups

Protected = str | Sequence[str] | None
"""One or several protected attributes, all of whose groups are distinguished; None for the benchmark's two groups."""


def check_choices(protected: Protected, attributes: Sequence[str], target: str, targets: Sequence[str]) -> None:
    """Check that a benchmark has the attributes and the label, before any file is read."""
    names = () if protected is None else (protected,) if isinstance(protected, str) else tuple(protected)
    wrong = [name for name in names if name not in attributes]
    if wrong or len(set(names)) < len(names) or names == () and protected is not None:
        raise ValueError(f"protected must be one or more of {', '.join(map(repr, attributes))}, found {protected!r}")
    if target not in targets:
        raise ValueError(f"target must be one of {', '.join(map(repr, targets))}, found {target!r}")


def named_groups(
    frame: pd.DataFrame,
    protected: Protected,
    reference: Mapping[str, str],
    intersect: bool,
    minimum: int,
    small: str,
) -> Groups | None:
    """Make the groups of the requested attributes; None if none was requested."""
    if protected is None:
        return None
    names = [protected] if isinstance(protected, str) else list(protected)
    return groups(
        frame[names],
        intersect=intersect,
        minimum=minimum,
        small=small,
        reference={name: reference[name] for name in names},
    )


def without_duplicates(
    frame: pd.DataFrame, labels: pd.Series, flags: Mapping[str, Sequence[object]], duplicates: str
) -> pd.DataFrame:
    """Return the rows, or only the first of those that are equal once they are prepared.

    Args:
        frame: features and protected attributes, as words and numbers.
        labels: label of each row, which must be equal too.
        flags: columns of which only a flag is left after the preparation, and the values for which it is 1.
        duplicates: "keep" or "drop".

    Example:
        >>> frame = pd.DataFrame({"age": [30, 30, 30], "race": ["Black", "Other", "White"]})
        >>> without_duplicates(frame, pd.Series([0, 0, 0]), {"race": ["White"]}, "drop").index.tolist()
        [0, 2]
    """
    if duplicates == "keep":
        return frame
    prepared = frame.assign(**{column: frame[column].isin(list(values)) for column, values in flags.items()})
    return frame[~prepared.assign(**{"the label": labels}).duplicated()]


def merged_attributes(privileged: Mapping[str, list[str]], protected: Protected) -> dict[str, list[str]]:
    """Return the attributes whose unprivileged values are not distinguished, with their privileged values."""
    named = () if protected is None else (protected,) if isinstance(protected, str) else tuple(protected)
    return {name: values for name, values in privileged.items() if name not in named}


def check_duplicates(duplicates: str) -> None:
    """Check the treatment of duplicates, before any file is read."""
    if duplicates not in ("keep", "drop"):
        raise ValueError(f"duplicates must be 'keep' or 'drop', found {duplicates!r}")


def read_headed(file: Path, columns: Sequence[str], numbers: Sequence[str], **options: Any) -> pd.DataFrame:
    """Read the given columns of a file with a header line."""
    frame = _read(file, header=0, **options)
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(
            f"{file}, line 1 (its header), lacks the columns {', '.join(missing)} "
            f"(found {', '.join(map(str, frame.columns[:30]))}): "
            "the publisher may have changed it, or it is another file of that name"
        )
    frame = frame[list(columns)].copy()
    _numeric(frame, numbers, file)
    return frame


def read_headless(file: Path, columns: Sequence[str], numbers: Sequence[str], **options: Any) -> pd.DataFrame:
    """Read a file without a header line, and check that it has one column per name."""
    frame = _read(file, header=None, **options)
    if frame.shape[1] != len(columns):
        raise DataError(
            f"{file} has {frame.shape[1]} columns, expected {len(columns)} ({', '.join(columns)}): "
            "the publisher may have changed it, or it is another file of that name"
        )
    frame = frame.set_axis(list(columns), axis=1)
    _numeric(frame, numbers, file)
    return frame


def _read(file: Path, **options: Any) -> pd.DataFrame:
    """Read a file with pandas, indexed by the line numbers of the records; spaces at line ends are ignored."""
    try:
        lines = [line.rstrip(" \t\r") for line in file.read_text(encoding="utf-8-sig").split("\n")]
        if lines[0].startswith("|"):  # the first line of adult.test is not a record
            lines[0] = ""
        frame = pd.read_csv(io.StringIO("\n".join(lines)), low_memory=False, **options)
    except (ValueError, OSError) as error:
        raise DataError(
            f"{file} cannot be read ({' '.join(str(error).split())}): correct that line, or download the file "
            "again from its publisher"
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{file} has more fields in its records than names in line 1, its header: download it again")
    if frame.empty:
        raise DataError(f"{file} has no records: download it again from its publisher")
    filled = [i for i, line in enumerate(lines, start=1) if line][0 if options["header"] is None else 1 :]
    # Fields may contain line ends; in that case, records are numbered instead of lines.
    frame.index = pd.Index(filled if len(filled) == len(frame) else range(1, len(frame) + 1))
    frame.index.name = "line" if len(filled) == len(frame) else "record"
    return frame


def _numeric(frame: pd.DataFrame, columns: Sequence[str], file: Path) -> None:
    """Convert columns to numbers; reject words, such as those of a header line in a file that should have none."""
    for column in columns:
        if pd.api.types.is_numeric_dtype(frame[column]):
            continue
        wrong = frame[column][pd.to_numeric(frame[column], errors="coerce").isna() & frame[column].notna()]
        if len(wrong):
            raise DataError(
                f"{file}, {frame.index.name} {wrong.index[0]}, column {column}: expected a number, found "
                f"{wrong.iloc[0]!r}. Correct it, remove the line if it is a header that does not belong there, or get "
                "the file again from its publisher"
            )
        frame[column] = pd.to_numeric(frame[column])


def check_known(
    frame: pd.DataFrame, column: str, known: Sequence[object], file: Path, *, missing: bool = False
) -> None:
    """Replace a column's words by their known spelling, ignoring case, and reject all others."""
    values = frame[column]
    if not pd.api.types.is_numeric_dtype(values):
        spelled = {str(word).casefold(): word for word in known}
        words = values.astype(object).map(lambda word: str(word).strip(), na_action="ignore")
        values = words.map(lambda word: spelled.get(word.casefold(), word), na_action="ignore")
        frame[column] = values
    wrong = frame[column][~values.isin(list(known)) & ~(values.isna() & missing)]
    if len(wrong):
        word = wrong.astype(object).iloc[0]
        raise DataError(
            f"{file}, {frame.index.name} {wrong.index[0]}, column {column}: unknown value {word!r} (known: "
            f"{', '.join(map(str, known))}). Correct it, or download the file again from its publisher"
        )


def standard_dataset(name: str) -> Any:
    """Import AIF360's class that prepares tables."""
    try:
        from aif360.datasets import StandardDataset  # the import takes seconds, so it is done only when needed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} is prepared by AIF360: install it with `pip install aif360`") from error
    return StandardDataset


def from_standard(
    name: str,
    frame: pd.DataFrame,
    *,
    label: str,
    favorable: Sequence[object],
    privileged: Mapping[str, list[str] | Callable[[Any], Any]],
    categorical: Sequence[str],
    protected: str,
    groups: Groups | None = None,
    classes: tuple[pd.Series, tuple[str, ...]] | None = None,
) -> Dataset:
    """Prepare a frame with AIF360; `groups` and `classes`, if given, replace the groups and labels of complete rows."""
    StandardDataset = standard_dataset(name)
    # AIF360 would drop these rows too, but with a warning on the root logger.
    complete = frame.dropna()
    # AIF360 accepts strings as objects only, not as the dtype that pandas 3 infers.
    words = {column: object for column in frame if not pd.api.types.is_numeric_dtype(complete[column])}
    table = StandardDataset(
        complete.astype(words),
        label_name=label,
        favorable_classes=list(favorable),
        protected_attribute_names=list(privileged),
        privileged_classes=list(privileged.values()),
        categorical_features=list(categorical),
    )
    group = table.protected_attributes[:, table.protected_attribute_names.index(protected)]
    # AIF360 keeps 0/1 and 1/2 labels and codes others as 1 = favorable, so 1 is the class to predict in all cases.
    label_is_one = np.ravel(table.labels) == 1
    return from_arrays(
        table.features,
        label_is_one if classes is None else classes[0].to_numpy(),
        group if groups is None else groups,
        name=name,
        features=table.feature_names,
        protected=protected if groups is None else None,
        classes=None if classes is None else classes[1],
    )
