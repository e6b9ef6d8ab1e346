"""Layouts of image folders: where the attributes of images are, and what they mean."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fairjax.datasets.files import DataError

FILE, PERSON = "file", "person"
"""Columns of names of files, and of persons."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Ends of the names of image files."""


class AttributeTable(NamedTuple):
    """The attributes of the images of a folder."""

    frame: pd.DataFrame
    """One row per image: its file, relative to the folder, its attributes, and the person if this is known."""
    source: str
    """How messages call the table."""
    images: str = "."
    """The folder of images, relative to the given one."""
    uncertain: tuple[str, ...] = ()
    """Columns in which -1 means that a label is uncertain."""


class Layout(NamedTuple):
    """A layout of image folders."""

    read: Callable[[Path], AttributeTable]
    """Reads the attributes of a folder."""
    label: str
    """Name in tables."""


def celeba(folder: Path) -> AttributeTable:
    """Read the attributes of CelebA: `list_attr_celeba.txt`, with -1 and 1, and `identity_CelebA.txt` if it is there.

    The first line of the attribute file is the number of images, the second has the names of the attributes. Copies
    with commas and one header line (`list_attr_celeba.csv`) are read too.
    """
    file = _only(folder, ("list_attr_celeba.txt", "Anno/list_attr_celeba.txt", "list_attr_celeba.csv"))
    lines = [line.replace(",", " ").split() for line in _text(file).splitlines() if line.strip()]
    count = int(lines.pop(0)[0]) if lines and len(lines[0]) == 1 and lines[0][0].isdigit() else None
    if not lines:
        raise DataError(f"{file} has no line with the names of the attributes: download it again")
    names, *rows = lines
    names = names[1:] if names[0] in ("image_id", FILE) else names
    wrong = next((number for number, row in enumerate(rows) if len(row) != len(names) + 1), None)
    if wrong is not None:
        raise DataError(
            f"{file}: the row of {rows[wrong][0]} must have {len(names)} attributes, found {len(rows[wrong]) - 1}: "
            "download the file again"
        )
    if count is not None and count != len(rows):
        raise DataError(
            f"{file} announces {count:,} images and has {len(rows):,} rows: it is cut off, download it again"
        )
    images = next((name for name in ("img_align_celeba", "Img/img_align_celeba") if (folder / name).is_dir()), ".")
    frame = pd.DataFrame([row[1:] for row in rows], columns=names).replace({"-1": "0"})
    frame.insert(0, FILE, [_joined(images, row[0]) for row in rows])
    identities = next((folder / name for name in _IDENTITIES if (folder / name).is_file()), None)
    if identities is not None:
        persons = dict(line.split()[:2] for line in _text(identities).splitlines() if line.strip())
        frame[PERSON] = [persons.get(row[0]) for row in rows]
    return AttributeTable(frame, str(file), images)


_IDENTITIES = ("identity_CelebA.txt", "Anno/identity_CelebA.txt")


def utkface(folder: Path) -> AttributeTable:
    """Read the attributes of UTKFace from names of files, `[age]_[gender]_[race]_[date].jpg`.

    Some names have only three fields; their race is not known.
    """
    files = image_files(folder)
    rows, wrong = [], []
    for name in files:
        fields = _UTKFACE.match(Path(name).name)
        if fields is None:
            wrong.append(name)
            continue
        age, gender, race = fields["age"], _UTKFACE_GENDERS[fields["gender"]], fields["race"]
        rows.append((name, int(age), gender, None if race is None else _UTKFACE_RACES[race]))
    if wrong:
        raise DataError(
            f"{folder}: {len(wrong):,} of {len(files):,} names of images are not of the form "
            f"[age]_[gender]_[race]_[date].jpg, the first of them {wrong[0]}: rename or remove these images"
        )
    return AttributeTable(_frame(folder, rows, (FILE, "age", "gender", "race")), str(folder))


_UTKFACE = re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_(?:(?P<race>[0-4])_)?(?P<date>\d{8,})\.")
_UTKFACE_GENDERS = {"0": "male", "1": "female"}
_UTKFACE_RACES = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "other"}


def fairface(folder: Path) -> AttributeTable:
    """Read the attributes of FairFace: `fairface_label_train.csv` and `fairface_label_val.csv`."""
    names = ("fairface_label_train.csv", "fairface_label_val.csv")
    files = [folder / name for name in names if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(f"there is neither {' nor '.join(names)} in {folder}: pass the folder of FairFace")
    frame = pd.concat([_table(file, (FILE, "age", "gender", "race")) for file in files], ignore_index=True)
    return AttributeTable(frame, " and ".join(map(str, files)))


def chexpert(folder: Path) -> AttributeTable:
    """Read the attributes of CheXpert: `train.csv` and `valid.csv`, with the patient from the path of each image."""
    files = [folder / name for name in ("train.csv", "valid.csv") if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(f"there is neither train.csv nor valid.csv in {folder}: pass the folder of CheXpert")
    frame = pd.concat([_table(file, ("Path", "Sex", "Age")) for file in files], ignore_index=True)
    paths = [_below(folder, path) for path in frame.pop("Path")]
    patients = [re.search(r"patient\w+", path) for path in paths]
    if None in patients:
        path = paths[patients.index(None)]
        raise DataError(f"{files[0]}: no patient in the path {path}, which must be like train/patient00001/study1/...")
    frame.insert(0, FILE, paths)
    frame[PERSON] = [patient.group() for patient in patients if patient]
    frame["Sex"] = frame["Sex"].replace({"Unknown": None})
    labels = _findings(frame)
    return AttributeTable(frame, " and ".join(map(str, files)), uncertain=labels)


def mimic_cxr(folder: Path) -> AttributeTable:
    """Read the attributes of MIMIC-CXR-JPG: its tables of metadata and labels, and `patients.csv` of MIMIC-IV.

    Sex and age come from `patients.csv`; without it, only the columns of the other tables are attributes.
    """
    metadata = _table(_mimic(folder, "mimic-cxr-2.0.0-metadata"), ("dicom_id", "subject_id", "study_id"))
    labels = _table(_mimic(folder, "mimic-cxr-2.0.0-chexpert"), ("subject_id", "study_id"))
    keys = ["subject_id", "study_id"]
    repeated = labels.duplicated(keys)
    if repeated.any():
        study = labels["study_id"][repeated.idxmax()]
        raise DataError(f"{folder}: the table of labels has two rows of study {study}: download it again")
    frame = metadata.merge(labels, on=keys, how="inner")
    patients = _found(folder, ("patients.csv", "patients.csv.gz"))
    if patients is not None:
        persons: Any = _table(patients, ("subject_id", "gender", "anchor_age"))[["subject_id", "gender", "anchor_age"]]
        persons = persons.rename(columns={"gender": "Sex", "anchor_age": "Age"}).drop_duplicates("subject_id")
        frame = frame.merge(persons, on="subject_id", how="left")
    rows = zip(frame["subject_id"], frame["study_id"], frame["dicom_id"], strict=True)
    paths = [f"files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg" for subject, study, image in rows]
    frame.insert(0, FILE, paths)
    frame[PERSON] = frame["subject_id"]
    return AttributeTable(frame, f"the tables in {folder}", "files", uncertain=_findings(frame))


def table_of_files(folder: Path) -> AttributeTable:
    """Read the one csv file in a folder, with a column `file`, and `person` if persons are known."""
    files = sorted(path for path in folder.glob("*.csv") if path.is_file())
    if len(files) != 1:
        listed = ", ".join(path.name for path in files) or "none"
        raise FileNotFoundError(f"there must be one csv file in {folder}, found {listed}: remove or add files")
    return AttributeTable(_table(files[0], (FILE,)), str(files[0]))


LAYOUTS = {
    "celeba": Layout(celeba, "CelebA"),
    "utkface": Layout(utkface, "UTKFace"),
    "fairface": Layout(fairface, "FairFace"),
    "chexpert": Layout(chexpert, "CheXpert"),
    "mimic_cxr": Layout(mimic_cxr, "MIMIC-CXR-JPG"),
    "csv": Layout(table_of_files, "a csv file"),
}
"""The layouts by name."""


def image_files(folder: Path, images: str = ".") -> list[str]:
    """Return the names of all image files in a folder and below it, relative to the given folder."""
    root = folder / images
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path.relative_to(folder).as_posix() for path in paths if not path.name.startswith(".")]


def _frame(folder: Path, rows: Sequence[Any], columns: Sequence[str]) -> pd.DataFrame:
    if not rows:
        raise FileNotFoundError(f"there are no images ({', '.join(SUFFIXES)}) in {folder}: pass their folder")
    return pd.DataFrame(rows, columns=list(columns))


def _table(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a csv file as text, and check that it has some columns."""
    try:
        frame = pd.read_csv(file, dtype=str)
    except (ValueError, OSError, EOFError) as error:  # also pandas' own errors
        raise DataError(f"{file} cannot be read ({str(error).splitlines()[0]}): download it again") from error
    lacking = [name for name in columns if name not in frame.columns]
    if lacking:
        raise DataError(f"{file} must have the columns {', '.join(columns)}, and lacks {', '.join(lacking)}")
    if not len(frame):
        raise DataError(f"{file} has no rows")
    unnamed = frame[columns[0]].isna().to_numpy()
    if unnamed.any():
        raise DataError(f"{file} has no {columns[0]} in row {int(unnamed.argmax())}: complete it")
    return frame


def _findings(frame: pd.DataFrame) -> tuple[str, ...]:
    """Make "not mentioned" negative in the columns of findings, and return their names.

    They are the columns that hold nothing but 1, 0, -1 and no value.
    """
    names = []
    for name in frame.columns:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        values = set(numbers.dropna())
        if name in (FILE, PERSON) or numbers.isna().ne(frame[name].isna()).any() or not values <= {-1.0, 0.0, 1.0}:
            continue
        frame[name] = numbers.fillna(0.0).astype(int).astype(str)
        names.append(name)
    return tuple(names)


def _found(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _only(folder: Path, names: Sequence[str]) -> Path:
    file = _found(folder, names)
    if file is None:
        raise FileNotFoundError(f"there is no {names[0]} in {folder}: pass the folder that holds it")
    return file


def _mimic(folder: Path, name: str) -> Path:
    return _only(folder, (f"{name}.csv", f"{name}.csv.gz"))


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _below(folder: Path, path: str) -> str:
    """Return a path relative to the folder: CheXpert's paths begin with the name of its own folder."""
    first, _, rest = path.partition("/")
    return rest if first.startswith("CheXpert") or first == folder.name else path


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}): download it again") from error
