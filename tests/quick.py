"""Programs that are compiled quickly: most of a test's time is compilation, and few claims are about the last bits."""

import os

import jax
import jax.numpy as jnp


def _known(options: dict) -> dict:
    """The options that this version of XLA knows."""
    found = {}
    for name, value in options.items():
        try:
            jax.jit(jnp.negative, compiler_options={name: value}).lower(1.0).compile()
        except Exception:  # its type differs between versions
            continue
        found[name] = value
    return found


OPTIONS = _known({"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0})
"""Little optimisation, and an older and quicker way to make code of fused operations."""

if os.environ.get("FAIRJAX_TEST_OPTIMISED"):  # set it to 1 to compile as users do, which takes three times as long
    OPTIONS = {}


def jit(function, **options):
    """`jax.jit` with these options; such a program cannot be called inside of another one."""
    return jax.jit(function, compiler_options=OPTIONS, **options)
