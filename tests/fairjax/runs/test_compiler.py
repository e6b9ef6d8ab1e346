"""Compilation of programs in the background."""

import threading

import jax
import jax.numpy as jnp
import pytest

from fairjax import seeds
from fairjax.runs.compiler import BackgroundCompiler, lower_and_compile
from fairjax.runs.timings import Timings


@pytest.fixture
def ahead():
    made = BackgroundCompiler()
    yield made
    made.close()


def test_a_program_that_was_compiled_ahead_is_not_compiled_again(ahead):
    mesh, shapes = seeds.mesh(), []
    program = jax.jit(lambda x, *, power: x**power, static_argnames="power")
    x = seeds.replicate(jnp.arange(4.0), mesh)
    ahead.add("stage", lambda: shapes.append(lower_and_compile(program, x, mesh=mesh, power=3)))
    with Timings().listening() as timings:
        ahead.wait("stage")
        with timings.stage("work"):
            result = jax.block_until_ready(program(x, power=3))
    assert result.tolist() == [0.0, 1.0, 8.0, 27.0] and shapes[0].shape == (4,)
    assert timings.compilation["work"] == 0.0 and timings.ahead > 0.0


def test_nothing_is_compiled_before_its_time_or_after_the_end():
    ahead, done = BackgroundCompiler(), []
    ahead.add("first", lambda: done.append("first"))
    ahead.add("second", lambda: done.append("second"))
    assert not done
    ahead.close()
    for thread in threading.enumerate():
        if thread.name.startswith("compile"):
            thread.join(timeout=10)
    assert not done


def test_what_cannot_be_compiled_ahead_fails_where_it_is_called(ahead):
    def broken():
        raise ValueError("no such program")

    ahead.add("stage", broken)
    ahead.wait("stage")  # raises no error
    ahead.wait("of another name")
