"""Run the contenders one after another, and save the result of each as soon as it is available."""

import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.benchmarks import plan, tables
from experiments.benchmarks.settings import Bench, identity, plain
from fairjax.runs.files import write_json

FORMAT = "fairjax bench 1"
"""The format identifier, which is the first entry of a file of results."""
PACKAGES = ("fairjax", "jax", "jaxlib", "flax", "optax", "numpy", "torch", "scikit-learn")


def run(settings: Bench, console: Console) -> dict[str, Any]:
    """Run all contenders that are not finished.

    Args:
        settings: what to measure.
        console: where progress is printed.

    Returns:
        The content of `bench.json`, which is written after every contender.

    Raises:
        ValueError: if the folder holds a benchmark with other settings or from another machine.
    """
    path = settings.out / "bench.json"
    results = opened(settings, path)
    contenders = plan.contenders(settings)
    for number, (key, contender) in enumerate(contenders.items(), start=1):
        earlier = results["contenders"].get(key)
        has_table = not key.startswith("data/") or tables.path(settings, contender.arguments["shape"]).exists()
        if earlier is not None and "measures" in earlier and has_table:
            continue
        console.print(f"{number} of {len(contenders)}: {key}", highlight=False, soft_wrap=True)
        result = _job(settings, key, contender, results)
        results["contenders"][key] = result
        results["contenders"] = _ordered(results["contenders"], contenders)
        write_json(path, results)
        for word in ("error", "skipped"):
            if word in result:
                message = result[word].splitlines()[-1]
                console.print(f"{word}: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    return results


def opened(settings: Bench, path: Path) -> dict[str, Any]:
    """Read the results so far; they are empty if there is no file.

    Raises:
        ValueError: if the file holds other settings or results from another machine.
    """
    expected = {
        "format": FORMAT,
        "machine": machine(),
        "versions": versions(),
        "settings": identity(settings),
        "contenders": {},
    }
    if not path.exists():
        return expected
    results = read(path)
    for name in ("settings", "machine", "versions"):
        value = json.loads(json.dumps(expected[name]))
        if results[name] != value:
            differ = [key for key in {**results[name], **value} if results[name].get(key) != value.get(key)]
            raise ValueError(
                f"{path} holds a benchmark of other {name} ({', '.join(differ)}); choose another folder with --out, or "
                "remove it"
            )
    return results


def read(path: Path) -> dict[str, Any]:
    """Read a file of results.

    Raises:
        ValueError: if there is no such file, or it is not a file of results.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); give a bench.json that `bench` wrote") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ValueError(f"{path} holds no results of `bench` (no format {FORMAT!r}); give a bench.json that it wrote")
    return results


def _job(settings: Bench, key: str, contender: plan.Contender, results: dict[str, Any]) -> dict[str, Any]:
    """Run one contender and return its result, or the error if it failed."""
    reason = plan.lacking(contender)
    if reason is not None:
        return {"skipped": reason}
    arguments = dict(contender.arguments)
    if arguments.get("real"):
        arguments["real"] = bool(results["contenders"].get("data/compas", {}).get("facts", {}).get("real"))
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    spec = importlib.util.find_spec("experiments")
    root = str(Path(spec.origin).parents[1]) if spec is not None and spec.origin is not None else ""
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    environment["JAX_TRACEBACK_FILTERING"] = "off"  # otherwise the last line of an error is a note on the traceback
    with tempfile.TemporaryDirectory() as scratch:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(Path(scratch) / "inductor")  # start without compiled programs
        job, result = Path(scratch) / "job.json", Path(scratch) / "result.json"
        description = {"function": contender.function, "settings": plain(settings), "arguments": arguments}
        job.write_text(json.dumps(description), encoding="utf-8")
        command = [sys.executable, "-m", "experiments.benchmarks.worker", str(job), str(result)]
        status, output = _alone(command, environment, settings.timeout)
        if status is None:
            return {"error": f"given up after {settings.timeout:g} seconds"}
        if status or not result.exists():
            return {"error": f"ended with status {status}\n{output.strip()[-2000:]}".strip()}
        return json.loads(result.read_text(encoding="utf-8"))


def _alone(command: list[str], environment: dict[str, str], timeout: float) -> tuple[int | None, str]:
    """Run a process and return its exit status and output; the status is None if it timed out.

    The process ends together with all processes that it started.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:  # timed out, or interrupted by Ctrl-C
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        return status, output.read()


def _ordered(results: dict[str, Any], contenders: dict[str, Any]) -> dict[str, Any]:
    """Sort results in the order of the plan; those of other parts come first."""
    others = (key for key in results if key not in contenders)
    return {key: results[key] for key in (*others, *contenders) if key in results}


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores and the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": cores,
        "memory_gib": round(memory, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect speed."""
    result = {}
    for package in PACKAGES:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            result[package] = "not installed"
    return result
