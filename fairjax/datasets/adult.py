"""Adult: predict an income above 50,000 dollars."""

from typing import Any

import pandas as pd

from fairjax.data.dataset import Dataset
from fairjax.datasets.files import UCI, DataError, PathLike, RawFile, find, user_path
from fairjax.datasets.reading import (
    Protected,
    check_choices,
    check_duplicates,
    check_known,
    from_standard,
    merged_attributes,
    named_groups,
    read_headless,
    without_duplicates,
)

ADULT_FILES = {
    "adult.data": RawFile(
        "adult/adult.data",
        "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
        f"{UCI}/adult/adult.data",
    ),
    "adult.test": RawFile(
        "adult/adult.test",
        "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
        f"{UCI}/adult/adult.test",
    ),
}
"""The raw files, by name."""

ADULT_COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income-per-year",
)  # fmt: skip
"""Columns of `adult.data`, which has no header, named as in `adult.names`."""

ADULT_FORMAT: dict[str, Any] = {"skipinitialspace": True, "na_values": ["?"]}
"""Options of `pandas.read_csv` for Adult's files."""


ADULT_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
ADULT_WORDS = {
    "income-per-year": ("<=50K", ">50K"),
    "sex": ("Male", "Female"),
    "race": ("White", "Black", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other"),
}
ADULT_OCCUPATIONS = {
    "managerial": ("Exec-managerial",),
    "professional": ("Prof-specialty", "Tech-support"),
    "clerical": ("Adm-clerical",),
    "sales": ("Sales",),
    "manual": ("Craft-repair", "Machine-op-inspct", "Transport-moving", "Handlers-cleaners", "Farming-fishing"),
    "service": ("Other-service", "Priv-house-serv", "Protective-serv", "Armed-Forces"),
}
"""Classes of the label "occupation" of Adult, and the values in the file that belong to each."""


def adult(
    path: PathLike | None = None,
    protected: Protected = None,
    target: str = "income",
    *,
    intersect: bool = True,
    minimum: int = 50,
    small: str = "leave out",
    duplicates: str = "keep",
    verify: bool = True,
) -> Dataset:
    """Load Adult (census income): predict an income above 50,000 dollars per year. Protected: sex, 1 = male.

    The training and the test file together have 45,222 rows and 98 features, as in AIF360's `AdultDataset`; 39,182
    of the rows differ from each other. With occupation as the label there are six classes, `ADULT_OCCUPATIONS`, and
    neither the occupation nor the income is among the features.

    Args:
        path: Folder with `adult.data` and `adult.test`; if omitted, `fairjax.datasets.find` looks for the files.
        protected: "race", "sex", or both, to distinguish all their groups; sex, 1 = male, if omitted.
        target: The label, "income" or "occupation".
        intersect: Whether several attributes are intersected; see `fairjax.data.groups`.
        minimum: Least number of rows for a group to be compared.
        small: Treatment of smaller groups; see `fairjax.data.groups`.
        duplicates: "keep" all rows, or "drop" every row whose features and label, as prepared, are those of an earlier
            one. Attributes in `protected` are compared by name, others by whether they are privileged.
        verify: Whether to reject files whose checksum is not the expected one.

    Returns:
        The data set; y is 1 for an income above 50K, or the code of the occupation.

    Raises:
        ValueError: If there is no such attribute or target.
        FileNotFoundError: If a file is not found and cannot be downloaded.
        DataError: If a file does not have the expected checksum or columns.
        ModuleNotFoundError: If AIF360 is not installed.

    Example:
        >>> adult().x.shape  # doctest: +SKIP
        (45222, 98)

    References:
        Becker, Kohavi (1996), Adult, UCI Machine Learning Repository, https://doi.org/10.24432/C5XW20
    """
    check_choices(protected, ("race", "sex"), target, ("income", "occupation"))
    check_duplicates(duplicates)
    if path is not None and user_path(path).is_file():
        raise DataError(f"adult has two files, adult.data and adult.test: pass their folder, found the file {path}")
    parts = []
    for name in ("adult.test", "adult.data"):
        file = find(ADULT_FILES[name], path, verify=verify)
        part = read_headless(file, ADULT_COLUMNS, ADULT_NUMBERS, **ADULT_FORMAT)
        labels = part["income-per-year"].astype(object)
        part["income-per-year"] = labels.map(lambda word: word.strip().removesuffix("."), na_action="ignore")
        for column, words in ADULT_WORDS.items():
            check_known(part, column, words, file, missing=column != "income-per-year")
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True).drop(columns="fnlwgt").dropna()
    categorical = ["workclass", "education", "marital-status", "occupation", "relationship", "native-country"]
    privileged = {"race": ["White"], "sex": ["Male"]}
    labels, classes = None, ()
    if target == "occupation":
        categorical.remove("occupation")
        class_of = {word: name for name, occupations in ADULT_OCCUPATIONS.items() for word in occupations}
        labels, classes = frame.pop("occupation").map(class_of), tuple(ADULT_OCCUPATIONS)
        if labels.isna().any():
            raise DataError(
                "adult.data or adult.test has an unknown occupation: download them again from their publisher"
            )
    flags = merged_attributes(privileged, protected)
    compared = frame.drop(columns="income-per-year")
    compared = without_duplicates(compared, frame["income-per-year"] if labels is None else labels, flags, duplicates)
    frame, labels = frame.loc[compared.index], None if labels is None else labels[compared.index]
    return from_standard(
        "adult" if labels is None else "adult_occupation",
        frame,
        label="income-per-year",
        favorable=(">50K",),
        privileged=privileged,
        categorical=categorical,
        protected="sex",
        groups=named_groups(frame, protected, {"race": "White", "sex": "Male"}, intersect, minimum, small),
        classes=None if labels is None else (labels, classes),
    )
