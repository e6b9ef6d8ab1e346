"""Bank marketing: predict whether a client subscribes to a term deposit."""

from typing import Any

import pandas as pd

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.datasets.files import UCI, PathLike, RawFile, find
from fairjax.datasets.reading import check_known, from_standard, read_headed

BANK_FILES = {
    "bank-additional-full.csv": RawFile(
        "bank/bank-additional-full.csv",
        "74adfc578bf77a7ff4bb1ba4a9f8709d9e3c6907342959c2c8416847e0afb4d8",
        f"{UCI}/00222/bank-additional.zip",
        "bank-additional/bank-additional-full.csv",
    ),
    "bank-full.csv": RawFile(
        "bank/bank-full.csv",
        "d1513ec63b385506f7cfce9f2c5caa9fe99e7ba4e8c3fa264b3aaf0f849ed32d",
        f"{UCI}/00222/bank.zip",
        "bank-full.csv",
    ),
}
"""The raw files, by name."""

BANK_COLUMNS = (
    "age", "job", "marital", "education", "default", "housing", "loan", "contact", "month", "day_of_week", "duration",
    "campaign", "pdays", "previous", "poutcome", "emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m",
    "nr.employed", "y",
)  # fmt: skip
"""Columns of `bank-additional-full.csv`."""

BANK_FULL_COLUMNS = (
    "age", "job", "marital", "education", "default", "balance", "housing", "loan", "contact", "day", "month",
    "duration", "campaign", "pdays", "previous", "poutcome", "y",
)  # fmt: skip
"""Columns of `bank-full.csv`."""


def bank(path: PathLike | None = None, *, verify: bool = True) -> Dataset:
    """Load the bank marketing data: predict the subscription to a term deposit. Protected: age, 1 = 25 and older.

    The file `bank-additional-full.csv` gives 30,488 rows and 57 features, as in AIF360's `BankDataset` up to version
    0.4; later versions also count clients of 60 and older as unprivileged. Only 2.8 % of the clients are younger than
    25, so estimates of bias are noisy.

    Args:
        path: The file, or its folder; if omitted, `fairjax.datasets.find` looks for it.
        verify: Whether to reject a file whose checksum is not the expected one.

    Returns:
        The data set; y is 1 for clients who subscribed.

    Raises:
        FileNotFoundError: If the file is not found and cannot be downloaded.
        DataError: If the file does not have the expected checksum or columns.
        ModuleNotFoundError: If AIF360 is not installed.

    Example:
        >>> bank().x.shape  # doctest: +SKIP
        (30488, 57)

    References:
        Moro, Cortez, Rita (2014), A data-driven approach to predict the success of bank telemarketing, Decision Support
        Systems 62, https://doi.org/10.1016/j.dss.2014.03.001
    """
    file = find(BANK_FILES["bank-additional-full.csv"], path, verify=verify)
    raw = read_headed(file, BANK_COLUMNS, ("age", "duration", "campaign", "pdays"), sep=";", na_values=["unknown"])
    check_known(raw, "y", ("no", "yes"), file)
    return from_standard(
        "bank",
        raw,
        label="y",
        favorable=("yes",),
        privileged={"age": _at_least_25},
        categorical=(
            "job", "marital", "education", "default", "housing", "loan", "contact", "month", "day_of_week", "poutcome",
        ),
        protected="age",
    )  # fmt: skip


def bank_full(path: PathLike | None = None, *, verify: bool = True) -> Dataset:
    """Load the older and larger release of the bank marketing data. Protected: age, 1 = 25 and older.

    The file `bank-full.csv` gives 45,211 rows and 51 features. No row is dropped: "unknown" is one more category, and
    the age in years remains a feature. AIF360 has no loader for this file and is not needed.

    Args:
        path: The file, or its folder; if omitted, `fairjax.datasets.find` looks for it.
        verify: Whether to reject a file whose checksum is not the expected one.

    Returns:
        The data set; y is 1 for clients who subscribed.

    Raises:
        FileNotFoundError: If the file is not found and cannot be downloaded.
        DataError: If the file does not have the expected checksum or columns.

    Example:
        >>> bank_full().x.shape  # doctest: +SKIP
        (45211, 51)

    References:
        Moro, Rita, Cortez (2012), Bank Marketing, UCI Machine Learning Repository, https://doi.org/10.24432/C5K306
    """
    file = find(BANK_FILES["bank-full.csv"], path, verify=verify)
    numbers = ("age", "balance", "day", "duration", "campaign", "pdays", "previous")
    raw = read_headed(file, BANK_FULL_COLUMNS, numbers, sep=";")
    check_known(raw, "y", ("no", "yes"), file)
    words = ["job", "marital", "education", "default", "housing", "loan", "contact", "month", "poutcome"]
    encoded = pd.get_dummies(raw.drop(columns="y"), columns=words, prefix_sep="=")
    return from_arrays(encoded, raw["y"] == "yes", _at_least_25(raw["age"]), name="bank_full", protected="age")


def _at_least_25(age: Any) -> Any:
    """Return whether an age, or each age of a column, belongs to Bank's privileged group."""
    return age >= 25
