"""The benchmark of speed: a small complete benchmark, resuming it, and comparing two results."""

import dataclasses
import importlib.util
import json
import os
import sys
import time

import numpy as np
import pytest

from experiments.benchmarks import fit, limits, plan, report, run, tables, view
from experiments.benchmarks.settings import Bench, from_plain, identity, plain
from experiments.benchmarks.terms import terms_to_time
from experiments.cli import PROGRAM
from fairjax.losses import TERMS

MINIATURE = Bench(
    data="simulated",
    shapes=("compas",),
    rows=300,
    seeds=2,
    widths=(3,),
    repetitions=2,
    epochs=1,
    pruning_steps=1,
    bias_gda_epochs=1,
    torch_epochs=1,
    torch_pruning_steps=1,
    torch_bias_gda_epochs=1,
    threads=(1,),
    compiled=False,
    copy_mib=1,
    whole_epochs=1,
    whole_bias_gda_epochs=1,
    whole_draws=1,
    torch_seeds=1,
    scaling_repetitions=1,
    scaling_table=200,
    scaling_seeds=(2,),
    scaling_rows=(500,),
    scaling_widths=(),
    scaling_depths=(1,),
    multipliers=2,
    reduction_widths=(3,),
    reduction_epochs=1,
    term_widths=(4, 3),
    term_epochs=1,
    term_batch_size=32,
    chunk=400,
)


def words(settings):
    """Return the command line for the settings."""
    said = []
    for name, value in plain(settings).items():
        default = plain(Bench())[name]
        flag = f"--{name}".replace("_", "-")
        if value == default:
            continue
        if isinstance(value, bool):
            said.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            said += [flag, *map(str, value if isinstance(value, list) else [value])]
    return said


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with the results of a small benchmark of the fast parts."""
    out = tmp_path_factory.mktemp("bench")
    settings = dataclasses.replace(MINIATURE, parts=("steps", "rows", "torch", "reductions", "terms"), out=out)
    if importlib.util.find_spec("torch") is None:
        settings = dataclasses.replace(settings, parts=("steps", "rows", "terms"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compilation takes most of the time of a small benchmark
        assert PROGRAM.main(["bench", *words(settings)]) == 0
    return settings


def loaded(settings):
    return json.loads((settings.out / "bench.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_miniature(finished):
    results, page = loaded(finished), (finished.out / "bench.md").read_text(encoding="utf-8")
    assert results["settings"] == identity(finished) and results["machine"]["cores"] >= 1
    for key in plan.contenders(finished):
        found = results["contenders"][key]
        assert "measures" in found, found
        for raw in found["measures"].values():
            assert raw and min(raw) > 0
        name = key.split("/")[-1]
        if name.startswith("Fairlearn, "):  # the page names the classifier alone
            name = name.removeprefix("Fairlearn, ").removesuffix(", 1 thread")
        assert name in page or name == "limit"
    ours = results["contenders"]["steps/compas/fairjax"]
    assert set(ours["measures"]) == {"training", "pruning", "bias_gda", "threshold"}
    assert len(ours["measures"]["training"]) == 2 and 0.05 < ours["peak_memory_gib"] < 10
    assert ours["compilation_seconds"]["training"] > 0
    assert results["contenders"]["data/compas"]["facts"]["features"] == 401
    terms = results["contenders"]["terms/compas/fairjax"]["measures"]
    assert set(terms) == {"without terms", *terms_to_time(401)} > set(TERMS) and all(
        f"| {name} |" in page for name in terms
    )
    assert "What the machine allows" in page and "not measured" in page
    for name in ("steps", "rows"):
        assert (finished.out / f"{name}.png").stat().st_size > 5000 and (finished.out / f"{name}.svg").exists()


@pytest.mark.slow
def test_pytorch_is_measured_too(finished):
    pytest.importorskip("torch", reason="PyTorch's contenders need it")
    results, page = loaded(finished), (finished.out / "bench.md").read_text(encoding="utf-8")
    name = "PyTorch sequential, default Adam, 1 thread"
    assert set(results["contenders"][f"steps/compas/{name}"]["measures"]) == {
        *("training", "pruning", "bias_gda", "threshold")
    }
    assert set(results["contenders"]["steps/compas/PyTorch vmap, eager, 1 thread"]["measures"]) == {
        *("training", "pruning")
    }
    assert f"The faster contender with the protocol's default in training: {name}" in page
    assert view.summary(results)[0].value is not None


@pytest.mark.slow
def test_a_benchmark_goes_on_where_it_was(finished, capsys):
    before = loaded(finished)
    raw = before["contenders"].pop("steps/compas/limit")
    (finished.out / "bench.json").write_text(json.dumps(before), encoding="utf-8")
    capsys.readouterr()
    assert PROGRAM.main(["bench", *words(finished)]) == 0
    said = capsys.readouterr().out
    assert "steps/compas/limit" in said and "steps/compas/fairjax" not in said and "rows/500" not in said
    after = loaded(finished)
    assert after["contenders"].pop("steps/compas/limit") != raw
    assert after == before
    assert list(loaded(finished)["contenders"]) == [*plan.contenders(finished)]  # in the order of the plan


@pytest.mark.slow
def test_other_settings_are_refused(finished, capsys):
    changed = dataclasses.replace(finished, repetitions=3)
    assert PROGRAM.main(["bench", *words(changed)]) == 2
    assert "other settings (repetitions); choose another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_contender_that_fails_stops_no_other(finished, tmp_path, monkeypatch, capsys):
    broken = {
        "data/compas": plan.Contender("tables.make", {"shape": "compas"}),
        "steps/compas/broken": plan.Contender("tables.none", {}),
        "steps/compas/absent": plan.Contender("tables.make", {}, "no_such_package"),
    }
    monkeypatch.setattr(plan, "contenders", lambda settings: broken)
    settings = dataclasses.replace(finished, out=tmp_path)
    assert PROGRAM.main(["bench", *words(settings)]) == 1
    assert "failed: steps/compas/broken" in capsys.readouterr().out.replace("\n", " ")
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "steps/compas/broken: failed" in page and "AttributeError" in page
    assert "no_such_package is not installed" in page


def test_a_contender_that_takes_too_long_is_ended():
    begun = time.perf_counter()
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    assert run._alone([sys.executable, "-c", script], dict(os.environ), 0.5) == (None, "")
    assert time.perf_counter() - begun < 20
    assert run._alone([sys.executable, "-c", "print('words'); exit(3)"], dict(os.environ), 60.0) == (3, "words\n")


def test_what_a_contender_needs(monkeypatch):
    assert plan.lacking(plan.Contender("tables.make", {})) is None
    assert "pip install 'fairjax[bench]'" in (
        plan.lacking(plan.Contender("torch_contenders.whole", {}, "no_such_package")) or ""
    )
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "C++ compiler" in (plan.lacking(plan.Contender("torch_contenders.vmapped", {"compiled": True})) or "")


def results_of(value, **changed):
    """Return the results of one contender."""
    contenders = {"steps/compas/fairjax": {"measures": {"training": [value, 3 * value, 2 * value]}}}
    fresh = {"format": run.FORMAT, "machine": {"cpu": "a"}, "versions": {}, "settings": {}, "contenders": contenders}
    return {**fresh, **changed}


def test_two_results_are_compared(tmp_path, capsys):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, value, cpu in zip(paths, (1.0, 2.5), "ab", strict=True):
        path.write_text(json.dumps(results_of(value, machine={"cpu": cpu})), encoding="utf-8")
    assert PROGRAM.main(["bench-compare", *map(str, paths)]) == 0
    said = capsys.readouterr().out
    assert "steps/compas/fairjax" in said and "2.50" in said and "machine.cpu: a and b" in said


def test_what_cannot_be_compared(tmp_path, capsys):
    good, text, other, empty = (tmp_path / name for name in ("good.json", "text.json", "other.json", "empty.json"))
    good.write_text(json.dumps(results_of(1.0)), encoding="utf-8")
    text.write_text("no JSON", encoding="utf-8")
    other.write_text("{}", encoding="utf-8")
    empty.write_text(json.dumps(results_of(1.0, contenders={})), encoding="utf-8")
    for path, words_ in (
        (text, "is not JSON"),
        (other, "holds no results of `bench`"),
        (tmp_path / "none.json", "cannot read"),
        (empty, "no measure in common"),
    ):
        assert PROGRAM.main(["bench-compare", str(good), str(path)]) == 2
        assert words_ in capsys.readouterr().err.replace("\n", " ")
    assert PROGRAM.main(["bench-compare", str(good)]) == 2
    assert PROGRAM.main(["bench-compare", "--help"]) == 0


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_exponents_of_known_powers(power):
    sizes = [1, 2, 5, 10, 40, 320]
    assert fit.exponents(sizes, [3 * size**power for size in sizes]) == pytest.approx((power, power), abs=1e-9)
    fixed = [100 + size**power for size in sizes]  # a fixed cost hides the power, but less so in the upper half
    whole, upper = fit.exponents(sizes, fixed)
    assert whole <= upper + 1e-9 <= power + 1e-6
    assert fit.upper(sizes, fixed)[0] == [40, 320]
    assert np.isnan(fit.exponents([], [])).all() and np.isnan(fit.exponent([2], [1.0]))


def test_the_plan():
    keys = list(plan.contenders(Bench()))
    assert len(keys) == len(set(keys)) and keys[:2] == ["data/compas", "data/adult"]
    assert {"steps/adult/fairjax", "whole/compas/fairjax", "seeds/320", "rows/10000000", "depth/40", "pruned/all"} <= {
        *keys
    }
    assert not [key for key in plan.contenders(Bench(parts=("rows",))) if not key.startswith("rows/")]
    assert list(plan.contenders(Bench(parts=("pruned",)))) == ["data/compas", "pruned/all"]
    assert {f"brought/{name}" for name in plan.FRAMEWORKS} < {*plan.contenders(Bench(parts=("brought",)))}


def test_settings():
    assert from_plain(json.loads(json.dumps(plain(MINIATURE)))) == MINIATURE
    some = dataclasses.replace(MINIATURE, parts=("rows",), scaling_rows=(7,))
    assert identity(some) == identity(MINIATURE)
    for changed, message in (
        ({"parts": ("speed",)}, "parts must be some of steps"),
        ({"shapes": ("compas", "compas")}, "each once"),
        ({"rows": 10}, "rows must be at least 100"),
        ({"seeds": 0}, "seeds must be positive"),
        ({"scaling_rows": (10, 0)}, "scaling_rows must be positive"),
        ({"threads": ()}, "threads must hold at least one"),
        ({"timeout": 0.0}, "timeout must be"),
    ):
        with pytest.raises(ValueError, match=message):
            Bench(**changed)


def test_the_summary_compares_medians():
    key = "steps/compas/"
    results = results_of(1.0, settings={"seeds": 20})
    results["contenders"] |= {
        f"{key}{view.SEQUENTIAL}, 1 thread": {"measures": {"training": [50.0]}},
        f"{key}{view.SEQUENTIAL}, 2 threads": {"measures": {"training": [38.0]}},
        f"{key}limit": {"measures": {"products": [1.0]}},
        "whole/compas/fairjax": {"measures": {"whole": [100.0], "compilation": [21.0], "compilation_cached": [2.0]}},
        f"whole/compas/{view.SEQUENTIAL}, 1 thread": {"measures": {"whole": [100.0, 140.0]}},
        "seeds/1": {"measures": {"training": [2.0]}},
        "seeds/20": {"measures": {"training": [1.0]}},
        "seeds/320": {"measures": {"training": [1.5]}},
    }
    assert [figure.value for figure in view.summary(results)] == [19.0, 2.0, 24.0, 0.75, 21.0, 2.0]
    assert "24.0 times" in "\n".join(report.summary(results))


def test_numbers_are_short():
    found = [report.number(value) for value in (None, float("nan"), 0.0, 0.012345, 1.0, 12345.6)]
    assert found == ["–", "–", "0", "0.0123", "1.00", "12,346"]


def test_the_products_are_those_of_a_step():
    """The products are forward products, weight gradients, and input gradients except those of the first layer."""
    import jax

    from fairjax import seeds

    raw = limits.products(7, (4, 3), 2, steps=3, repetitions=2, mesh=seeds.mesh(jax.devices()[:1]), group_size=None)
    assert len(raw) == 2 and min(raw) > 0
    assert limits._shapes(7, (4, 3)) == [(7, 4), (4, 3), (3, 1)]


def test_simulated_tables_can_be_learned():
    dataset = tables.simulated(3000, 12)
    assert dataset.x.shape == (3000, 12) and (dataset.x[:, -1] == dataset.a).all()
    assert dataset.y[dataset.a].mean() - dataset.y[~dataset.a].mean() > 0.1
    assert len(set(tables.seeds_of(Bench(seeds=320)))) == 320
