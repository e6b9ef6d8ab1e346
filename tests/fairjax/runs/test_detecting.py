"""Detection in runs: columns of features, settings of finished runs, sections that resume."""

import dataclasses
import json
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from fairjax import SHARED, adapters, checkpoint, data
from fairjax.detect.concepts import ProbeQuality, Probes
from fairjax.nn import Cnn, Mlp, from_linen
from fairjax.runs.detecting import concepts, maps, sections
from fairjax.runs.detecting.columns import columns_of
from fairjax.runs.detecting.computing import Section
from fairjax.runs.detecting.saved import load_run
from fairjax.runs.detecting.sections import SECTIONS, compute_all
from fairjax.runs.detecting.settings import DetectSettings, detect_type, folder_identity
from fairjax.runs.detecting.subject import Subject
from fairjax.runs.files import write_json
from fairjax.runs.identity import identity
from fairjax.runs.settings import NetworkSettings, Settings, Simulation
from fairjax.runs.structure import Structure
from fairjax.runs.timings import Timings
from fairjax.seeds import mesh as mesh_of_devices
from fairjax.seeds.programs import Machine
from fairjax.training import Training

# Columns.


def test_columns_are_grouped_by_variable_and_those_of_the_group_are_found():
    a = np.array([True, False, True, False])
    x = np.stack([np.arange(4.0), ~a, a, [0, 1, 1, 0], np.where(a, 0.3, 2.0)], axis=1)
    found = columns_of({"names": ("age", "job=cook", "job=clerk", "race", "copy")}, x, a)
    assert found.variables == ("age", "job", "job", "race", "copy")
    assert found.distinct == ("age", "job", "race", "copy") and found.numbers("job") == (1, 2)
    assert found.attribute == ("job=cook", "job=clerk", "copy") and found.attribute_variables == ("job", "copy")


def test_columns_of_an_own_table_are_those_of_its_encoder():
    encoder = [
        {"column": "a=b", "kind": "number", "values": [], "median": 2.0},
        {"column": "sex", "kind": "category", "values": ["f", "m", "x"], "median": None},
    ]
    names = ("a=b", "a=b is missing", "sex=f", "sex=m", "sex=x")
    codes = np.array([0, 1, 2])
    found = columns_of({"names": names, "encoder": encoder}, np.eye(5)[:3], codes, attributes=("sex",))
    assert found.variables == ("a=b", "a=b", "sex", "sex", "sex")
    assert found.attribute == ("sex=f", "sex=m", "sex=x"), "a named attribute is found for any number of groups"


def test_images_and_trees_have_no_columns():
    assert columns_of({"names": ("x",)}, np.ones((2, 3, 3, 1)), np.array([True, False])) is None


# Settings.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sections": ("feature",)}, "sections must be some of features, counterfactuals, .*, got 'feature'"),
        ({"threshold": 1.0}, "threshold must be between 0 and 1, got 1.0"),
        ({"nodes": 0}, "nodes must be from 1 to 10000, got 0"),
        ({"concept_sets": 1}, "concept_sets must be from 2 to 1000, got 1"),
        ({"draws": 10}, "draws must be from 100"),
        ({"simulation": Simulation(tables="redrawn", sweep=(1.0, 2.0))}, "leave simulation.sweep out"),
        ({"dataset": "adlt"}, "no data set named .adlt.: did you mean adult"),
    ],
)
def test_settings_are_checked_before_anything_is_loaded(changes, message):
    with pytest.raises(ValueError, match=message):
        DetectSettings(**changes)


def test_what_detect_does_not_use_cannot_be_set():
    for name in ("methods", "measure", "selection", "portfolio", "hosts"):
        with pytest.raises(TypeError, match="unexpected keyword"):
            DetectSettings(**{name: getattr(Settings(), name)})
    assert detect_type() is DetectSettings


def test_folders_are_named_after_the_data_or_the_network(tmp_path):
    assert str(DetectSettings(dataset="adult", protected=("sex",)).folder) == "results/detect-adult-sex"
    assert str(DetectSettings(dataset="adult", seeds=(1,)).folder) == "results/detect-adult"
    saved = DetectSettings(saved_network=tmp_path / "run" / "networks" / "pruning")
    assert saved.folder == tmp_path / "run" / "detect-pruning"
    assert dataclasses.replace(saved, out=tmp_path).folder == tmp_path


def test_the_folder_is_that_of_the_networks_and_not_of_settings_of_detection():
    base = folder_identity(DetectSettings(dataset="compas"))
    assert base == folder_identity(DetectSettings(dataset="compas", draws=200, key=3, sections=("quality",)))
    assert base != folder_identity(DetectSettings(dataset="compas", training=Training(epochs=7)))
    assert base != folder_identity(DetectSettings(dataset="compas"), "abc")


# Finished runs.

RUN = Settings(
    dataset="german",
    protected=("age",),
    seeds=(5, 7, 9),
    network=NetworkSettings(widths=(2,)),
    training=Training(epochs=2),
)


@pytest.fixture
def run(tmp_path):
    """Return a function that writes a folder like that of a finished run, and returns the folder of its networks."""

    def make(settings=RUN, content=None, module=None, about=None):
        write_json(tmp_path / "run" / "configuration.json", identity(settings) if content is None else content)
        module, network = (Mlp(widths=(2,)),) * 2 if module is None else module
        keys = jax.random.split(jax.random.key(0), len(settings.seeds))
        variables = jax.vmap(lambda key: from_linen(network).init(key, jnp.ones((1, 3))))(keys)
        folder = tmp_path / "run" / "networks" / "trained"
        about = {"seeds": list(settings.seeds)} if about is None else about
        checkpoint.save(folder, module, variables, about=about, overwrite=True)
        return folder

    return make


def test_the_settings_of_a_finished_run_are_read_from_its_folder(run):
    folder = run()
    saved = load_run(DetectSettings(saved_network=folder, draws=200))
    assert (saved.settings.dataset, saved.settings.protected) == ("german", ("age",))
    assert saved.settings.network == RUN.network and saved.settings.training == RUN.training
    assert saved.settings.seeds == saved.seeds == (5, 7, 9) and saved.settings.draws == 200
    assert load_run(DetectSettings(saved_network=folder, seeds=(9, 5))).settings.seeds == (9, 5)
    again = load_run(DetectSettings(saved_network=folder, dataset="german"))
    assert again.checksum == saved.checksum and len(saved.checksum) == 64


@pytest.mark.parametrize(
    "settings",
    [
        Settings(dataset="adult", seeds=(1,)),
        Settings(dataset="adult", seeds=(1,), protected=("sex", "race"), small="pool", stratify=True),
        Settings(dataset="loh", seeds=(1,), simulation=Simulation(rows=300)),
        Settings(dataset="german", seeds=(1,)),
        Settings(dataset="digits", seeds=(1,), network=NetworkSettings(channels=(2, 2))),
    ],
    ids=lambda settings: settings.dataset,
)
def test_settings_of_all_kinds_of_runs_are_restored(run, settings):
    found = load_run(DetectSettings(saved_network=run(settings))).settings
    assert (
        identity(dataclasses.replace(settings, protected=found.protected))["protected"]
        == identity(settings)["protected"]
    )
    for name in ("seeds", "small", "stratify", "simulation", "network", "training"):
        assert getattr(found, name) == getattr(settings, name)


def test_a_folder_that_is_not_of_a_finished_run_says_what_is_missing(run, tmp_path):
    def refused(message, kind=ValueError, **changes):
        with pytest.raises(kind, match=message):
            load_run(DetectSettings(**{"saved_network": tmp_path / "run" / "networks" / "trained", **changes}))

    refused("is no folder: give one with the saved networks of a run", FileNotFoundError)
    folder = run()
    refused("seeds must be some of 5, 7, 9, got 4", seeds=(4,))
    refused("training is that of the run in .*: leave it out", training=Training(epochs=3))
    refused("dataset is that of the run in .*, german: leave it out", dataset="adult")
    (tmp_path / "run" / "configuration.json").unlink()
    refused("there is no .*configuration.json, which says what the networks were trained on", FileNotFoundError)
    run(content={"seeds": [1]})
    refused("lacks dataset, network, training, so it is not that of a run of debias")
    (tmp_path / "run" / "configuration.json").write_text("{")
    refused("configuration.json cannot be read")
    content = identity(RUN)
    run(content=content | {"training": content["training"] | {"momentum": 0.9}})
    refused("this version of fairjax has no setting training.momentum, which the run used")
    run(content=content | {"simulation": content["simulation"] | {"alpha": 2.0}, "minimum": 50})
    refused("the setting minimum is not that of the run")
    run(about={})
    refused("does not say which seeds its networks are of")
    run(module=(from_linen(Mlp(widths=(2,)))._replace(init=lambda key, x: {}), Mlp(widths=(2,))))
    refused("holds the variables of a network that is no module of fairjax.nn")
    assert folder.exists()


def test_the_table_of_a_run_must_be_named_and_be_the_same(run, tmp_path):
    rows = pd.DataFrame({"income": [0, 1] * 60, "age": range(120), "sex": ["f", "m", "m"] * 40})
    rows.to_csv(tmp_path / "loans.csv", index=False)
    own = {"table": (str(tmp_path / "loans.csv"),), "label": "income", "protected": ("sex",), "privileged": "m"}
    folder = run(dataclasses.replace(RUN, **own))
    with pytest.raises(
        ValueError, match="on a table of your own, whose path it does not keep: name its files with --table"
    ):
        load_run(DetectSettings(saved_network=folder))
    found = load_run(DetectSettings(saved_network=folder, **own)).settings
    assert found.dataset == "loans" and found.label == "income" and found.seeds == (5, 7, 9)
    rows.assign(age=0).to_csv(tmp_path / "loans.csv", index=False)
    with pytest.raises(ValueError, match="the table is not that of the run in .*, so its splits cannot be made again"):
        load_run(DetectSettings(saved_network=folder, **own))


# Sections.


@pytest.fixture
def subject(tmp_path):
    """Return what `compute_all` uses of a subject."""
    folder = SimpleNamespace(path=tmp_path)
    run = SimpleNamespace(folder=folder, console=Console(quiet=True), timings=Timings())
    return SimpleNamespace(run=run, settings=DetectSettings())


@pytest.fixture
def calls(monkeypatch):
    """Replace the sections by three, of which the second fails once and the third does not apply."""
    made = []

    def first(subject):
        made.append("first")
        return {"one": pd.DataFrame({"seed": [1], "name": ["NA"], "value": [1 / 3]}), "two": pd.DataFrame({"n": [1]})}

    def second(subject):
        made.append("second")
        if made.count("second") == 1:
            raise KeyboardInterrupt
        return {"three": pd.DataFrame({"value": [np.nan, 2.0]})}

    monkeypatch.setattr(
        sections,
        "SECTIONS",
        (
            Section("first", first, lambda subject: None),
            Section("second", second, lambda subject: None),
            Section("third", first, lambda subject: "is for text, found a table"),
        ),
    )
    return made


def test_a_stopped_run_computes_only_the_sections_that_were_not_finished(subject, calls, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compute_all(subject)
    found = compute_all(subject)
    assert calls == ["first", "second", "second"]
    assert sorted(found.tables) == ["one", "three", "two"] and set(found.seconds) == {"first", "second"}
    assert found.left_out == {"third": "is for text, found a table"}
    assert found.tables["one"]["name"][0] == "NA" and found.tables["one"]["value"][0] == pytest.approx(1 / 3, rel=1e-8)
    assert np.isnan(found.tables["three"]["value"][0])
    assert not list(tmp_path.rglob(".unfinished*"))
    compute_all(subject)
    assert len(calls) == 3


def test_names_that_look_like_numbers_stay_text(subject, monkeypatch):
    made = pd.DataFrame({
        "seed": [1, 2, 3], "group": ["0", "1", "NA"], "variable": ["True", "False", "True"],
        "worst": ["01", np.nan, None], "is_attribute": [True, False, True], "count": [3, 4, 5], "mixed": ["all", 1, 2],
    })  # fmt: skip
    monkeypatch.setattr(sections, "SECTIONS", (Section("first", lambda _: {"one": made}, lambda _: None),))
    for _ in range(2):  # computed, and read again
        found = compute_all(subject).tables["one"]
        assert found["group"].tolist() == ["0", "1", "NA"] and found["variable"].tolist() == ["True", "False", "True"]
        assert found["worst"][0] == "01" and found["worst"].isna().tolist() == [False, True, True]
        assert found["mixed"].tolist() == ["all", "1", "2"], "as names of networks beside the row of all"
        assert found[["seed", "is_attribute", "count"]].dtypes.astype(str).tolist() == ["int64", "bool", "int64"]


@pytest.mark.parametrize("change", ["table", "marker", "settings", "version"])
def test_a_section_is_computed_again_if_its_tables_or_settings_changed(subject, calls, tmp_path, monkeypatch, change):
    calls.append("second")  # so that it does not fail
    compute_all(subject)
    marker = tmp_path / "states" / "detection" / "first.json"
    assert set(json.loads(marker.read_text())["tables"]) == {"one", "two"}
    if change == "table":
        (tmp_path / "two.csv").write_text("n\n2\n")
    elif change == "marker":
        marker.write_text("[]")
    elif change == "settings":
        subject.settings = DetectSettings(key=1)
    else:
        monkeypatch.setattr("fairjax.__version__", "other")
    before = calls.count("first")
    found = compute_all(subject)
    assert calls.count("first") == before + 1 and found.tables["two"]["n"][0] == 1


def test_a_chosen_section_that_does_not_apply_is_refused(subject, calls, monkeypatch):
    settings = SimpleNamespace(**{field.name: None for field in dataclasses.fields(DetectSettings)})
    settings.sections = ("third",)
    subject.settings = settings
    with pytest.raises(ValueError, match="the section third is for text, found a table: leave it out of --sections"):
        compute_all(subject)


# Images.


def images_subject(network, variables, x, a, seeds=(1, 2)):
    """Return a subject with the same network for all seeds."""
    made = data.from_arrays(x, np.arange(len(a)) % 4 < 2, a, standardise=False)
    splits = data.split_seeds(made, seeds)
    count = len(seeds)
    settings = DetectSettings(seeds=seeds, nodes=8)
    run = SimpleNamespace(settings=settings, machine=Machine(mesh_of_devices()))
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (count, *jnp.shape(leaf))), variables)
    return Subject(run, network, many, splits, SHARED, Structure(), {}, None)


@pytest.fixture(scope="module")
def bytes_():
    """Return images of bytes, brighter in the second group, and the groups."""
    random = np.random.default_rng(0)
    a = np.arange(120) % 2 == 0
    return (random.integers(0, 120, (120, 4, 4, 3)) + 100 * a[:, None, None, None]).astype(np.uint8), a


@pytest.fixture(scope="module")
def cnn(bytes_):
    network = from_linen(Cnn(channels=(2,)))
    return network, network.init(jax.random.key(0), bytes_[0][:2])


def test_the_gap_of_images_of_bytes_is_that_of_the_logits(bytes_, cnn):
    subject = images_subject(*cnn, *bytes_)
    assert (maps.divisor_of(subject), maps.shown_layer(subject), maps.unfit(subject)) == (255, "block_00", None)
    bias = maps._bias(subject, 255)
    table = maps._by_channel(subject, bias)
    for number, seed in enumerate(subject.seeds):
        test = subject.part_of(number, "test")
        assert test.x.dtype == np.uint8
        logits = np.asarray(cnn[0].apply(cnn[1], test.x)[0])
        gap = logits[~test.a].mean() - logits[test.a].mean()
        np.testing.assert_allclose(table.loc[table["seed"] == seed, "gap"], gap, rtol=1e-4)
        np.testing.assert_allclose(table.loc[table["seed"] == seed, "difference"].sum(), gap, rtol=0.05)


def test_networks_that_take_only_whole_numbers_are_not_attributed_to_colours(bytes_, cnn):
    def plain(variables, x, **_):
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3)), variables

    def strict(variables, x, **_):
        if jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError("x must be of type uint8")
        return plain(variables, x)

    own = cnn[0]._replace(activations=None)
    subjects = [images_subject(own._replace(apply=apply), cnn[1], *bytes_) for apply in (plain, strict)]
    assert [maps.divisor_of(subject) for subject in subjects] == [1, None]
    assert maps.unfit(subjects[0]) is None, "channels can be compared without maps"
    assert maps.unfit(subjects[1]) == (
        "needs a network that shows activations with positions, or one that takes images of floats"
    )
    assert concepts.unfit(subjects[0]) == "needs a network that shows the activations of its layers"
    assert set(maps.compute(subjects[0])) == {"mean_images", "bias_by_channel"}
    floats = images_subject(*cnn, bytes_[0].astype(np.float32), bytes_[1])
    assert maps.divisor_of(floats) == 1


def test_layers_without_positions_have_no_maps(bytes_, cnn):
    flat = cnn[0]._replace(
        activations=lambda variables, x: jax.tree.map(lambda _: jnp.ones((len(x), 2)), variables["masks"])
    )
    assert maps.shown_layer(images_subject(flat, cnn[1], *bytes_)) is None

    def unreadable(variables, x):
        raise ValueError("the activations of block_00 cannot be shown")

    assert maps.shown_layer(images_subject(cnn[0]._replace(activations=unreadable), cnn[1], *bytes_)) is None


def test_mean_images_are_means_over_all_images_of_a_group(bytes_, cnn, monkeypatch):
    monkeypatch.setattr(maps, "CHUNK", 7)
    x, a = bytes_
    found = maps._mean_images(images_subject(*cnn, x, a))
    for name, members in (("unprivileged", ~a), ("privileged", a)):
        grid = found.loc[found["group"] == name, "brightness"].to_numpy().reshape(4, 4)
        np.testing.assert_allclose(grid, x[members].astype(float).mean(axis=(0, 3)))


# Networks that were brought.


class Reader(nn.Module):
    """A Linen module without units of fairjax."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(3)(x)))[:, 0]


def test_a_brought_network_has_no_layers_of_random_weights():
    x, key = jnp.ones((4, 2)), jax.random.key(0)
    module = Reader()
    brought = adapters.linen.bring(module, module.init(jax.random.key(1), x), x)
    assert concepts._untrained(brought.network, key, x) is None
    own = from_linen(Mlp(widths=(3,)))
    assert set(concepts._untrained(own, jax.random.key(0), x)) >= {"params", "masks"}
    found = ProbeQuality(np.array([0.7, 0.8]), np.array([0.75, 0.85]), np.array([True, True]))
    table = concepts._probes(SimpleNamespace(seeds=(3, 5)), Probes({"hidden": found}, found, None))
    assert table["seed"].tolist() == [3, 5, 3, 5] and table["balanced_accuracy"].notna().all()
    assert table[["untrained_balanced_accuracy", "untrained_auc"]].isna().all(axis=None)


def test_names_of_sections_differ():
    names = [section.name for section in SECTIONS]
    assert len(set(names)) == len(names) > 4
