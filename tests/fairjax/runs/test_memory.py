"""Images that do not fit into memory are refused before they are read, with the way out."""

import numpy as np
import pytest

from fairjax.runs import memory


class Pixels:
    """The shape of an array of bytes, without the bytes."""

    def __init__(self, *shape):
        self.shape, self.nbytes = shape, int(np.prod(shape))

    def __len__(self):
        return self.shape[0]


def test_images_larger_than_memory_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 8 * 2**30)
    memory.check_images_fit(Pixels(10_000, 64, 64, 3), seeds=10)
    with pytest.raises(
        ValueError, match=r"200,000 images of 128 x 128 pixels and 3 channels need at least \d+\.\d GiB"
    ):
        memory.check_images_fit(Pixels(200_000, 128, 128, 3), seeds=10)


def test_fewer_seeds_at_once_need_less(monkeypatch):
    needed = {}
    for size in (2, 8):
        monkeypatch.setattr(memory, "free_bytes", lambda: 1)
        with pytest.raises(ValueError, match="a smaller --image-size, --colours grey or --group-size 2") as error:
            memory.check_images_fit(Pixels(2**20, 32, 32, 1), seeds=20, group_size=size)
        needed[size] = float(str(error.value).split("at least ")[1].split()[0])
    assert needed[2] == 3 + 5 * 2 * 2 and needed[8] == 3 + 5 * 8 * 2  # GiB, on the two devices of the tests


def test_the_free_memory_is_known_or_nothing_is_refused(monkeypatch):
    free = memory.free_bytes()
    assert free is None or 2**20 < free < 2**50
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    memory.check_images_fit(Pixels(10**9, 512, 512, 3), seeds=10)
