"""Compile programs quickly: compilation takes most of the time of the tests, and few tests check the last bits."""

import os

import jax
import jax.numpy as jnp


def _known(options: dict) -> dict:
    """Return the options that this version of XLA knows."""
    found = {}
    for name, value in options.items():
        try:
            jax.jit(jnp.negative, compiler_options={name: value}).lower(1.0).compile()
        except Exception:  # the type of the error differs between versions
            continue
        found[name] = value
    return found


OPTIONS = _known({"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0})
"""Little optimisation, and an older but faster way to generate code for fused operations."""

if os.environ.get("FAIRJAX_TEST_OPTIMISED"):  # set to 1 to compile as users do, which takes three times as long
    OPTIONS = {}


def jit(function, **options):
    """Apply `jax.jit` with these options; the compiled program cannot be called inside another one."""
    return jax.jit(function, compiler_options=OPTIONS, **options)
