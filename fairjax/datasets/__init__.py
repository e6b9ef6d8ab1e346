"""The data sets of the field, benchmark files and simulations, as arrays; `DATASETS` holds them by name.

Adult, COMPAS, Bank and German are prepared by AIF360's `StandardDataset`, with the arguments of AIF360's own data set
classes: rows with missing values are dropped, categories become one 0/1 feature each, and protected attributes stay
among the features as 0/1 (1 = privileged). `snippets` are rated sentences without groups. The raw files are found by
`fairjax.datasets.find`.
"""

from fairjax.datasets.adult import adult
from fairjax.datasets.bank import bank, bank_full
from fairjax.datasets.benchmarks import DATASETS, FILES, Benchmark
from fairjax.datasets.compas import compas
from fairjax.datasets.digits import coloured_digits
from fairjax.datasets.files import DataError, PathLike, RawFile, find, user_path
from fairjax.datasets.german import german
from fairjax.datasets.image_folders import LAYOUTS, ImageData, image_folder
from fairjax.datasets.mimic import mimic
from fairjax.datasets.simulated import Parameter, Simulator
from fairjax.datasets.snippets import SNIPPET_FILES, Snippets, snippets

__all__ = [
    "Benchmark",
    "DATASETS",
    "DataError",
    "FILES",
    "ImageData",
    "LAYOUTS",
    "Parameter",
    "PathLike",
    "RawFile",
    "SNIPPET_FILES",
    "Simulator",
    "Snippets",
    "adult",
    "bank",
    "bank_full",
    "coloured_digits",
    "compas",
    "find",
    "german",
    "image_folder",
    "mimic",
    "snippets",
    "user_path",
]
