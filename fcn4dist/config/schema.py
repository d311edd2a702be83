"""RunConfig: everything that a run depends on, as one checked value, section by section.

Relative paths are relative to the working directory.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fcn4dist.config.split_name import find_fault

PositiveInt = Annotated[int, Field(gt=0)]
NotNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AnnotationFormat = Literal[
    "table", "mtg-jamendo", "msd", "fma", "gtzan", "openmic", "nsynth", "fsd50k", "esc50", "audioset"
]

MOST_PROFILED = 100  # steps: a trace of one has 0.1 MB (CPU) to some 10 MB, and viewers load it whole


class Section(BaseModel):
    """A section of the config: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(Section):
    """Where the audio and its tags are, and how clips become shards."""

    audio_dir: Path | None = None
    npy_dir: Path | None = None  # instead of audio_dir: log-mel spectrograms as .npy, as ModelZoo's get_npy leaves them
    annotations: Path | None = None
    format: AnnotationFormat | Literal["auto"] = "auto"  # of the annotations; auto: as their own header says
    path_template: str | None = None  # a clip's audio under audio_dir, where the annotations do not say: "{id}.wav"
    path_map: Path | None = None  # or a table of two columns, id and path
    tags: PositiveInt | Literal["all"] | list[str] | Path = Field(
        default=50, union_mode="left_to_right"
    )  # k most frequent, all, a list, or a file
    records_dir: Path | None = None  # the prepared data set; ModelZoo's mr_path
    num_consumer: Annotated[int, Field(gt=0, le=1000)] | None = None  # shards a split; none: 4, or more of about 256 MB
    synonyms: Path | None = None  # groups of tags to merge before `tags` is applied: configs/mtt_synonyms.txt
    split: str = "folder-12-1-3"
    clean: bool = False  # leave out clips that have none of the tags; the split's name then ends in -clean
    seed: int = 1  # of the random splits
    feature_dtype: Literal["float32", "float16"] = "float32"
    max_skipped_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    num_workers: NotNegativeInt = 0  # processes of `prepare`; 0: one a core
    verify: Literal["digest", "size"] = "size"  # how shards are checked before training

    @property
    def source_dir(self) -> Path | None:
        """The folder that mp3_path starts from: of audio, or of .npy files in the same places."""
        return self.npy_dir or self.audio_dir

    @property
    def source_suffix(self) -> str | None:
        """What the files there end in, in place of mp3_path's own; none: as mp3_path says."""
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

    sample_rate_hz: PositiveInt = 12_000
    n_fft: PositiveInt = 512
    hop_samples: PositiveInt = 256
    n_mels: PositiveInt = 96
    clip_s: PositiveFloat = 29.12  # what the network hears at once
    stored_s: PositiveFloat | None = None  # kept of a longer piece, for other crops and windows; none: clip_s
    db: Literal["amplitude", "power"] = "amplitude"  # 20 log10 or 10 log10 of the power mel: see data/mel.py

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

    crop: Literal["middle", "random"] = "middle"  # of what is stored: mel.stored_s
    time_masks: NotNegativeInt = 0  # stretches of a clip that are blanked
    time_mask_frames: PositiveInt = 64  # the longest of them
    frequency_masks: NotNegativeInt = 0  # groups of neighbouring mel bands that are blanked
    frequency_mask_bins: PositiveInt = 12  # the widest of them
    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # shares are drawn from Beta(mixup, mixup)


class ModelConfig(Section):
    """FCN-4: four convolutions, pooled after each of the first three, then the maximum over what is left."""

    channels: list[PositiveInt] = [128, 384, 768, 2048]
    pools: list[tuple[PositiveInt, PositiveInt]] = [(2, 4), (4, 5), (3, 8)]  # (mel bands, frames)
    input_norm: Literal["none", "batch"] = "none"  # batch: a scale and shift a mel band, learned
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the values before the last layer, in training only
    first_block: Literal["auto", "plain", "pooled"] = "auto"  # pooled: pool before batch norm, in training only

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

    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None  # stop after so many steps in all
    global_batch: PositiveInt | None = None  # clips a step over all ranks; none: 32 a rank
    device_batch: PositiveInt | None = None  # most clips a device takes at once; gradients accumulate over the rest
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # adamw decays weights beside the gradient; sgd is Nesterov's
    lr: PositiveFloat = 0.0005
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9  # of sgd
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # not of biases and norms
    clip_norm: PositiveFloat | None = None  # the largest norm of all gradients together; larger ones are scaled down
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None  # of a moving average of the weights, then evaluated
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_steps: NotNegativeInt = 0  # linear, before any schedule
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the rate, once validation stands still
    plateau_patience: PositiveInt = 3  # epochs without a better validation ROC-AUC before that
    early_stop_epochs: PositiveInt | None = None  # end the run after so many epochs without a better validation ROC-AUC
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    amp: Literal["O0", "O2", "O3", "auto"] = "O0"
    amp_dtype: Literal["float16", "bfloat16"] = "float16"  # of amp; bfloat16 needs a 910B or later
    loss_scale: PositiveFloat | Literal["dynamic"] = 1024.0
    max_overflows: PositiveInt = 1000  # overflows in a row before the run ends as failed
    max_diverged_steps: PositiveInt = 100  # steps in a row with an exploding or no loss, likewise
    init_from: Path | None = None  # weights to start from: a checkpoint of ours or of ModelZoo
    freeze_batch_norm: bool = False  # use the stored statistics in training too: fine-tuning on small batches

    @model_validator(mode="after")
    def _half_precision_is_used(self) -> TrainConfig:
        if self.amp_dtype == "bfloat16" and self.amp == "O0":
            raise ValueError("amp_dtype is bfloat16, but amp is O0, all in float32; set amp: O2, or leave it out")
        return self


class CheckpointConfig(Section):
    """When checkpoints are written and how many are kept beside the best one."""

    every_steps: PositiveInt = 2000
    keep: PositiveInt = 10
    prefix: str = "MusicTagger"  # the model's name inside state.json and in exported files
    on_error: Literal["stop", "continue"] = "stop"  # when one cannot be written (a full disk): end the run, or warn
    format: Literal["ckpt", "safetensors"] = "safetensors"  # MindSpore 2.10 may refuse a good .ckpt: docs/lab/log.md


class EvaluateConfig(Section):
    """The evaluation by rank 0."""

    every_epochs: PositiveInt = 1
    split: Literal["train", "val", "test"] = "val"
    batch: PositiveInt = 16  # clips a forward pass on each rank; the last one is padded, padding never counts
    num_resamples: NotNegativeInt = 2000  # bootstrap resamples of the intervals; 0: no intervals
    seed: NotNegativeInt = 0  # of the resamples


@dataclass(frozen=True)
class StepRange:
    """Steps of a run, both ends included; they count from 1, as in its records."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class LaunchConfig(Section):
    """The job."""

    device_target: Literal["auto", "Ascend", "CPU"] = "auto"
    devices: PositiveInt = 1  # workers on this host
    deterministic: bool = False  # on Ascend: the same bits from the same steps, more slowly; on CPU it is always so
    bind_cores: bool = True  # divide the cores among the ranks and pin each rank to its own (CPU only)
    collective_timeout_s: PositiveInt = 1800  # how late a rank may be to a collective before all fail
    hccl_connect_timeout_s: Annotated[int, Field(ge=120, le=7200)] = 600  # for NPUs to reach each other; HCCL's range
    join_timeout_s: PositiveFloat = 600.0  # how long the hosts of a job wait for each other
    peer_timeout_s: Annotated[float, Field(ge=2)] = 10.0  # without a word of another host before it counts as gone
    grace_s: PositiveFloat = 30.0  # for the current step and its checkpoint when a signal ends the job
    max_restarts: NotNegativeInt = 0  # how often a failed job starts again, from its newest checkpoint
    track: Literal["none", "tensorboard", "mlflow", "swanlab", "wandb"] = "none"  # who shows the run; an extra each
    tensorboard: bool = False  # the same as track: tensorboard, or beside another one
    stall_timeout_s: PositiveFloat = 600.0  # without a step on any rank before the job counts as failed
    phase_timeout_s: PositiveFloat = 3600.0  # for starting, compiling, one evaluation and the last checkpoint
    profile_steps: str | None = None  # "10-15": MindSpore's profiler around these steps, on every rank

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
