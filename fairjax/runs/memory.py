"""Whether images fit into memory, which is asked before they are read."""

from pathlib import Path
from typing import Any

import jax

from fairjax.seeds import Machine, mesh
from fairjax.seeds.placement import default_group_size

_BYTES_AS_FLOATS = 5
"""Bytes per number of an image while a network sees it: the byte, and a float of single precision."""


def check_images_fit(pixels: Any, seeds: int, group_size: int | None = None) -> None:
    """Check that a run can hold its images: on every device, and as floats for the networks that see them at once.

    The estimate is a lower bound, since it leaves out what the layers of the networks compute.

    Args:
        pixels: the images as bytes (n, h, w, c), which are not read.
        seeds: number of networks.
        group_size: number of seeds that run together, if the user chose it.

    Raises:
        ValueError: if they do not fit.
    """
    free = free_bytes()
    if free is None:
        return
    devices = mesh()
    chosen = Machine(devices, group_size).for_parts().group_size
    group = min(max(2, seeds), chosen or default_group_size(devices, seeds))
    local = len(jax.local_devices()) if jax.devices()[0].platform == "cpu" else 1  # cores share their memory
    needed = pixels.nbytes * (local + 1 + _BYTES_AS_FLOATS * group * local)
    if needed > free:
        height, width, channels = pixels.shape[1:]
        raise ValueError(
            f"{len(pixels):,} images of {height} x {width} pixels and {channels} channels need at least "
            f"{needed / 2**30:,.1f} GiB in a run of debias, and {free / 2**30:,.1f} GiB are free: choose a smaller "
            "--image-size, --colours grey or --group-size 2; or, in Python, compute features of a trained network "
            "chunk by chunk with fairjax.features.cached_features and debias its head, or use fairjax.streaming"
        )


def free_bytes() -> int | None:
    """Return the free memory of the first device, for CPU that of the machine; None if it is not known."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None
