"""Measures, influence, gradients and evaluations of data that do not fit on a device or in memory.

A parity measure is not an average over rows, and the average of the biases of chunks is not the bias of all rows, since
a chunk may lack a group. But all functions of this package can be computed from sums over rows, which add up over
chunks of rows, devices and hosts: sums of scores by label and group (`fairjax.metrics.group_sums`), histograms of
scores, and sums of losses. Derivatives take two passes: the first computes the sums and the derivative of the measure
with respect to them, and the second pulls this derivative back chunk by chunk, which adds up as well.

A source is an iterable of chunks that can be iterated more than once: a list of batches, `chunks` of arrays, or an
object whose `__iter__` starts again from the beginning and reads files or draws rows from a key. Chunks of one size
compile one program; a shorter chunk is padded with rows of weight 0. At most two chunks are in memory at a time. Do not
modify the arrays of a chunk after passing it on.

With several processes (`jax.distributed`), every process iterates over chunks of its own rows, with the same number of
chunks of the same size on each, on one mesh of all devices. The sums are over all processes, and every process gets the
result.
"""

from fairjax.streaming.source import Chunk, Chunks, Source, chunks, padded
from fairjax.streaming.sums import AXIS, MAX_ROWS, mesh, sum_over_chunks
from fairjax.streaming.verbs import Loss, evaluate, influence, measure, value_and_grad

__all__ = [
    "AXIS",
    "Chunk",
    "Chunks",
    "Loss",
    "MAX_ROWS",
    "Source",
    "chunks",
    "evaluate",
    "influence",
    "measure",
    "mesh",
    "padded",
    "sum_over_chunks",
    "value_and_grad",
]
