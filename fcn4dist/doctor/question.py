"""A check's result, and the surroundings that are examined."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fcn4dist.ascend.devices import HostPaths

Status = Literal["ok", "warning", "error"]
GIB = 1 << 30


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: Status  # error: a job would fail; warning: it may, or be slow
    message: str  # what was found
    remedy: str = ""  # what to do about it; empty when it is well

    def to_json(self) -> dict[str, str]:
        """Return the object that `doctor --json` prints."""
        return {"name": self.name, "status": self.status, "message": self.message, "remedy": self.remedy}


@dataclass(frozen=True)
class Surroundings:
    """The machine as the checks see it: another root folder and other variables in tests."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: Path = Path("/")

    @property
    def dev(self) -> Path:
        """The folder of device nodes."""
        return self.root / "dev"

    @property
    def toolkit(self) -> Path:
        """Where the CANN packages install themselves."""
        return self.root / "usr/local/Ascend"

    @property
    def host_paths(self) -> HostPaths:
        """The places where the devices of this host are described."""
        tools = (self.toolkit / "driver/tools", self.root / "usr/local/sbin")
        return HostPaths(self.dev, self.root / "etc/hccn.conf", tools)


def format_bytes(count: float) -> str:
    """Return a size for people: "512 MB", "3.4 GB" (powers of 1024)."""
    return f"{count / GIB:.1f} GB" if count >= GIB else f"{count / (1 << 20):.0f} MB"
