"""Networks: two pure functions each, with handles on their hidden units."""

from fairjax.nn.layers import BatchNorm, Linear, Units, dropout_masks
from fairjax.nn.mlp import Mlp
from fairjax.nn.network import ApplyFn, InitFn, Network, from_linen

__all__ = ["ApplyFn", "BatchNorm", "InitFn", "Linear", "Mlp", "Network", "Units", "dropout_masks", "from_linen"]
