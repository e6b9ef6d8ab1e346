"""Configure JAX before its first use."""

import os

import jax

from fairjax.runs.settings import Settings


def set_up(settings: Settings) -> None:
    """Use one virtual CPU device per core, and the folder of the compilation cache."""
    use_cores()
    if settings.compilation_cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(settings.compilation_cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def use_cores() -> None:
    """Use one virtual CPU device per core, unless the user has set the number of devices."""
    chosen: int = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if chosen >= 0 or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    jax.config.update("jax_num_cpu_devices", usable_cores())


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
