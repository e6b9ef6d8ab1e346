"""The benchmark data sets of the field, as arrays.

Adult, COMPAS, Bank and German are prepared by AIF360's `StandardDataset`, with the arguments of AIF360's own data set
classes: rows with missing values are dropped, categories become one 0/1 feature each, and protected attributes stay
among the features as 0/1 (1 = privileged). The raw files are found by `fairjax.data.find`.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.data.files import FILES, DataError, PathLike, find, user_path
from fairjax.data.mimic import mimic
from fairjax.metrics.groups import Groups, groups
from fairjax.registry import Registry

Protected = str | Sequence[str] | None
"""One or several protected attributes, all of whose groups are distinguished; None for the benchmark's two groups."""

ADULT_COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income-per-year",
)  # fmt: skip
"""Columns of `adult.data`, which has no header, named as in `adult.names`."""

ADULT_FORMAT: dict[str, Any] = {"skipinitialspace": True, "na_values": ["?"]}
"""Options of `pandas.read_csv` for Adult's files."""

COMPAS_COLUMNS = (
    "sex", "age", "age_cat", "race", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count",
    "c_charge_degree", "c_charge_desc", "two_year_recid",
)  # fmt: skip
"""Columns of ProPublica's file that are used."""

COMPAS_FILTER = ("days_b_screening_arrest", "is_recid", "score_text")
"""Columns of ProPublica's file that determine, with the degree of the charge, which rows are used."""

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

GERMAN_COLUMNS = (
    "status", "month", "credit_history", "purpose", "credit_amount", "savings", "employment",
    "investment_as_income_percentage", "personal_status", "other_debtors", "residence_since", "property", "age",
    "installment_plans", "housing", "number_of_credits", "skill_level", "people_liable_for", "telephone",
    "foreign_worker", "credit",
)  # fmt: skip
"""Columns of `german.data`, which has no header, named as in AIF360."""

GERMAN_SEX = {"A91": "male", "A92": "female", "A93": "male", "A94": "male", "A95": "female"}
"""Sex by code of the column `personal_status`."""


ADULT_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
ADULT_WORDS = {
    "income-per-year": ("<=50K", ">50K"),
    "sex": ("Male", "Female"),
    "race": ("White", "Black", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other"),
}
COMPAS_NUMBERS = (
    "age", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count", "two_year_recid",
    "days_b_screening_arrest", "is_recid",
)  # fmt: skip
COMPAS_WORDS = {
    "sex": ("Male", "Female"),
    "race": ("African-American", "Caucasian", "Hispanic", "Asian", "Native American", "Other"),
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

COMPAS_SCORES = ("Low", "Medium", "High")
"""Classes of the label "score_text", COMPAS's own score."""

GERMAN_NUMBERS = (
    "month", "credit_amount", "investment_as_income_percentage", "residence_since", "age", "number_of_credits",
    "people_liable_for", "credit",
)  # fmt: skip


def adult(
    path: PathLike | None = None,
    protected: Protected = None,
    target: str = "income",
    *,
    intersect: bool = True,
    minimum: int = 50,
    small: str = "leave out",
    verify: bool = True,
) -> Dataset:
    """Load Adult (census income): predict an income above 50,000 dollars per year. Protected: sex, 1 = male.

    The training and the test file together have 45,222 rows and 98 features, as in AIF360's `AdultDataset`. With
    occupation as the label there are six classes, `ADULT_OCCUPATIONS`, and neither the occupation nor the income is
    among the features.

    Args:
        path: Folder with `adult.data` and `adult.test`; if omitted, `fairjax.data.find` looks for the files.
        protected: "race", "sex", or both, to distinguish all their groups; sex, 1 = male, if omitted.
        target: The label, "income" or "occupation".
        intersect: Whether several attributes are intersected; see `fairjax.data.groups`.
        minimum: Least number of rows for a group to be compared.
        small: Treatment of smaller groups; see `fairjax.data.groups`.
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
    _check_choices(protected, ("race", "sex"), target, ("income", "occupation"))
    if path is not None and user_path(path).is_file():
        raise DataError(f"adult has two files, adult.data and adult.test: pass their folder, found the file {path}")
    parts = []
    for name in ("adult.test", "adult.data"):
        file = find(FILES[name], path, verify=verify)
        part = _headless(file, ADULT_COLUMNS, ADULT_NUMBERS, **ADULT_FORMAT)
        labels = part["income-per-year"].astype(object)
        part["income-per-year"] = labels.map(lambda word: word.strip().removesuffix("."), na_action="ignore")
        for column, known in ADULT_WORDS.items():
            _known(part, column, known, file, missing=column != "income-per-year")
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True).drop(columns="fnlwgt").dropna()
    categorical = ["workclass", "education", "marital-status", "occupation", "relationship", "native-country"]
    labels = None
    if target == "occupation":
        categorical.remove("occupation")
        of_word = {word: name for name, words in ADULT_OCCUPATIONS.items() for word in words}
        labels, classes = frame.pop("occupation").map(of_word), tuple(ADULT_OCCUPATIONS)
        if labels.isna().any():
            raise DataError(
                "adult.data or adult.test has an unknown occupation: download them again from their publisher"
            )
    return _standard(
        "adult" if labels is None else "adult_occupation",
        frame,
        label="income-per-year",
        favorable=(">50K",),
        privileged={"race": ["White"], "sex": ["Male"]},
        categorical=categorical,
        protected="sex",
        groups=_named(frame, protected, {"race": "White", "sex": "Male"}, intersect, minimum, small),
        classes=None if labels is None else (labels, classes),
    )


def compas(
    path: PathLike | None = None,
    protected: Protected = None,
    target: str = "two_year_recid",
    *,
    intersect: bool = True,
    minimum: int = 50,
    small: str = "leave out",
    verify: bool = True,
) -> Dataset:
    """Load COMPAS (ProPublica): predict reoffending within two years. Protected: race, 1 = Caucasian.

    After ProPublica's own filter there are 6,167 rows and 401 features, as in AIF360's `CompasDataset`. Note the
    polarity: y = 1 is recidivism, as coded in the file, although AIF360 calls 0 the favorable label. With COMPAS's own
    score as the label there are three classes, `COMPAS_SCORES`, and the same features.

    Args:
        path: The file, or its folder; if omitted, `fairjax.data.find` looks for it.
        protected: "race", "sex", or both, to distinguish all their groups; race, 1 = Caucasian, if omitted.
        target: The label, "two_year_recid" or "score_text".
        intersect: Whether several attributes are intersected; see `fairjax.data.groups`.
        minimum: Least number of rows for a group to be compared.
        small: Treatment of smaller groups; see `fairjax.data.groups`.
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
    _check_choices(protected, ("race", "sex"), target, ("two_year_recid", "score_text"))
    file = find(FILES["compas-scores-two-years.csv"], path, verify=verify)
    raw = _headed(file, (*COMPAS_COLUMNS, *COMPAS_FILTER), COMPAS_NUMBERS)
    _known(raw, "two_year_recid", (0, 1), file)
    for column, known in COMPAS_WORDS.items():
        _known(raw, column, known, file, missing=True)
    kept = (
        raw["days_b_screening_arrest"].between(-30, 30)
        & (raw["is_recid"] != -1)
        & (raw["c_charge_degree"] != "O")
        & (raw["score_text"] != "N/A")
    )
    frame = raw.loc[kept, list(COMPAS_COLUMNS)].dropna()
    scores = None
    if target == "score_text":
        _known(raw, "score_text", (*COMPAS_SCORES, "N/A"), file, missing=True)
        scores = raw.loc[frame.index, "score_text"], COMPAS_SCORES
    return _standard(
        "compas" if scores is None else "compas_score_text",
        frame,
        label="two_year_recid",
        favorable=(0,),
        privileged={"sex": ["Female"], "race": ["Caucasian"]},
        categorical=("age_cat", "c_charge_degree", "c_charge_desc"),
        protected="race",
        groups=_named(frame, protected, {"sex": "Female", "race": "Caucasian"}, intersect, minimum, small),
        classes=scores,
    )


def bank(path: PathLike | None = None, *, verify: bool = True) -> Dataset:
    """Load the bank marketing data: predict the subscription to a term deposit. Protected: age, 1 = 25 and older.

    The file `bank-additional-full.csv` gives 30,488 rows and 57 features, as in AIF360's `BankDataset` up to version
    0.4; later versions also count clients of 60 and older as unprivileged. Only 2.8 % of the clients are younger than
    25, so estimates of bias are noisy.

    Args:
        path: The file, or its folder; if omitted, `fairjax.data.find` looks for it.
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
    file = find(FILES["bank-additional-full.csv"], path, verify=verify)
    raw = _headed(file, BANK_COLUMNS, ("age", "duration", "campaign", "pdays"), sep=";", na_values=["unknown"])
    _known(raw, "y", ("no", "yes"), file)
    return _standard(
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
        path: The file, or its folder; if omitted, `fairjax.data.find` looks for it.
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
    file = find(FILES["bank-full.csv"], path, verify=verify)
    numbers = ("age", "balance", "day", "duration", "campaign", "pdays", "previous")
    raw = _headed(file, BANK_FULL_COLUMNS, numbers, sep=";")
    _known(raw, "y", ("no", "yes"), file)
    words = ["job", "marital", "education", "default", "housing", "loan", "contact", "month", "poutcome"]
    encoded = pd.get_dummies(raw.drop(columns="y"), columns=words, prefix_sep="=")
    return from_arrays(encoded, raw["y"] == "yes", _at_least_25(raw["age"]), name="bank_full", protected="age")


def german(path: PathLike | None = None, protected: str = "sex", *, verify: bool = True) -> Dataset:
    """Load the German credit data: predict good credit risks. Protected: sex, 1 = male, or age, 1 = older than 25.

    There are 1,000 rows and 58 features, as in AIF360's `GermanDataset`. The file's labels are 1 (good) and 2 (bad).

    Args:
        path: The file, or its folder; if omitted, `fairjax.data.find` looks for it.
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
    _standard_dataset("german")
    file = find(FILES["german.data"], path, verify=verify)
    raw = _headless(file, GERMAN_COLUMNS, GERMAN_NUMBERS, sep=" ")
    _known(raw, "credit", (1, 2), file)
    _known(raw, "personal_status", tuple(GERMAN_SEX), file)
    frame = raw.assign(sex=raw["personal_status"].map(GERMAN_SEX.get)).drop(columns="personal_status")
    return _standard(
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


class Benchmark(NamedTuple):
    """A data set that can be chosen by name."""

    load: Callable[..., Dataset]
    """The loader, `load(path=None, *, verify=True, **choices)`."""
    label: str = ""
    """Name in tables and figures."""
    attributes: tuple[str, ...] = ()
    """Protected attributes whose groups can all be distinguished; empty if the protected attribute is fixed."""
    intersections: bool = True
    """Whether several attributes can be chosen at once."""
    several_classes: bool = False
    """Whether the label has more than two classes."""

    def __call__(self, *args: Any, **options: Any) -> Dataset:
        """Load the data set."""
        return self.load(*args, **options)


_ATTRIBUTES = ("race", "sex")

DATASETS: Registry[Benchmark] = Registry(
    "data set",
    {
        "adult": Benchmark(adult, "Adult", _ATTRIBUTES),
        "compas": Benchmark(compas, "COMPAS", _ATTRIBUTES),
        "bank": Benchmark(bank, "Bank"),
        "bank_full": Benchmark(bank_full, "Bank-full"),
        "german": Benchmark(german, "German", ("sex", "age"), intersections=False),
        "mimic": Benchmark(mimic, "MIMIC-III"),
        "adult_occupation": Benchmark(
            functools.partial(adult, protected="sex", target="occupation"),
            "Adult occupation",
            _ATTRIBUTES,
            several_classes=True,
        ),
        "compas_score_text": Benchmark(
            functools.partial(compas, protected="race", target="score_text"),
            "COMPAS score",
            _ATTRIBUTES,
            several_classes=True,
        ),
    },
)
"""The benchmarks by name. There is no other list of them. Every loader takes `path` and `verify`."""


def _check_choices(protected: Protected, attributes: Sequence[str], target: str, targets: Sequence[str]) -> None:
    """Check that a benchmark has the attributes and the label, before any file is read."""
    named = () if protected is None else (protected,) if isinstance(protected, str) else tuple(protected)
    wrong = [name for name in named if name not in attributes]
    if wrong or len(set(named)) < len(named) or named == () and protected is not None:
        raise ValueError(f"protected must be one or more of {', '.join(map(repr, attributes))}, found {protected!r}")
    if target not in targets:
        raise ValueError(f"target must be one of {', '.join(map(repr, targets))}, found {target!r}")


def _named(
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


def _at_least_25(age: Any) -> Any:
    """Return whether an age, or each age of a column, belongs to Bank's privileged group."""
    return age >= 25


def _headed(file: Path, columns: Sequence[str], numbers: Sequence[str], **options: Any) -> pd.DataFrame:
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


def _headless(file: Path, columns: Sequence[str], numbers: Sequence[str], **options: Any) -> pd.DataFrame:
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


def _known(frame: pd.DataFrame, column: str, known: Sequence[object], file: Path, *, missing: bool = False) -> None:
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


def _standard_dataset(name: str) -> Any:
    """Import AIF360's class that prepares tables."""
    try:
        from aif360.datasets import StandardDataset  # the import takes seconds, so it is done only when needed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} is prepared by AIF360: install it with `pip install aif360`") from error
    return StandardDataset


def _standard(
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
    StandardDataset = _standard_dataset(name)
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
