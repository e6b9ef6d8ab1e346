"""German credit: predict good credit."""

from fairjax.data.dataset import Dataset
from fairjax.datasets.files import UCI, PathLike, RawFile, find
from fairjax.datasets.reading import check_known, from_standard, read_headless, standard_dataset

GERMAN_FILES = {
    "german.data": RawFile(
        "german/german.data",
        "b21f3d81db8071257d5ff1deaeba1fd4303b62712e6fcc9715c7a86202cb5871",
        f"{UCI}/statlog/german/german.data",
    ),
}
"""The raw files, by name."""

GERMAN_COLUMNS = (
    "status", "month", "credit_history", "purpose", "credit_amount", "savings", "employment",
    "investment_as_income_percentage", "personal_status", "other_debtors", "residence_since", "property", "age",
    "installment_plans", "housing", "number_of_credits", "skill_level", "people_liable_for", "telephone",
    "foreign_worker", "credit",
)  # fmt: skip
"""Columns of `german.data`, which has no header, named as in AIF360."""

GERMAN_SEX = {"A91": "male", "A92": "female", "A93": "male", "A94": "male", "A95": "female"}
"""Sex by code of the column `personal_status`."""

GERMAN_NUMBERS = (
    "month", "credit_amount", "investment_as_income_percentage", "residence_since", "age", "number_of_credits",
    "people_liable_for", "credit",
)  # fmt: skip


def german(path: PathLike | None = None, protected: str = "sex", *, verify: bool = True) -> Dataset:
    """Load the German credit data: predict good credit risks. Protected: sex, 1 = male, or age, 1 = older than 25.

    There are 1,000 rows and 58 features, as in AIF360's `GermanDataset`. The file's labels are 1 (good) and 2 (bad).

    Args:
        path: The file, or its folder; if omitted, `fairjax.datasets.find` looks for it.
        protected: The protected attribute, "sex" or "age".
        verify: Whether to reject a file whose checksum is not the expected one.

    Returns:
        The data set; y is 1 for good risks.

    Raises:
        ValueError: If `protected` is neither "sex" nor "age".
        FileNotFoundError: If the file is not found and cannot be downloaded.
        DataError: If the file does not have the expected checksum or columns.
        ModuleNotFoundError: If AIF360 is not installed.

    Example:
        >>> german(protected="age").x.shape  # doctest: +SKIP
        (1000, 58)

    References:
        Hofmann (1994), Statlog (German Credit Data), UCI Machine Learning Repository, https://doi.org/10.24432/C5NC77
    """
    if protected not in ("sex", "age"):
        raise ValueError(f"protected must be 'sex' or 'age', found {protected!r}")
    standard_dataset("german")
    file = find(GERMAN_FILES["german.data"], path, verify=verify)
    raw = read_headless(file, GERMAN_COLUMNS, GERMAN_NUMBERS, sep=" ")
    check_known(raw, "credit", (1, 2), file)
    check_known(raw, "personal_status", tuple(GERMAN_SEX), file)
    frame = raw.assign(sex=raw["personal_status"].map(GERMAN_SEX.get)).drop(columns="personal_status")
    return from_standard(
        "german",
        frame,
        label="credit",
        favorable=(1,),
        privileged={"sex": ["male"], "age": lambda age: age > 25},
        categorical=(
            "status", "credit_history", "purpose", "savings", "employment", "other_debtors", "property",
            "installment_plans", "housing", "skill_level", "telephone", "foreign_worker",
        ),
        protected=protected,
    )  # fmt: skip
