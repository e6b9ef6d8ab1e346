"""Make, check, split and simulate data.

`from_arrays` makes a data set from a user's own arrays or frames, `groups` names the groups of one or several
attributes, `split_seeds` makes one train/valid/test split per seed, and `loh`, `zafar` and `minority` draw synthetic
data whose bias is known. The benchmarks are in `fairjax.datasets`.
"""

from typing import Any

from fairjax import deprecated
from fairjax.data.dataset import Dataset, from_arrays
from fairjax.data.images import DecodedImages, decode_images
from fairjax.data.minority import minority
from fairjax.data.simulate import append_protected, loh, zafar, zafar_plane
from fairjax.data.splits import check_split, split, split_seeds
from fairjax.metrics.groups import Groups, groups
from fairjax.metrics.memberships import continuous, memberships

__all__ = [
    "Dataset",
    "DecodedImages",
    "Groups",
    "append_protected",
    "check_split",
    "continuous",
    "decode_images",
    "from_arrays",
    "groups",
    "loh",
    "memberships",
    "minority",
    "split",
    "split_seeds",
    "zafar",
    "zafar_plane",
]


def __getattr__(name: str) -> Any:
    """Return what has moved to `fairjax.datasets`."""
    return deprecated.benchmark(name)
