"""RunConfig: everything that a run depends on, as one checked value, section by section.

Relative paths are relative to the working directory.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fcn4dist.config.split_name import find_fault

MOST = 1 << 63  # what files and NumPy hold; Python itself refuses to print the longest numbers
PositiveInt = Annotated[int, Field(gt=0, lt=MOST)]
NotNegativeInt = Annotated[int, Field(ge=0, lt=MOST)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AnnotationFormat = Literal[
    "table", "mtg-jamendo", "msd", "fma", "gtzan", "openmic", "nsynth", "fsd50k", "esc50", "audioset"
]


def list_names(annotation: object) -> tuple[str, ...]:
    """Return the names that a key of this type may have; none where it takes other text or paths, too."""
    if get_origin(annotation) is Literal:
        return tuple(name for name in get_args(annotation) if isinstance(name, str))
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    if any(part in (str, Path) for part in parts):
        return ()
    return tuple(name for part in parts for name in list_names(part))


MOST_PROFILED = 100  # steps: a trace of one has 0.1 MB (CPU) to some 10 MB, and viewers load it whole


class Section(BaseModel):
    """A section of the config: unknown keys are refused, values do not change after loading.

    Where a key has names to choose from, their case does not matter: `device_target: cpu` is CPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _names_in_any_case(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {key: cls._spelled(key, value) for key, value in values.items()}

    @classmethod
    def _spelled(cls, key: object, value: object) -> object:
        """Return `value` as its key spells it, where the key has names and no other text to choose from."""
        if not isinstance(value, str) or not isinstance(key, str) or key not in cls.model_fields:
            return value
        spellings = {name.lower(): name for name in list_names(cls.model_fields[key].annotation)}
        return spellings.get(value.lower(), value)


class DataConfig(Section):
    """Where the audio and its tags are, and how clips become shards."""

    audio_dir: Path | None = Field(None, description="Folder that the clips' paths start from")
    npy_dir: Path | None = Field(
        None,
        description="Instead of audio_dir: folder of log-mel spectrograms as .npy, as ModelZoo's get_npy leaves them",
    )
    annotations: Path | None = Field(
        None, description="Annotations of the clips: a table, or the file or folder of a known set"
    )
    format: AnnotationFormat | Literal["auto"] = Field(
        "auto", description="Format of the annotations; auto: as their own header says"
    )
    path_template: str | None = Field(
        None, description="A clip's audio under audio_dir, where the annotations do not say: '{id}.wav'"
    )
    path_map: Path | None = Field(None, description="Or a table of two columns, id and path")
    tags: PositiveInt | Literal["all"] | list[str] | Path = Field(
        50, union_mode="left_to_right", description="The k most frequent tags, all, a list, or a file of them"
    )
    records_dir: Path | None = Field(None, description="The prepared data set; ModelZoo's mr_path")
    num_consumer: Annotated[int, Field(gt=0, le=1000)] | None = Field(
        None, description="Shards of each part; null: 4, or more of about 256 MB"
    )
    synonyms: Path | None = Field(
        None, description="File of groups of tags to merge before `tags` is applied: configs/mtt_synonyms.txt"
    )
    split: str = Field(
        "folder-12-1-3",
        description="Which clips train, validate and test: a rule, the format's own (official), folds, or a file",
    )
    clean: bool = Field(
        False, description="Leave out clips that have none of the tags; the split's name then ends in -clean"
    )
    seed: Annotated[int, Field(gt=-MOST, lt=MOST)] = Field(1, description="Of the random splits")
    feature_dtype: Literal["float32", "float16"] = Field(
        "float32", description="How features are stored; float16 halves the shards"
    )
    max_skipped_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="Most clips that may be unusable, as a fraction of all, before prepare fails"
    )
    num_workers: NotNegativeInt = Field(0, description="Processes of `prepare`; 0: one a core")
    verify: Literal["digest", "size"] = Field(
        "size", description="How shards are checked before training: their size, or their digest too, which reads them"
    )

    @property
    def source_dir(self) -> Path | None:
        """The folder that mp3_path starts from: of audio, or of .npy files in the same places."""
        return self.npy_dir or self.audio_dir

    @property
    def source_suffix(self) -> str | None:
        """What the files there end in, in place of mp3_path's own; null: as mp3_path says."""
        return None if self.npy_dir is None else ".npy"

    @field_validator("split")
    @classmethod
    def _known_split(cls, value: str) -> str:
        if (fault := find_fault(value)) is not None:
            raise ValueError(fault)
        return value

    @field_validator("tags")
    @classmethod
    def _each_tag_once(cls, value: int | str | list[str] | Path) -> int | str | list[str] | Path:
        if isinstance(value, list):
            repeated = next((tag for tag in value if value.count(tag) > 1), None)
            if repeated is not None or not value:
                raise ValueError("no tags" if repeated is None else f"{repeated!r} is there twice")
        return value

    @field_validator("path_template")
    @classmethod
    def _template_of_paths(cls, value: str | None) -> str | None:
        try:
            (value or "").format(id="", path="")
        except (LookupError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{value!r}: {type(error).__name__} {error}; expected a path with {{id}}, or {{path}} (as the annotations "
                "say, without its ending): '{id}.wav'"
            ) from None
        return value

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.npy_dir is not None and self.audio_dir is not None:
            raise ValueError("audio_dir and npy_dir are both set; clips come from one of them, so leave the other out")
        return self


class MelConfig(Section):
    """The log-mel spectrogram of Choi et al. (2016); frames are centred, the clip is cropped or padded around its middle."""

    sample_rate_hz: PositiveInt = Field(12_000, description="Audio is resampled to this rate, in Hz")
    n_fft: PositiveInt = Field(512, description="Samples of a Fourier window")
    hop_samples: PositiveInt = Field(256, description="Samples from frame to frame")
    n_mels: PositiveInt = Field(96, description="Mel bands")
    clip_s: PositiveFloat = Field(29.12, description="What the network hears at once, in seconds")
    stored_s: PositiveFloat | None = Field(
        None, description="Seconds kept of a longer piece, for other crops and windows; null: clip_s"
    )
    db: Literal["amplitude", "power"] = Field(
        "amplitude", description="Decibels: 20 log10 (amplitude) or 10 log10 (power) of the power mel"
    )

    @model_validator(mode="after")
    def _stores_a_clip(self) -> MelConfig:
        if self.stored_s is not None and self.stored_s < self.clip_s:
            raise ValueError(f"stored_s {self.stored_s} is shorter than clip_s {self.clip_s}; expected at least a clip")
        return self

    @property
    def num_samples(self) -> int:
        """Samples of a clip: 349,440 for the defaults."""
        return round(self.clip_s * self.sample_rate_hz)

    @property
    def num_frames(self) -> int:
        """Centred frames of a clip: 1366 for the defaults."""
        return 1 + self.num_samples // self.hop_samples

    @property
    def num_stored_samples(self) -> int:
        """Samples whose spectrogram is stored."""
        return self.num_samples if self.stored_s is None else round(self.stored_s * self.sample_rate_hz)

    @property
    def num_stored_frames(self) -> int:
        """Centred frames that are stored of each piece; those of a clip unless stored_s says more."""
        return 1 + self.num_stored_samples // self.hop_samples


class AugmentConfig(Section):
    """How training varies what it hears; every choice is a function of (seed, epoch, clip)."""

    crop: Literal["middle", "random"] = Field(
        "middle", description="Which clip of what is stored (mel.stored_s) training hears"
    )
    time_masks: NotNegativeInt = Field(0, description="Stretches of a clip that are blanked")
    time_mask_frames: PositiveInt = Field(64, description="The longest of them, in frames")
    frequency_masks: NotNegativeInt = Field(0, description="Groups of neighbouring mel bands that are blanked")
    frequency_mask_bins: PositiveInt = Field(12, description="The widest of them, in mel bands")
    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="Mix pairs of clips, in shares from Beta(mixup, mixup); 0: not"
    )


class ModelConfig(Section):
    """FCN-4: four convolutions, pooled after each of the first three, then the maximum over what is left."""

    channels: list[PositiveInt] = Field([128, 384, 768, 2048], description="Channels of the four convolutions")
    pools: list[tuple[PositiveInt, PositiveInt]] = Field(
        [(2, 4), (4, 5), (3, 8)], description="Pooling after each of the first three, as [mel bands, frames]"
    )
    input_norm: Literal["none", "batch"] = Field(
        "none", description="batch: a scale and a shift for each mel band, learned"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the values before the last layer that is dropped, in training only"
    )
    first_block: Literal["auto", "plain", "pooled"] = Field(
        "auto", description="pooled: pool before batch norm, in training only; the same numbers, faster on CPU"
    )

    @field_validator("channels")
    @classmethod
    def _four_channels(cls, value: list[int]) -> list[int]:
        if len(value) != 4:
            raise ValueError(f"FCN-4 has 4 convolutions, so 4 numbers of channels; found {len(value)}")
        return value

    @field_validator("pools")
    @classmethod
    def _three_pools(cls, value: list[tuple[int, int]]) -> list[tuple[int, int]]:
        if len(value) != 3:
            raise ValueError(f"FCN-4 pools after its first 3 convolutions; found {len(value)} pools")
        return value

    @model_validator(mode="after")
    def _pools_what_has_no_gradient(self) -> ModelConfig:
        # with a gradient of patch statistics MindSpore 2.10 hangs on CPU in the 18th step (docs/lab/log.md)
        if self.first_block == "pooled" and self.input_norm != "none":
            raise ValueError(
                f"first_block pooled needs input_norm none, found {self.input_norm}; use first_block: plain, or auto"
            )
        return self

    def pools_first(self, target: str, amp: str) -> bool:
        """Return whether training on `target` (CPU or Ascend) pools the first map before it normalizes it."""
        if self.first_block == "auto":
            return target == "CPU" and amp == "O0" and self.input_norm == "none"
        return self.first_block == "pooled"


class TrainConfig(Section):
    """The optimisation."""

    epochs: PositiveInt = Field(10, description="Passes over the training clips")
    max_steps: PositiveInt | None = Field(None, description="Stop after so many steps in all")
    global_batch: PositiveInt | None = Field(None, description="Clips of a step over all ranks; null: 32 a rank")
    device_batch: PositiveInt | None = Field(
        None, description="Most clips that a device takes at once; gradients accumulate over the rest"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        "adam", description="adamw decays weights beside the gradient; sgd is Nesterov's"
    )
    lr: PositiveFloat = Field(0.0005, description="Learning rate")
    momentum: Annotated[float, Field(gt=0, lt=1)] = Field(0.9, description="Of sgd")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="Decay of the weights, not of biases and norms"
    )
    clip_norm: PositiveFloat | None = Field(
        None, description="Largest norm of all gradients together; larger ones are scaled down"
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Decay of a moving average of the weights, which is then evaluated and exported"
    )
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant", description="What the learning rate does over the run"
    )
    warmup_steps: NotNegativeInt = Field(0, description="Steps of linear warm-up, before any schedule")
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="What plateau multiplies the rate by, once validation stands still"
    )
    plateau_patience: PositiveInt = Field(3, description="Epochs without a better validation ROC-AUC before that")
    early_stop_epochs: PositiveInt | None = Field(
        None, description="End the run after so many epochs without a better validation ROC-AUC"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        1, description="Of the weights, the order of clips, crops and masks"
    )
    amp: Literal["O0", "O2", "O3", "auto"] = Field(
        "O0", description="MindSpore's level of mixed precision: O0 is float32; O2, O3 and auto use amp_dtype"
    )
    amp_dtype: Literal["float16", "bfloat16"] = Field("float16", description="Of amp; bfloat16 needs a 910B or later")
    loss_scale: PositiveFloat | Literal["dynamic"] = Field(
        1024.0, description="Loss scale under mixed precision: fixed, or dynamic"
    )
    max_overflows: PositiveInt = Field(1000, description="Overflows in a row before the run ends as failed")
    max_diverged_steps: PositiveInt = Field(
        100, description="Steps in a row with an exploding or no loss before the run ends as failed"
    )
    init_from: Path | None = Field(None, description="Weights to start from: a checkpoint of ours or of ModelZoo")
    freeze_batch_norm: bool = Field(
        False, description="Use the stored statistics in training too: fine-tuning on small batches"
    )

    @model_validator(mode="after")
    def _half_precision_is_used(self) -> TrainConfig:
        if self.amp_dtype == "bfloat16" and self.amp == "O0":
            raise ValueError("amp_dtype is bfloat16, but amp is O0, all in float32; set amp: O2, or leave it out")
        return self


class CheckpointConfig(Section):
    """When checkpoints are written and how many are kept beside the best one."""

    every_steps: PositiveInt = Field(
        2000, description="Steps from checkpoint to checkpoint; each evaluated epoch has one, too"
    )
    keep: PositiveInt = Field(2, description="How many of the last checkpoints are kept, beside the best one")
    prefix: str = Field("MusicTagger", description="The model's name inside state.json and in exported files")
    on_error: Literal["stop", "continue"] = Field(
        "stop", description="When one cannot be written (a full disk): end the run, or warn and go on"
    )
    format: Literal["ckpt", "safetensors"] = Field(
        "safetensors", description="File format of the weights; MindSpore 2.10 may refuse a good .ckpt"
    )


class EvaluateConfig(Section):
    """The evaluation by rank 0."""

    every_epochs: PositiveInt = Field(1, description="Epochs from evaluation to evaluation")
    split: Literal["train", "val", "test"] = Field("val", description="Part that is scored")
    batch: PositiveInt = Field(
        16, description="Clips of a forward pass on each rank; the last one is padded, padding never counts"
    )
    num_resamples: NotNegativeInt = Field(2000, description="Bootstrap resamples of the intervals; 0: no intervals")
    seed: NotNegativeInt = Field(0, description="Of the resamples")


@dataclass(frozen=True)
class StepRange:
    """Steps of a run, both ends included; they count from 1, as in its records."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class LaunchConfig(Section):
    """The job."""

    device_target: Literal["auto", "Ascend", "CPU"] = Field(
        "auto", description="Where training runs; auto: Ascend where it is found, else CPU"
    )
    devices: PositiveInt = Field(1, description="Workers on this host, one a device")
    deterministic: bool = Field(
        False, description="On Ascend: the same bits from the same steps, more slowly; on CPU it is always so"
    )
    bind_cores: bool = Field(
        True, description="Divide the cores among the ranks and pin each rank to its own (CPU only)"
    )
    collective_timeout_s: PositiveInt = Field(
        1800, description="How late a rank may be to a collective before all fail, in seconds"
    )
    hccl_connect_timeout_s: Annotated[int, Field(ge=120, le=7200)] = Field(
        600, description="For NPUs to reach each other, in seconds; HCCL's range"
    )
    join_timeout_s: PositiveFloat = Field(
        600.0, description="How long the hosts of a job wait for each other, in seconds"
    )
    peer_timeout_s: Annotated[float, Field(ge=2)] = Field(
        10.0, description="Seconds without a word of another host before it counts as gone"
    )
    grace_s: PositiveFloat = Field(
        30.0, description="Seconds for the current step and its checkpoint when a signal ends the job"
    )
    max_restarts: NotNegativeInt = Field(
        0, description="How often a failed job starts again, from its newest checkpoint"
    )
    track: Literal["none", "tensorboard", "mlflow", "swanlab", "wandb"] = Field(
        "none", description="Who shows the run as it goes on; each needs the extra of its name"
    )
    tensorboard: bool = Field(False, description="The same as track: tensorboard, or beside another one")
    stall_timeout_s: PositiveFloat = Field(
        600.0, description="Seconds without a step on any rank before the job counts as failed"
    )
    phase_timeout_s: PositiveFloat = Field(
        3600.0, description="Seconds for starting, compiling, one evaluation and the last checkpoint"
    )
    profile_steps: str | None = Field(
        None, description="'10-15': MindSpore's profiler around these steps, on every rank"
    )

    @field_validator("profile_steps", mode="before")
    @classmethod
    def _steps_in_order(cls, value: object) -> object:
        if value is None:
            return None
        match = re.fullmatch(r"\s*(\d{1,12})\s*(?:-\s*(\d{1,12}))?\s*", str(value))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise ValueError(
                f"{value!r} is no range of steps; expected FIRST-LAST such as 10-15, where the first step is 1"
            )
        if last - first >= MOST_PROFILED:
            raise ValueError(f"{value} are {last - first + 1} steps; a profile takes at most {MOST_PROFILED}")
        return f"{first}-{last}"

    @property
    def trackers(self) -> tuple[str, ...]:
        """All that follow the run, by name."""
        wanted = {"tensorboard": self.tensorboard, self.track: self.track != "none"}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    @property
    def profiled(self) -> StepRange | None:
        """The steps of profile_steps."""
        if self.profile_steps is None:
            return None
        first, last = self.profile_steps.split("-")
        return StepRange(int(first), int(last))


class RunConfig(Section):
    """A whole run."""

    data: DataConfig = DataConfig()
    mel: MelConfig = MelConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    launch: LaunchConfig = LaunchConfig()

    @model_validator(mode="after")
    def _network_fits_mel(self) -> RunConfig:
        bands, frames = self.mel.n_mels, self.mel.num_frames
        for pool_bands, pool_frames in self.model.pools:
            bands, frames = bands // pool_bands, frames // pool_frames
        if bands < 1 or frames < 1:
            raise ValueError(
                f"model.pools {[list(p) for p in self.model.pools]} leave nothing of {self.mel.n_mels} mel bands x "
                f"{self.mel.num_frames} frames (mel.clip_s {self.mel.clip_s}); use smaller pools or longer clips"
            )
        return self

    @model_validator(mode="after")
    def _pooled_block_knows_amp(self) -> RunConfig:
        if self.model.first_block == "pooled" and self.train.amp not in ("O0", "O2"):
            raise ValueError(
                f"model.first_block: pooled computes its statistics in float32, which train.amp {self.train.amp} does not "
                "leave it; use O0 or O2, or first_block: plain"
            )
        return self

    @model_validator(mode="after")
    def _masks_leave_something(self) -> RunConfig:
        augment = self.augment
        for count, key, unit, heard in (
            (augment.time_masks, "time_mask_frames", "frames", self.mel.num_frames),
            (augment.frequency_masks, "frequency_mask_bins", "mel bands", self.mel.n_mels),
        ):
            if (masked := count * getattr(augment, key)) >= heard:
                raise ValueError(
                    f"augment.{key} {getattr(augment, key)}: {count} of them may blank {masked} {unit}, a clip has {heard}; "
                    "use fewer or smaller ones"
                )
        return self

    @model_validator(mode="after")
    def _validation_can_decide(self) -> RunConfig:
        """Whether the evaluations that the plateau schedule and early stopping go by come, and come in time."""
        train, every = self.train, self.evaluate.every_epochs
        waits = {"train.schedule plateau": train.plateau_patience} if train.schedule == "plateau" else {}
        if train.early_stop_epochs is not None:
            waits["train.early_stop_epochs"] = train.early_stop_epochs
        for key, patience in waits.items():
            if self.evaluate.split != "val":
                raise ValueError(
                    f"{key} goes by the validation part, but evaluate.split is {self.evaluate.split}; set val"
                )
            if every > min(patience, train.epochs):
                raise ValueError(
                    f"{key} goes by evaluations, but evaluate.every_epochs is {every}, for {train.epochs} epochs and a patience "
                    f"of {patience}; evaluate more often"
                )
        return self

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the config, independent of the order of keys."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
