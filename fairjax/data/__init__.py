"""Find, verify, load, check, split and simulate data.

`DATASETS` holds the benchmarks by name, `from_arrays` makes a data set from a user's own arrays or frames, `groups`
names the groups of one or several attributes, `split_seeds` makes one train/valid/test split per seed, and `loh` and
`zafar` draw synthetic data whose bias is known.
"""

from fairjax.data.benchmarks import DATASETS, adult, bank, bank_full, compas, german
from fairjax.data.dataset import Dataset, from_arrays
from fairjax.data.files import FILES, DataError, RawFile, find
from fairjax.data.mimic import mimic
from fairjax.data.simulate import append_protected, loh, zafar, zafar_plane
from fairjax.data.splits import SEEDS, check_split, split, split_seeds
from fairjax.metrics.groups import Groups, continuous, groups, memberships

__all__ = [
    "DATASETS",
    "FILES",
    "SEEDS",
    "DataError",
    "Dataset",
    "Groups",
    "RawFile",
    "adult",
    "append_protected",
    "bank",
    "bank_full",
    "check_split",
    "compas",
    "continuous",
    "find",
    "from_arrays",
    "german",
    "groups",
    "loh",
    "memberships",
    "mimic",
    "split",
    "split_seeds",
    "zafar",
    "zafar_plane",
]
