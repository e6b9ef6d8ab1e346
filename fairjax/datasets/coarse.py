"""Adult and COMPAS with a few discrete features, for optimized pre-processing."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.datasets.adult import ADULT_COLUMNS, ADULT_FILES, ADULT_FORMAT, ADULT_NUMBERS, ADULT_WORDS
from fairjax.datasets.compas import COMPAS_COLUMNS, COMPAS_FILES, COMPAS_FILTER, COMPAS_NUMBERS, COMPAS_WORDS
from fairjax.datasets.files import PathLike, find
from fairjax.datasets.reading import check_known, read_headed, read_headless


def coarse_adult(path: PathLike | None = None, *, verify: bool = True) -> Dataset:
    """Load Adult with three discrete features: decade of age, years of education, and race.

    There are all 48,842 rows and 17 columns: seven decades of age, "10" to ">=70"; nine classes of the years of
    education, "<6", "6" to "12" and ">12"; and whether the race is White. The protected attribute is sex, 1 = male,
    which is not a feature, and y = 1 is an income above 50,000 dollars.

    Args:
        path: Folder with `adult.data` and `adult.test`; if omitted, `fairjax.datasets.find` looks for the files.
        verify: Whether to reject files whose checksum is not the expected one.

    Raises:
        FileNotFoundError: If a file is not found and cannot be downloaded.
        DataError: If a file does not have the expected checksum or columns.

    Example:
        >>> coarse_adult().x.shape  # doctest: +SKIP
        (48842, 17)

    References:
        Calmon, Wei, Vinzamuri, Natesan Ramamurthy, Varshney (2017), Optimized pre-processing for discrimination
        prevention, NeurIPS, supplementary material 4.3
    """
    parts = []
    for name in ("adult.test", "adult.data"):
        file = find(ADULT_FILES[name], path, verify=verify)
        part = read_headless(file, ADULT_COLUMNS, ADULT_NUMBERS, **ADULT_FORMAT)
        labels = part["income-per-year"].astype(object)
        part["income-per-year"] = labels.map(lambda word: word.strip().removesuffix("."), na_action="ignore")
        for column in ("income-per-year", "sex", "race"):
            check_known(part, column, ADULT_WORDS[column], file)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    decades = (frame["age"] // 10 * 10).astype(int)
    years = frame["education-num"].astype(int)
    return _coarse(
        "adult_coarse",
        {
            "age": (decades.astype(str).mask(decades >= 70, ">=70"), ("10", "20", "30", "40", "50", "60", ">=70")),
            "education": (
                years.astype(str).mask(years <= 5, "<6").mask(years >= 13, ">12"),
                ("<6", "6", "7", "8", "9", "10", "11", "12", ">12"),
            ),
        },
        {"race": frame["race"] == "White"},
        frame["income-per-year"] == ">50K",
        frame["sex"] == "Male",
        "sex",
    )


def coarse_compas(path: PathLike | None = None, *, verify: bool = True) -> Dataset:
    """Load COMPAS with four discrete features: category of age, number of priors, degree of the charge, and sex.

    There are the 5,278 African-American and Caucasian defendants and 9 columns: three categories of age; no priors, "1
    to 3" or "More than 3"; felony or misdemeanour; and whether the sex is female. The protected attribute is race, 1 =
    Caucasian, which is not a feature, and y = 1 is recidivism within two years.

    Args:
        path: The file, or its folder; if omitted, `fairjax.datasets.find` looks for it.
        verify: Whether to reject a file whose checksum is not the expected one.

    Raises:
        FileNotFoundError: If the file is not found and cannot be downloaded.
        DataError: If the file does not have the expected checksum or columns.

    Example:
        >>> coarse_compas().x.shape  # doctest: +SKIP
        (5278, 9)

    References:
        Calmon, Wei, Vinzamuri, Natesan Ramamurthy, Varshney (2017), Optimized pre-processing for discrimination
        prevention, NeurIPS, supplementary material 4.3
    """
    file = find(COMPAS_FILES["compas-scores-two-years.csv"], path, verify=verify)
    raw = read_headed(file, (*COMPAS_COLUMNS, *COMPAS_FILTER), COMPAS_NUMBERS)
    for column, words in COMPAS_WORDS.items():
        check_known(raw, column, words, file)
    frame = raw[
        raw["days_b_screening_arrest"].between(-30, 30)
        & (raw["is_recid"] != -1)
        & (raw["c_charge_degree"] != "O")
        & (raw["score_text"] != "N/A")
        & raw["race"].isin(["African-American", "Caucasian"])
    ]
    priors = frame["priors_count"]
    return _coarse(
        "compas_coarse",
        {
            "age_cat": (frame["age_cat"], ("Less than 25", "25 - 45", "Greater than 45")),
            "priors_count": (
                pd.Series(np.select([priors <= 0, priors <= 3], ["0", "1 to 3"], "More than 3"), frame.index),
                ("0", "1 to 3", "More than 3"),
            ),
            "c_charge_degree": (frame["c_charge_degree"], ("F", "M")),
        },
        {"sex": frame["sex"] == "Female"},
        frame["two_year_recid"] == 1,
        frame["race"] == "Caucasian",
        "race",
    )


def _coarse(
    name: str,
    categories: Mapping[str, tuple[pd.Series, Sequence[str]]],
    flags: Mapping[str, pd.Series],
    y: pd.Series,
    a: pd.Series,
    protected: str,
) -> Dataset:
    """Make a data set of one-hot codes and flags."""
    columns = {
        f"{variable}={value}": (values == value).to_numpy(np.float32)
        for variable, (values, known) in categories.items()
        for value in known
    } | {variable: flag.to_numpy(np.float32) for variable, flag in flags.items()}
    x = np.stack(list(columns.values()), axis=1)
    return from_arrays(x, y.to_numpy(bool), a.to_numpy(bool), name=name, features=tuple(columns), protected=protected)
