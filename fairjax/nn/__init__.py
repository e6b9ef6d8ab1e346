"""Networks as pairs of pure functions, with handles on their hidden units: masks, influence and removal."""

from fairjax.nn import masks
from fairjax.nn.cnn import Cnn
from fairjax.nn.convolution import Convolution
from fairjax.nn.dropout import dropout_masks
from fairjax.nn.flat import FlatVariables
from fairjax.nn.influence import influence
from fairjax.nn.last_layer import LastLayerNetwork, last_layer
from fairjax.nn.layers import BatchNorm, Linear, Units
from fairjax.nn.linear_classifier import linear_classifier
from fairjax.nn.materialize import materialize, shrink
from fairjax.nn.mlp import Mlp
from fairjax.nn.network import ApplyFn, InitFn, Network, from_linen
from fairjax.nn.residual_decomposition import ResidualDecomposition
from fairjax.nn.resnet import ResNet
from fairjax.nn.sentence_encoder import SentenceEncoder
from fairjax.nn.transfer import transferred
from fairjax.nn.unit_layers import HasUnitLayers, UnitLayer
from fairjax.nn.with_head import join_head, part_of, with_head

__all__ = [
    "ApplyFn",
    "BatchNorm",
    "Cnn",
    "Convolution",
    "FlatVariables",
    "HasUnitLayers",
    "InitFn",
    "LastLayerNetwork",
    "Linear",
    "Mlp",
    "Network",
    "ResNet",
    "ResidualDecomposition",
    "SentenceEncoder",
    "UnitLayer",
    "Units",
    "dropout_masks",
    "from_linen",
    "influence",
    "join_head",
    "last_layer",
    "linear_classifier",
    "masks",
    "materialize",
    "part_of",
    "shrink",
    "transferred",
    "with_head",
]
