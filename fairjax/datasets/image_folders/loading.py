"""Load a folder of images as a data set."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.data.encoder import tidied
from fairjax.data.expressions import Attribute, Condition, check_columns
from fairjax.data.images import Colours, decode_images
from fairjax.data.own_table import Rows, TableColumns, groups_of_table, label_of_table
from fairjax.datasets.files import PathLike, user_path
from fairjax.datasets.image_folders.layouts import FILE, LAYOUTS, AttributeTable, image_files


class ImageData(NamedTuple):
    """Images with labels and groups, ready to be split."""

    dataset: Dataset
    """The data set; its features are memory-mapped bytes (n, h, w, c)."""
    identities: np.ndarray | None
    """The code of the person of each image, for `split_seeds(identities=)`; None if none was asked for."""
    files: tuple[str, ...]
    """The file of each image, relative to the folder."""
    warnings: tuple[str, ...]
    """What was left out, in sentences."""


def image_folder(
    folder: PathLike,
    layout: str,
    label: str,
    protected: str | Sequence[str],
    *,
    positive: str | None = None,
    privileged: str | None = None,
    split_by: str | None = None,
    size: int | tuple[int, int] | None = None,
    colours: Colours = "RGB",
    uncertain: Literal["raise", "negative", "positive", "leave out"] = "raise",
    incomplete: Literal["raise", "leave out"] = "raise",
    on_unreadable: Literal["raise", "skip"] = "raise",
    intersect: bool = True,
    minimum: int = 1,
    small: str = "leave out",
    cache: PathLike | None = None,
    name: str | None = None,
) -> ImageData:
    """Load a folder of images whose attributes are those of a layout.

    Label and groups are chosen as for tables: by the name of an attribute, by a condition such as `age>=60`, and for
    groups also by edges, as in `age:25,60`. Images are decoded once; see `fairjax.data.decode_images`.

    Args:
        folder: the folder.
        layout: one of `LAYOUTS`: celeba, utkface, fairface, chexpert, mimic_cxr, or csv for a csv file with a column
            `file` and any other columns.
        label: the attribute that is predicted, or a condition.
        protected: the attributes that define the groups.
        positive: the positive value of the label. Not needed for 0 and 1.
        privileged: the privileged value of the one protected attribute; if omitted, all its groups are compared.
        split_by: the column of persons, such as "person", whose codes are returned for `split_seeds(identities=)`.
        size: height and width to which images are resized; not needed if all images have one size.
        colours: whether images have three channels or one.
        uncertain: what to do with labels that are uncertain (-1 in CheXpert and MIMIC-CXR-JPG): stop, take them as
            negative or as positive, or leave the images out. A finding that is not mentioned is negative.
        incomplete: what to do with images without attributes, attributes without an image, and images without a value
            of a chosen attribute: stop, or leave them out.
        on_unreadable: what to do with images that cannot be decoded: stop, or leave them out.
        intersect: whether the groups of several attributes are their intersections.
        minimum: least number of images of a group that is compared.
        small: what to do with smaller groups; see `fairjax.data.groups`.
        cache: folder in which decoded images are kept; the user's cache folder if omitted.
        name: name of the data set; that of the folder if omitted.

    Returns:
        The data set, the persons, and the files. What is left out is also a warning of Python.

    Raises:
        FileNotFoundError: if the folder, its attributes or its images do not exist.
        ValueError: if an attribute does not exist or lacks values, or images cannot be used; the message says what to
            do.
        ModuleNotFoundError: if Pillow is not installed.

    Example:
        >>> image_folder("faces", "celeba", "Smiling", "Male", size=64)  # doctest: +SKIP
        ImageData(...)

    References:
        Liu, Luo, Wang, Tang (2015), Deep learning face attributes in the wild, ICCV, for CelebA
        Zhang, Song, Qi (2017), Age progression by conditional adversarial autoencoder, CVPR, for UTKFace
        Karkkainen, Joo (2021), FairFace: face attribute dataset for balanced race, gender, and age, WACV
        Irvin et al. (2019), CheXpert: a large chest radiograph dataset with uncertainty labels, AAAI
        Johnson et al. (2019), MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs
    """
    root = user_path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: pass the folder of the images and their attributes")
    _check_choice("layout", layout, tuple(LAYOUTS))
    _check_choice("uncertain", uncertain, ("raise", "negative", "positive", "leave out"))
    _check_choice("incomplete", incomplete, ("raise", "leave out"))
    columns = TableColumns(
        label=label,
        protected=(protected,) if isinstance(protected, str) else tuple(protected),
        positive=positive,
        privileged=privileged,
        split_by=split_by,
    )
    notes: list[str] = []
    table = _matched(root, LAYOUTS[layout].read(root), incomplete, notes)
    frame = _decided(table, columns, uncertain, notes)
    frame = _complete(frame, table, columns, incomplete, notes)
    _label_and_groups(frame, table, columns, intersect, minimum, small)  # before the images are decoded
    images = decode_images(
        root, list(frame[FILE]), size=size, colours=colours, on_unreadable=on_unreadable, cache=cache
    )
    if len(images.files) < len(frame):
        notes.append(f"{len(frame) - len(images.files):,} images cannot be decoded and are left out")
        frame = frame.iloc[list(images.files)].reset_index(drop=True)
    y, a, attributes = _label_and_groups(frame, table, columns, intersect, minimum, small)
    dataset = from_arrays(images.pixels, y, a, name=name or root.resolve().name, protected=" and ".join(attributes))
    identities = None if split_by is None else pd.factorize(tidied(frame[split_by])[0])[0].astype(np.int32)
    for note in notes:
        warnings.warn(f"{root}: {note}", stacklevel=2)
    return ImageData(dataset, identities, tuple(frame[FILE]), tuple(notes))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _matched(root: Path, table: AttributeTable, incomplete: str, notes: list[str]) -> AttributeTable:
    """Check that every image has attributes and every row an image, or leave the others out."""
    repeated = table.frame[FILE].duplicated()
    if repeated.any():
        name = table.frame[FILE][int(repeated.to_numpy().argmax())]
        raise ValueError(f"{table.source} has two rows of {name}: remove one of them")
    present = image_files(root, table.images)
    listed, there = set(table.frame[FILE]), set(present)
    without_row = [name for name in present if name not in listed]
    without_image = [name for name in table.frame[FILE] if name not in there]
    if len(without_image) == len(table.frame):
        raise FileNotFoundError(
            f"none of the {len(table.frame):,} images of {table.source} is in {root}, for example "
            f"{without_image[0]}: pass the folder to which these names are relative"
        )
    for names, count, what in (
        (without_row, len(present), "images have no row in the table of attributes"),
        (without_image, len(table.frame), "rows of the table of attributes have no image"),
    ):
        if names and incomplete == "raise":
            raise ValueError(
                f"{len(names):,} of {count:,} {what}, {table.source}, the first of them {names[0]}: complete it, or "
                'leave them out with incomplete="leave out", on the command line --incomplete "leave out"'
            )
        if names:
            notes.append(f"{len(names):,} of {count:,} {what} and are left out")
    kept = ~table.frame[FILE].isin(without_image)
    return table._replace(frame=table.frame[kept].reset_index(drop=True))


def _used(table: AttributeTable, columns: TableColumns) -> list[str]:
    """Return the columns of label, groups and persons, after checking that they exist."""
    names = [name for name in table.frame.columns if name != FILE]
    condition = Condition.parse(columns.label, names, table.source)
    used = [columns.label if condition is None else condition.column]
    for each in columns.protected:
        condition = Condition.parse(each, names, table.source)
        attribute = Attribute.parse(each, names, table.source) if condition is None else condition
        used.append(attribute.column)
    used += [] if columns.split_by is None else [columns.split_by]
    check_columns(used, names, table.source)
    return list(dict.fromkeys(used))


def _decided(table: AttributeTable, columns: TableColumns, uncertain: str, notes: list[str]) -> pd.DataFrame:
    """Decide what labels are that the layout calls uncertain."""
    frame = table.frame.copy()
    names = [name for name in _used(table, columns) if name in table.uncertain]
    for name in names:
        doubtful = (frame[name] == "-1").to_numpy()
        if not doubtful.any():
            continue
        count = f"{int(doubtful.sum()):,} of {len(frame):,} rows"
        if uncertain == "raise":
            raise ValueError(
                f'{name} is uncertain (-1) in {count}: choose uncertain="negative", "positive" or "leave out", on the '
                "command line --uncertain"
            )
        if uncertain == "leave out":
            notes.append(f"{name} is uncertain in {count}, which are left out")
            frame = frame[~doubtful].reset_index(drop=True)
        else:
            frame.loc[doubtful, name] = "1" if uncertain == "positive" else "0"
    return frame


def _complete(
    frame: pd.DataFrame, table: AttributeTable, columns: TableColumns, incomplete: str, notes: list[str]
) -> pd.DataFrame:
    """Check that every image has a value of each chosen attribute, or leave the others out."""
    for name in _used(table, columns):
        absent = tidied(frame[name])[1]
        if not absent.any():
            continue
        count = f"{int(absent.sum()):,} of {len(frame):,} images"
        if incomplete == "raise":
            first = frame[FILE][int(np.argmax(absent))]
            raise ValueError(
                f"{name} has no value for {count}, the first of them {first}: leave them out with "
                'incomplete="leave out", on the command line --incomplete "leave out"'
            )
        notes.append(f"{name} has no value for {count}, which are left out")
        frame = frame.loc[~absent].reset_index(drop=True)
    return frame


def _label_and_groups(
    frame: pd.DataFrame, table: AttributeTable, columns: TableColumns, intersect: bool, minimum: int, small: str
) -> tuple[np.ndarray, Any, list[str]]:
    rows = Rows(frame.drop(columns=FILE), frame[[FILE]], table.source, lambda row: f"the row of {frame[FILE][row]}")
    y, _ = label_of_table(rows, columns.label, columns.positive)
    a, attributes = groups_of_table(rows, columns, intersect, minimum, small)
    return y, a, attributes
