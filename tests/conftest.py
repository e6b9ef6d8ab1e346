"""Settings of all tests: two CPU devices, no rank promotion, checks of key reuse, and checks of shapes and types."""

import gc
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import jax
import one_context
from hypothesis import settings
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)

QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
"""Little optimisation, an older but faster way to generate code, and no splitting of programs into parts, each of which
costs time: few tests compare with recorded bits."""


def _known(flags: str) -> bool:
    """Return whether this version of XLA knows all flags; it ends the process if it does not."""
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(command, env=environment, capture_output=True).returncode


# set FAIRJAX_TEST_OPTIMISED=1 to compile as users do, which takes twice as long
if "XLA_FLAGS" not in os.environ and not os.environ.get("FAIRJAX_TEST_OPTIMISED") and _known(QUICK):
    os.environ["XLA_FLAGS"] = QUICK  # also in the processes that tests start

one_context.install()

settings.register_profile("same", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("same")

os.environ.setdefault("MPLBACKEND", "Agg")

UNCHECKED = ("cli", "report", "runs")
"""Packages that check their values themselves, with messages that beartype would come before."""

FAIRJAX = Path(__file__).parents[1] / "fairjax"
LIBRARY = [f"fairjax.{module.name}" for module in pkgutil.iter_modules([str(FAIRJAX)]) if module.name not in UNCHECKED]

install_import_hook(LIBRARY, "beartype.beartype").__enter__()  # active for the whole session

gc.set_threshold(50_000, 20, 20)  # traced programs consist of many small objects, and few of them are garbage

import pytest  # noqa: E402  (after the hook, like everything that may import fairjax)

collect_ignore = ["oracles"]  # a script that requires PyTorch


SLOW = (
    "test_benchmarks.py",
    "test_composed_runs.py",
    "test_mitigate_run.py",
    "test_own_table_runs.py",
    "test_published_results.py",
    "test_documents.py",
    "test_runs.py",
    "test_frozen.py",
    "test_hosts.py",
    "test_lowering.py",
    "test_many_groups.py",
    "test_runs_of_many_groups.py",
    "test_output.py",
    "test_precision.py",
    "test_streaming.py",
    "test_table3_run.py",
)
"""Modules that make whole runs or compile many programs: `make test` leaves them out, `make test-all` does not."""


LONG = ("test_sklearn.py", "test_lowering.py", "test_precision.py", "test_hosts.py", "test_output.py")
"""Modules with the longest tests. They begin first, so that no process is left with one of them at the end."""


def pytest_collection_modifyitems(items):
    """Mark the tests of slow modules, and order all tests by when they should begin."""
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish():
    """Exempt what was imported from collections of garbage, which take seconds; some libraries ask for whole ones."""
    gc.freeze()


def pytest_ignore_collect(collection_path, config):
    """Do not import a file that has no test of those asked for, since imports take many seconds in each process."""
    if collection_path.suffix == ".py":
        chosen, whole = config.option.markexpr, collection_path.name in SLOW
        if chosen == "not slow" and whole:
            return True
        if chosen == "slow" and not whole and "mark.slow" not in collection_path.read_text(encoding="utf-8"):
            return True
    return None


KEYLESS = ("auditing", "losses", "metrics", "postprocess", "selection")
"""Packages without random keys: checks of key reuse would double the time of operations outside `jax.jit`."""


@pytest.fixture(scope="module", autouse=True)
def checks_of_key_reuse(request):
    """Check that no key is used twice, except in tests of packages that use none."""
    jax.config.update("jax_debug_key_reuse", request.path.parent.name not in KEYLESS)


@pytest.fixture
def key():
    """Return a new key."""
    return jax.random.key(0)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Keep compiled programs in a folder, for modules that compile the same programs repeatedly."""
    folder = str(tmp_path_factory.mktemp("programs"))
    here = {"jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.05}
    usual = {name: getattr(jax.config, name) for name in here}
    for name, value in here.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in usual.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def biased():
    """Return a small trained network that is biased, and the methods on it."""
    from biased import BiasedNetwork  # not at the top, since only some tests need it and what it imports

    return BiasedNetwork()
