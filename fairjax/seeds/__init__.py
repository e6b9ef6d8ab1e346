"""Many seeds at once, over all devices: `fit_many`, `debias_many`, and `over_seeds` for any function of one seed."""

from fairjax.seeds.many import debias_many, fit_many
from fairjax.seeds.placement import (
    CPU_GROUP_SIZE,
    default_group_size,
    mesh,
    over_seeds,
    replicate,
    replicated_sharding,
)
from fairjax.seeds.programs import (
    Axes,
    Machine,
    advance_debiasing,
    advance_training,
    begin_debiasing,
    begin_training,
    evaluate,
    evaluate_logits,
)
from fairjax.seeds.stages import (
    CHUNK,
    Call,
    Debiasing,
    DebiasingState,
    Drive,
    Fitting,
    chunk_of,
    execute,
    run_chunks,
    shapes_only,
    steps_of,
)

__all__ = [
    "CHUNK",
    "CPU_GROUP_SIZE",
    "Axes",
    "Call",
    "Debiasing",
    "DebiasingState",
    "Drive",
    "Fitting",
    "Machine",
    "advance_debiasing",
    "advance_training",
    "begin_debiasing",
    "begin_training",
    "chunk_of",
    "debias_many",
    "default_group_size",
    "evaluate",
    "execute",
    "fit_many",
    "evaluate_logits",
    "mesh",
    "over_seeds",
    "replicate",
    "replicated_sharding",
    "shapes_only",
    "steps_of",
    "run_chunks",
]
