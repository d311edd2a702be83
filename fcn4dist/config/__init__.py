"""The config of a run: its sections (schema), how a batch is divided (batches), and files and options (load)."""

from fcn4dist.config.batches import BatchPlan, keep_batches, plan_batches
from fcn4dist.config.load import build_config, format_config, load_config, override_config, parse_override
from fcn4dist.config.precision import check_precision
from fcn4dist.config.schema import (
    AnnotationFormat,
    AugmentConfig,
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    LaunchConfig,
    MelConfig,
    ModelConfig,
    RunConfig,
    StepRange,
    TrainConfig,
)

__all__ = [
    "AnnotationFormat",
    "AugmentConfig",
    "BatchPlan",
    "CheckpointConfig",
    "DataConfig",
    "EvaluateConfig",
    "LaunchConfig",
    "MelConfig",
    "ModelConfig",
    "RunConfig",
    "StepRange",
    "TrainConfig",
    "build_config",
    "check_precision",
    "format_config",
    "keep_batches",
    "load_config",
    "override_config",
    "parse_override",
    "plan_batches",
]
