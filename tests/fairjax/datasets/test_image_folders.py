"""Folders of images in every layout, generated: attributes, labels, groups, persons, and what is incomplete."""

import warnings

import jax
import numpy as np
import pandas as pd
import pytest

from fairjax import Batch, Cnn, data, from_linen, spd, streaming
from fairjax.datasets import image_folder
from fairjax.nn import influence

Image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow, the extra images")

N = 40


def write(folder, names, size=(6, 6)):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), i, np.uint8)).save(folder / name, format="PNG")


def bits(count=N):
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, count), rng.integers(0, 2, count)


@pytest.fixture
def celeba(tmp_path):
    folder = tmp_path / "celeba"
    names = [f"{i + 1:06d}.jpg" for i in range(N)]
    write(folder, [f"img_align_celeba/{name}" for name in names])
    smiling, male = (2 * column - 1 for column in bits())
    lines = [f"{name} {first:2d} {second:2d}" for name, first, second in zip(names, smiling, male, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(N), "Smiling Male ", *lines]) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(f"{name} {i // 4}" for i, name in enumerate(names)))
    return folder


def load(folder, *args, **options):
    return image_folder(folder, *args, cache=folder.parent / "cache", **options)


def test_celeba(celeba):
    loaded = load(celeba, "celeba", "Smiling", "Male", privileged="1", split_by="person")
    smiling, male = bits()
    np.testing.assert_array_equal(loaded.dataset.y, smiling == 1)
    np.testing.assert_array_equal(loaded.dataset.a, male == 1)
    np.testing.assert_array_equal(loaded.identities, np.arange(N) // 4)
    assert loaded.dataset.protected == "Male" and loaded.files[0] == "img_align_celeba/000001.jpg"
    assert loaded.dataset.x.dtype == np.uint8 and loaded.dataset.x.shape == (N, 6, 6, 3)
    assert [image[0, 0, 0] for image in loaded.dataset.x] == list(range(N))


def test_no_person_is_in_two_parts(celeba):
    loaded = load(celeba, "celeba", "Smiling", "Male", split_by="person")
    split = data.split_seeds(loaded.dataset, (0, 1), identities=loaded.identities)
    for seed in range(2):
        parts = [set(loaded.identities[np.asarray(rows[seed])]) for rows in (split.train, split.valid, split.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert split.x.dtype == np.uint8 and split.mean is None


def test_the_images_are_streamed_by_chunks(celeba):
    loaded = load(celeba, "celeba", "Smiling", "Male", privileged="1")
    network, dataset = from_linen(Cnn(channels=(3,))), loaded.dataset
    batch = Batch(dataset.x, dataset.y, dataset.a)
    variables = network.init(jax.random.key(0), np.asarray(dataset.x[:2]))
    streamed = streaming.influence(spd, network.apply, variables, streaming.chunks(batch, 16))
    whole = influence(spd, network.apply, variables, batch)
    for ours, theirs in zip(jax.tree.leaves(streamed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-9)
        assert np.abs(theirs).max() > 2e-8


def test_utkface(tmp_path):
    folder = tmp_path / "utk"
    names = [f"{20 + i}_{i % 2}_{i % 5}_20170109150557335.jpg.chip.jpg" for i in range(N - 1)]
    names.append("61_1_20170109142408075.jpg.chip.jpg")  # no race
    write(folder, names)
    loaded = load(folder, "utkface", "age>=40", "gender", privileged="male")
    gender = {name: name.split("_")[1] for name in names}
    assert loaded.dataset.a.tolist() == [gender[name] == "0" for name in loaded.files]
    assert loaded.dataset.y.tolist() == [int(name.split("_")[0]) >= 40 for name in loaded.files]
    with pytest.raises(ValueError, match="race has no value for 1 of 40 images, .*61_1_.*leave them out"):
        load(folder, "utkface", "age>=40", "race")
    with pytest.warns(UserWarning, match="race has no value for 1 of 40"):
        loaded = load(folder, "utkface", "age>=40", "race", incomplete="leave out")
    assert len(loaded.files) == N - 1 and set(loaded.dataset.group_names) >= {"Black", "White", "Asian"}
    write(folder, ["portrait.jpg"])
    with pytest.raises(ValueError, match="1 of 41 names of images are not of the form .*portrait.jpg"):
        load(folder, "utkface", "age>=40", "gender")


def test_fairface(tmp_path):
    folder = tmp_path / "fairface"
    for part, count in (("train", 30), ("val", 10)):
        names = [f"{part}/{i + 1}.jpg" for i in range(count)]
        write(folder, names)
        ages = ["20-29", "more than 70"] * (count // 2)
        genders = ["Male"] * (count // 2) + ["Female"] * (count // 2)
        table = {"file": names, "age": ages, "gender": genders, "race": "White", "service_test": True}
        pd.DataFrame(table).to_csv(folder / f"fairface_label_{part}.csv", index=False)
    loaded = load(folder, "fairface", "age", "gender", positive="more than 70", privileged="Male")
    assert loaded.dataset.y.tolist() == [False, True] * 20
    assert loaded.dataset.a.tolist() == [True] * 15 + [False] * 15 + [True] * 5 + [False] * 5


@pytest.fixture
def chexpert(tmp_path):
    folder = tmp_path / "CheXpert-v1.0-small"
    names = [f"train/patient{i // 2:05d}/study1/view{i % 2 + 1}_frontal.jpg" for i in range(N)]
    write(folder, names)
    edema = np.array(["1.0", "0.0", "-1.0", ""] * (N // 4))
    table = {"Path": [f"CheXpert-v1.0-small/{name}" for name in names], "Sex": ["Male"] * 20 + ["Female"] * 20}
    table |= {"Age": 50, "Frontal/Lateral": "Frontal", "AP/PA": "AP", "Edema": edema}
    pd.DataFrame(table).to_csv(folder / "train.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("uncertain", "expected"),
    [("positive", [1, 0, 1, 0]), ("negative", [1, 0, 0, 0]), ("leave out", [1, 0, 0])],
)
def test_chexpert_s_uncertain_labels_are_decided_as_asked_for(chexpert, uncertain, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load(chexpert, "chexpert", "Edema", "Sex", privileged="Male", uncertain=uncertain, split_by="person")
    assert loaded.dataset.y.astype(int).tolist() == expected * 10
    assert loaded.identities.max() == 19
    assert bool(loaded.warnings) == (uncertain == "leave out")


def test_chexpert_s_uncertain_labels_are_refused_by_default(chexpert):
    with pytest.raises(ValueError, match=r"Edema is uncertain \(-1\) in 10 of 40 rows: choose"):
        load(chexpert, "chexpert", "Edema", "Sex")


def test_mimic_cxr(tmp_path):
    folder = tmp_path / "mimic"
    subjects, studies = [f"1000{i // 4:04d}" for i in range(N)], [f"5{i // 2:07d}" for i in range(N)]
    images = [f"{i:08x}-0000" for i in range(N)]
    rows = zip(subjects, studies, images, strict=True)
    write(folder, [f"files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg" for subject, study, image in rows])
    metadata = pd.DataFrame({"dicom_id": images, "subject_id": subjects, "study_id": studies, "ViewPosition": "AP"})
    metadata.to_csv(folder / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    labels = metadata[["subject_id", "study_id"]].drop_duplicates()
    labels["Edema"] = [1.0, None] * (len(labels) // 2)
    labels.to_csv(folder / "mimic-cxr-2.0.0-chexpert.csv", index=False)
    persons = pd.DataFrame({"subject_id": sorted(set(subjects))})
    persons["gender"], persons["anchor_age"] = ["F", "M"] * (len(persons) // 2), range(30, 30 + len(persons))
    persons.to_csv(folder / "patients.csv", index=False)
    loaded = load(folder, "mimic_cxr", "Edema", "Sex", privileged="M", split_by="person")
    assert loaded.dataset.y.tolist() == [True, True, False, False] * 10
    assert loaded.dataset.a.tolist() == [False] * 4 + [True] * 4 + [False] * 4 + [True] * 4 + [False] * 4 + (
        [True] * 4 + [False] * 4 + [True] * 4 + [False] * 4 + [True] * 4
    )
    assert len(set(loaded.identities)) == 10


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    write(folder, [f"{i}.png" for i in range(N)])
    y, a = bits()
    pd.DataFrame({"file": [f"{i}.png" for i in range(N)], "ill": y, "sex": np.where(a == 1, "m", "f")}).to_csv(
        folder / "attributes.csv", index=False
    )
    return folder


def test_a_csv_file_of_one_s_own(own):
    loaded = load(own, "csv", "ill", "sex", privileged="m", size=4, colours="grey")
    y, a = bits()
    np.testing.assert_array_equal(loaded.dataset.y, y == 1)
    np.testing.assert_array_equal(loaded.dataset.a, a == 1)
    assert loaded.dataset.x.shape == (N, 4, 4, 1) and loaded.identities is None


def test_an_unknown_attribute_is_refused_with_the_names_there_are(celeba):
    with pytest.raises(ValueError, match="Smilling.*Smiling"):
        load(celeba, "celeba", "Smilling", "Male")
    with pytest.raises(ValueError, match="Female.*Smiling, Male"):
        load(celeba, "celeba", "Smiling", "Female")
    with pytest.raises(ValueError, match="layout must be one of celeba, utkface"):
        load(celeba, "celebs", "Smiling", "Male")


def test_rows_and_images_that_do_not_match_are_refused_or_left_out(own):
    table = pd.read_csv(own / "attributes.csv").iloc[2:]
    table.to_csv(own / "attributes.csv", index=False)
    with pytest.raises(ValueError, match=r"2 of 40 images have no row .* the first of them 0\.png"):
        load(own, "csv", "ill", "sex")
    (own / "7.png").unlink()
    with pytest.warns(UserWarning) as warned:
        loaded = load(own, "csv", "ill", "sex", incomplete="leave out")
    assert len(warned) == 2 and len(loaded.files) == N - 3
    assert [int(image[0, 0, 0]) for image in loaded.dataset.x] == [i for i in range(2, N) if i != 7]


def test_a_celeba_file_that_is_cut_off_is_refused(celeba):
    file = celeba / "list_attr_celeba.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-3]))
    with pytest.raises(ValueError, match="announces 40 images and has 37 rows"):
        load(celeba, "celeba", "Smiling", "Male")
    file.write_text("\n".join([*lines[:-1], lines[-1].rsplit(maxsplit=1)[0]]))
    with pytest.raises(ValueError, match=r"000040.jpg must have 2 attributes, found 1"):
        load(celeba, "celeba", "Smiling", "Male")


def test_unreadable_images_are_left_out_with_their_labels(own):
    (own / "5.png").write_text("broken")
    with pytest.raises(ValueError, match=r"5\.png cannot be decoded"):
        load(own, "csv", "ill", "sex")
    with pytest.warns(UserWarning, match="1 images cannot be decoded"):
        loaded = load(own, "csv", "ill", "sex", on_unreadable="skip")
    y, _ = bits()
    np.testing.assert_array_equal(loaded.dataset.y, np.delete(y, 5) == 1)
    assert "5.png" not in loaded.files


def test_a_folder_that_is_not_there_or_holds_other_things_is_refused(tmp_path):
    for layout, message in (
        ("celeba", "there is no list_attr_celeba.txt"),
        ("utkface", "there are no images"),
        ("fairface", "there is neither fairface_label_train.csv nor"),
        ("chexpert", "neither train.csv nor valid.csv"),
        ("mimic_cxr", "there is no mimic-cxr-2.0.0-metadata.csv"),
        ("csv", "there must be one csv file"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            image_folder(tmp_path, layout, "y", "a")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        image_folder(tmp_path / "nowhere", "csv", "y", "a")
