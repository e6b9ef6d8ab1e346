"""Tests lower programs in one MLIR context per thread; if a new version of JAX makes them elsewhere, this says so."""

import threading

import jax


def context_of(number):
    return jax.jit(lambda x: x + number).lower(1.0).compiler_ir().context


def test_programs_of_a_thread_share_a_context():
    others = []
    thread = threading.Thread(target=lambda: others.append(context_of(3)))
    thread.start()
    thread.join()
    assert context_of(1) == context_of(2) != others[0]
