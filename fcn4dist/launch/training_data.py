"""The data set that a run trains on: a prepared one, audio that is prepared first, or the embedded demo set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn4dist.config import AugmentConfig, BatchPlan, RunConfig, StepRange, build_config, override_config
from fcn4dist.data.source import check_source
from fcn4dist.errors import ConfigError, DataError
from fcn4dist.run.folder import RunDir

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fcn4dist.data.dataset import DataSet
    from fcn4dist.data.manifest import Manifest
    from fcn4dist.data.prepare import Progress

    ShownProgress = AbstractContextManager[Progress]  # stands on the screen while its block lasts


MADE_KEYS = ("tags", "split", "clean", "seed", "feature_dtype")  # of `data`: how a prepared set was made


def apply_under(config: RunConfig, values: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Return `config` with `values` (section -> key -> value) in place of its defaults.

    What the user's file, `--set` or an option gave explicitly stays.
    """
    given = config.model_dump(exclude_unset=True)
    sections = {**values, **given}
    merged = {name: {**values.get(name, {}), **given.get(name, {})} for name in sections}
    return build_config(merged, where="the demo's config with yours over it")


def resolve_data(
    config: RunConfig,
    run_dir: RunDir,
    say: Callable[[str], None],
    progress: ShownProgress | None = None,
    *,
    demo: bool = False,
    num_ranks: int | None = None,
) -> RunConfig:
    """Return `config` with data.records_dir naming a prepared data set, and `mel`, tags and split as it was prepared with.

    What is missing is prepared first, and `progress` is told. `demo` as for `check_source`, whose errors it raises. `num_ranks`:
    of the whole job, where it has several hosts. Raises also ConfigError for a key that contradicts the data set, and DataError
    when it cannot be prepared.
    """
    source = check_source(config, demo=demo)
    if source == "demo":
        say("training on the embedded demo set (your own data: --data, or data.audio_dir and data.annotations)")
        config = lay_demo_under(config, run_dir, num_ranks=num_ranks)
        _prepare(config, say, progress)
    elif source == "audio":
        config = override_config(config, data={"records_dir": run_dir.path / "data"})
        _prepare(config, say, progress)
    assert config.data.records_dir is not None
    return adopt_data(override_config(config, data={"records_dir": config.data.records_dir.absolute()}))


def _prepare(config: RunConfig, say: Callable[[str], None], progress: ShownProgress | None) -> None:
    from fcn4dist.data.prepare import prepare  # MindSpore loads here, not for a run on prepared data

    say(f"data: {config.data.records_dir}, prepared now unless it is up to date")
    with progress or nullcontext() as shown:  # gone before the job has a picture of its own
        prepare(config, progress=shown)


def adopt_data(config: RunConfig) -> RunConfig:
    """Return `config` with what its data set says of itself where the user said nothing: `mel`, tags, split, kind of features.

    ModelZoo's shards do not name their labels: of those, the names of a tag file stand instead of the file, so that the run holds
    them. Raises ConfigError where the user asked for what the set is not, DataError for a set or a tag file that cannot be read.
    """
    from fcn4dist.data.dataset import open_dataset  # NumPy loads here
    from fcn4dist.data.tags import load_tags

    folder = config.data.records_dir
    if folder is None or not folder.is_dir():
        return config
    data = open_dataset(folder)
    if data.manifest is None:
        tags = config.data.tags
        return override_config(config, data={"tags": load_tags(tags)}) if isinstance(tags, Path) else config
    check_agreement(config, data.manifest, folder)
    made, given = _made_with(data.manifest), config.data.model_fields_set
    return override_config(
        config,
        mel=data.manifest.mel.model_dump(),
        data={key: value for key, value in made.items() if key not in given},
    )


def check_agreement(config: RunConfig, manifest: Manifest, folder: Path) -> None:
    """Raise ConfigError where a key that was given contradicts how the data set was made: `prepare` computes, training reads."""
    from fcn4dist.config.split_name import parse_split_name
    from fcn4dist.data.splits import is_same_rule
    from fcn4dist.data.tags import describe_other_tags

    refused: dict[str, tuple[Any, Any]] = {}  # key -> what was asked for, what the set has
    for key in sorted(config.mel.model_fields_set):
        wanted, found = getattr(config.mel, key), getattr(manifest.mel, key)
        if wanted != found:
            refused[f"mel.{key}"] = wanted, found
    made = _made_with(manifest)
    for key in (key for key in made if key in config.data.model_fields_set):
        wanted, found = getattr(config.data, key), made[key]
        if key == "tags":
            if (other := describe_other_tags(wanted, found)) is not None:
                refused["data.tags"] = wanted, other
        elif key == "split":
            rule, is_clean = parse_split_name(wanted)
            if not is_same_rule(rule, found) or (is_clean and not made["clean"]):
                refused["data.split"] = wanted, manifest.split.name
        elif wanted != found:
            refused[f"data.{key}"] = wanted, found
    if refused:
        lines = (
            f"{key}: {wanted}, but {folder} was prepared with {found}; prepare again, or leave {key} out"
            for key, (wanted, found) in refused.items()
        )
        raise ConfigError("\n".join(lines))


def forget_defaults(config: RunConfig) -> RunConfig:
    """Return a resumed run's config with those of its defaults unsaid that its data set knows better.

    A run's config.yaml has every key. An older fcn4dist wrote the default tags and split there, whatever the data set had.
    """
    values, default = config.model_dump(exclude_unset=True), RunConfig().data
    values["data"] = {
        key: value
        for key, value in values.get("data", {}).items()
        if key not in MADE_KEYS or value != getattr(default, key)
    }
    return build_config(values, where="the run's config")


def _made_with(manifest: Manifest) -> dict[str, Any]:
    """Return the keys of `data` that say how a prepared set was made, as its manifest has them."""
    from fcn4dist.config.split_name import CLEAN

    name = manifest.split.name
    rule, is_clean = name.removesuffix(CLEAN), name.endswith(CLEAN)
    made = {"tags": manifest.tags, "split": rule, "clean": is_clean, "feature_dtype": manifest.feature_dtype}
    return made if manifest.split.seed is None else {**made, "seed": manifest.split.seed}


def lay_demo_under(
    config: RunConfig, run_dir: RunDir, demo_set: Path | None = None, num_ranks: int | None = None
) -> RunConfig:
    """Lay the demo's config under the user's.

    `demo_set` is the folder of the demo's audio; none: it is synthesised in the cache when it is not there yet.
    Its prepared set is shared by all runs, unless the user changed what it is made of: then it goes into the run. Its
    global batch follows the number of ranks unless the user set one.
    """

    from fcn4dist.data.demo import demo_config  # NumPy loads here, not for a run on prepared data

    values = demo_config(demo_set)
    if config.data.model_fields_set or config.mel.model_fields_set:
        values["data"]["records_dir"] = run_dir.path / "data"
    ranks = num_ranks or config.launch.devices
    values["train"]["global_batch"] = -(-values["train"]["global_batch"] // ranks) * ranks
    return apply_under(config, values)


def check_data(config: RunConfig, batches: BatchPlan | None) -> DataSet:
    """Open the data set that data.records_dir names; check its shards, and that it fills at least one step of `batches`.

    Only the parts that a run uses are looked at: train, and the one it evaluates on. `batches` None: over several hosts, where
    the first host's config counts. Raises DataError, and ConfigError where the config contradicts the data set.
    """
    from fcn4dist.data.dataset import open_dataset  # NumPy loads here
    from fcn4dist.data.tags import named_tags

    folder = config.data.records_dir
    assert folder is not None, "resolve_data comes first"
    data = open_dataset(folder, named_tags(config.data.tags))
    if data.manifest is not None:
        check_agreement(config, data.manifest, folder)
    if (
        config.evaluate.split != "val"
    ):  # a set without val clips trains without an evaluation; whoever asks for test wants one
        data.check_part(config.evaluate.split, "evaluate.split")
    data.check(config.data.verify, ("train", config.evaluate.split))
    num_clips = data.num_rows("train") if data.manifest is not None else data.split("train").num_clips
    if batches is not None and batches.steps_per_epoch(num_clips) < 1:
        raise DataError(
            f"{folder}: {num_clips} clips to train on are fewer than one global batch of {batches.global_batch}; "
            "set a smaller train.global_batch"
        )
    if batches is not None and config.launch.profiled is not None:
        steps = config.train.epochs * batches.steps_per_epoch(num_clips)
        check_profiled(config.launch.profiled, min(steps, config.train.max_steps or steps))
    if config.augment != AugmentConfig():
        from fcn4dist.data.augment import check_augment

        check_augment(config.augment, data.split("train"))
    return data


def check_profiled(steps: StepRange, num_steps: int) -> None:
    """Raise ConfigError where the run is over before the first step that is to be profiled."""
    if steps.first > num_steps:
        raise ConfigError(f"launch.profile_steps: {steps}, but the run has {num_steps} steps; name steps among them")
