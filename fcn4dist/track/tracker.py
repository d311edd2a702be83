"""What a tracker is: a program that shows the steps and evaluations of a run beside those of others. Each has a file here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml

from fcn4dist import __version__
from fcn4dist.errors import ConfigError, pip_install
from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import Kind, read_json

NAMES = ("tensorboard", "mlflow", "swanlab", "wandb")  # each its module here, its package and its extra
NEXT = {"swanlab": ", then pip install -U protobuf: SwanLab asks for an older one than MindSpore"}  # after its extra
PROJECT = "fcn4dist"  # which a tracker shows our runs under, unless its own variable says otherwise


@dataclass(frozen=True)
class Point:
    """What is told of one step."""

    step: int  # 1-based
    time_s: float  # since 1970
    scalars: Mapping[str, float]  # "train/loss" -> 0.25, all finite


@dataclass(frozen=True)
class About:
    """What a tracker shows beside the curves."""

    settings: Mapping[str, str]  # the config: "train.lr" -> "0.001"
    tags: Mapping[str, str]  # where and by what: "host", "mindspore", ...

    @classmethod
    def of(cls, run: RunDir) -> About:
        """Read it from the run's folder; what is missing or damaged is left out."""
        try:
            config = yaml.safe_load(run.config.read_text(encoding="utf-8", errors="replace"))
        except (OSError, yaml.YAMLError):
            config = None
        sections = config if isinstance(config, dict) else {}
        settings = {f"{a}.{b}": str(value) for a, keys in sections.items() for b, value in _items(keys)}
        environment, plan = read_json(run.environment), read_json(run.plan)
        facts = {"fcn4dist": __version__, **_chosen(environment, "host", "system", "processor", "cann")}
        facts |= _chosen(dict(_items(environment)).get("packages"), "mindspore")
        facts |= _chosen(plan, "target", "world_size")
        return cls(settings, {"run": str(run.path)} | facts)


def _items(document: Any) -> list[tuple[str, Any]]:
    return list(document.items()) if isinstance(document, dict) else []


def _chosen(document: Any, *keys: str) -> dict[str, str]:
    return {key: str(value) for key, value in _items(document) if key in keys and value is not None}


class Tracker(Protocol):
    """One run in a tracker. Any call may raise anything: these are other people's programs, and servers."""

    is_rewritten: ClassVar[
        bool
    ]  # all is told anew at each start, and when a run takes steps back; else nothing is told twice
    place: str  # where the run is kept; under another place it is another run

    def __init__(self, folder: Path) -> None:
        """Find the place for the run in `folder`; nothing is written."""

    def start(self, about: About, run_id: str | None) -> str:
        """Go on with the run of that id, or begin one; return its id."""

    def add(self, points: Sequence[Point]) -> None:
        """Tell the tracker."""

    def close(self, kind: Kind) -> None:
        """Tell how the run stands, send what is still to be sent, and end."""


def find_tracker(name: str) -> type[Tracker]:
    """Return the class of a tracker; its package is imported when a run starts there."""
    module = importlib.import_module(f"fcn4dist.track.{name}")
    found: type[Tracker] = module.TRACKER
    return found


def require_tracker(name: str) -> None:
    """Raise ConfigError where the tracker's package is not installed."""
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"launch.track {name}: the package {name} is not installed; "
            f"expected: {pip_install(name)}{NEXT.get(name, '')}"
        )
