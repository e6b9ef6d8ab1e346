"""COMPAS: predict recidivism within two years."""

from fairjax.data.dataset import Dataset
from fairjax.datasets.files import PathLike, RawFile, find
from fairjax.datasets.reading import (
    Protected,
    check_choices,
    check_duplicates,
    check_known,
    from_standard,
    merged_attributes,
    named_groups,
    read_headed,
    without_duplicates,
)

COMPAS_FILES = {
    "compas-scores-two-years.csv": RawFile(
        "compas/compas-scores-two-years.csv",
        "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d",
        "https://raw.githubusercontent.com/propublica/compas-analysis/master/compas-scores-two-years.csv",
    ),
}
"""The raw files, by name."""

COMPAS_COLUMNS = (
    "sex", "age", "age_cat", "race", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count",
    "c_charge_degree", "c_charge_desc", "two_year_recid",
)  # fmt: skip
"""Columns of ProPublica's file that are used."""

COMPAS_FILTER = ("days_b_screening_arrest", "is_recid", "score_text")
"""Columns of ProPublica's file that determine, with the degree of the charge, which rows are used."""
COMPAS_NUMBERS = (
    "age", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count", "two_year_recid",
    "days_b_screening_arrest", "is_recid",
)  # fmt: skip
COMPAS_WORDS = {
    "sex": ("Male", "Female"),
    "race": ("African-American", "Caucasian", "Hispanic", "Asian", "Native American", "Other"),
}

COMPAS_SCORES = ("Low", "Medium", "High")
"""Classes of the label "score_text", COMPAS's own score."""


def compas(
    path: PathLike | None = None,
    protected: Protected = None,
    target: str = "two_year_recid",
    *,
    intersect: bool = True,
    minimum: int = 50,
    small: str = "leave out",
    duplicates: str = "keep",
    verify: bool = True,
) -> Dataset:
    """Load COMPAS (ProPublica): predict reoffending within two years. Protected: race, 1 = Caucasian.

    After ProPublica's own filter there are 6,167 rows and 401 features, as in AIF360's `CompasDataset`; 5,404 of
    the rows differ from each other. Note the polarity: y = 1 is recidivism, as coded in the file, although AIF360 calls
    0 the favorable label. With COMPAS's own score as the label there are three classes, `COMPAS_SCORES`, and the same
    features.

    Args:
        path: The file, or its folder; if omitted, `fairjax.datasets.find` looks for it.
        protected: "race", "sex", or both, to distinguish all their groups; race, 1 = Caucasian, if omitted.
        target: The label, "two_year_recid" or "score_text".
        intersect: Whether several attributes are intersected; see `fairjax.data.groups`.
        minimum: Least number of rows for a group to be compared.
        small: Treatment of smaller groups; see `fairjax.data.groups`.
        duplicates: "keep" all rows, or "drop" every row whose features and label, as prepared, are those of an earlier
            one. Attributes in `protected` are compared by name, others by whether they are privileged.
        verify: Whether to reject a file whose checksum is not the expected one, such as a copy with other line ends.

    Returns:
        The data set; y is 1 for defendants who reoffended, or the code of the score.

    Raises:
        ValueError: If there is no such attribute or target.
        FileNotFoundError: If the file is not found and cannot be downloaded.
        DataError: If the file does not have the expected checksum or columns.
        ModuleNotFoundError: If AIF360 is not installed.

    Example:
        >>> compas().x.shape  # doctest: +SKIP
        (6167, 401)

    References:
        Larson, Mattu, Kirchner, Angwin (2016), How we analyzed the COMPAS recidivism algorithm, ProPublica,
        https://github.com/propublica/compas-analysis
    """
    check_choices(protected, ("race", "sex"), target, ("two_year_recid", "score_text"))
    check_duplicates(duplicates)
    file = find(COMPAS_FILES["compas-scores-two-years.csv"], path, verify=verify)
    raw = read_headed(file, (*COMPAS_COLUMNS, *COMPAS_FILTER), COMPAS_NUMBERS)
    check_known(raw, "two_year_recid", (0, 1), file)
    for column, words in COMPAS_WORDS.items():
        check_known(raw, column, words, file, missing=True)
    selected = (
        raw["days_b_screening_arrest"].between(-30, 30)
        & (raw["is_recid"] != -1)
        & (raw["c_charge_degree"] != "O")
        & (raw["score_text"] != "N/A")
    )
    frame = raw.loc[selected, list(COMPAS_COLUMNS)].dropna()
    if target == "score_text":
        check_known(raw, "score_text", (*COMPAS_SCORES, "N/A"), file, missing=True)
    privileged = {"sex": ["Female"], "race": ["Caucasian"]}
    flags = merged_attributes(privileged, protected)
    compared, labels = frame.drop(columns="two_year_recid"), raw.loc[frame.index, target]
    frame = frame.loc[without_duplicates(compared, labels, flags, duplicates).index]
    scores = (labels[frame.index], COMPAS_SCORES) if target == "score_text" else None
    return from_standard(
        "compas" if scores is None else "compas_score_text",
        frame,
        label="two_year_recid",
        favorable=(0,),
        privileged=privileged,
        categorical=("age_cat", "c_charge_degree", "c_charge_desc"),
        protected="race",
        groups=named_groups(frame, protected, {"sex": "Female", "race": "Caucasian"}, intersect, minimum, small),
        classes=scores,
    )
