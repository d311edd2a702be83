"""Who takes part in a job over hosts, and whether they mean the same job: decided on the master, without any connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fcn4dist.config import RunConfig
from fcn4dist.errors import ConfigError, JobError

# what may differ between hosts: where things stand, and what each host says of itself
LOCAL_KEYS = {
    "data": ("audio_dir", "npy_dir", "annotations", "records_dir", "num_workers", "verify"),
    "launch": ("devices", "device_target", "bind_cores", "grace_s", "join_timeout_s"),
}


class Told(BaseModel):
    """A value that launchers tell each other."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class HostCard(Told):
    """How a host introduces itself."""

    node_rank: int
    num_nodes: int
    host: str  # its name
    address: str  # what its processes listen on
    devices: int
    target: Literal["Ascend", "CPU"]
    resume: bool
    rank_table: str  # auto, none or file
    versions: dict[str, str]  # package -> version
    config: dict[str, Any] | None  # without what may differ between hosts; None: a resumed run's, which node 0 has
    expected: list[int] | None = None  # devices of every host, where a host file says

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.host} (node {self.node_rank})"


class Node(Told):
    """One host of a job that is complete."""

    name: str  # unique in the job
    address: str
    devices: int
    first_rank: int

    @property
    def ranks(self) -> str:
        """Its ranks in words: "rank 4" or "ranks 4-7"."""
        last = self.first_rank + self.devices - 1
        return f"rank {last}" if self.devices == 1 else f"ranks {self.first_rank}-{last}"


class Layout(Told):
    """The hosts of a job in the order of their ranks."""

    nodes: list[Node]
    run_dir: str  # the master's, for hosts that name none

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return sum(node.devices for node in self.nodes)

    def title(self, node_rank: int) -> str:
        """Return how messages call a host: "host-b (node 1, ranks 2-3)"."""
        node = self.nodes[node_rank]
        return f"{node.name} (node {node_rank}, {node.ranks})"


def shared_config(config: RunConfig) -> dict[str, Any]:
    """Return what all hosts must agree on: every key but those of LOCAL_KEYS."""
    values: dict[str, Any] = config.model_dump(mode="json")
    for section, keys in LOCAL_KEYS.items():
        for key in keys:
            values[section].pop(key, None)
    return values


class Roster:
    """The hosts that have come, beginning with the master itself."""

    def __init__(self, own: HostCard, names: Sequence[str] | None = None) -> None:
        self._own = own
        self._names = names
        self._cards = {own.node_rank: own}

    def add(self, card: HostCard) -> None:
        """Take a host in; raises ConfigError, which everybody is told, when it means another job."""
        own = self._own
        if card.num_nodes != own.num_nodes:
            raise ConfigError(
                f"{card.title} says {card.num_nodes} hosts, {own.title} says {own.num_nodes}; "
                "expected the same --nodes on all hosts"
            )
        if not 0 <= card.node_rank < own.num_nodes:
            last = own.num_nodes - 1
            raise ConfigError(f"{card.host}: node rank {card.node_rank} is out of range; expected 0 to {last}")
        if (other := self._cards.get(card.node_rank)) is not None:
            raise ConfigError(
                f"{other.host} ({other.address}) and {card.host} ({card.address}) are both node {card.node_rank}; "
                "expected each number once"
            )
        self._compare(card)
        self._cards[card.node_rank] = card.model_copy(update={"config": None})  # compared: 2,048 of them are not kept

    def _compare(self, card: HostCard) -> None:
        own = self._own
        for key in ("target", "resume", "rank_table", "expected"):
            mine, theirs = getattr(own, key), getattr(card, key)
            if mine != theirs and None not in (mine, theirs):
                what = {"target": "device target", "rank_table": "--rank-table", "expected": "devices a host"}.get(
                    key, key
                )
                raise ConfigError(
                    f"{card.title} has {what} {theirs}, {own.title} {mine}; expected the same on all hosts"
                )
        listed = own.expected or card.expected
        expected = None if listed is None else listed[card.node_rank]
        if expected is not None and expected != card.devices:
            raise ConfigError(f"{card.title} brings {card.devices} devices, the host file says {expected} for it")
        for package in sorted(own.versions.keys() | card.versions.keys()):
            mine, theirs = own.versions.get(package, "none"), card.versions.get(package, "none")
            if mine != theirs:
                raise ConfigError(f"{card.title} has {package} {theirs}, {own.title} {mine}; expected one version")
        assert own.config is not None, "the master has a config"
        if card.config is None or (found := first_difference(own.config, card.config)) is None:
            return
        section, name = found
        mine, theirs = own.config.get(section, {}).get(name), card.config.get(section, {}).get(name)
        raise ConfigError(f"{section}.{name}: {theirs} on {card.title}, {mine} on {own.title}; expected one config")

    def remove(self, node_rank: int) -> None:
        """Forget a host that went away before the job began."""
        self._cards.pop(node_rank, None)

    @property
    def missing(self) -> list[str]:
        """The hosts that have not come, as messages call them."""
        absent = [rank for rank in range(self._own.num_nodes) if rank not in self._cards]
        return [f"node {rank} ({self._names[rank]})" if self._names else f"node {rank}" for rank in absent]

    def layout(self, run_dir: str) -> Layout:
        """Return the complete job; ranks follow the numbers of the hosts."""
        cards = [self._cards[rank] for rank in range(self._own.num_nodes)]
        common = Counter(card.host for card in cards)
        nodes, first_rank = [], 0
        for card in cards:
            name = card.host if common[card.host] == 1 else f"{card.host}/{card.address}"
            nodes.append(Node(name=name, address=card.address, devices=card.devices, first_rank=first_rank))
            first_rank += card.devices
        return Layout(nodes=nodes, run_dir=run_dir)


def first_difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, str] | None:
    """Return (section, key) of the first key whose value differs between two configs."""
    for section in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(section) or {}, other.get(section) or {}
        for key in sorted(mine.keys() | theirs.keys()):
            if mine.get(key) != theirs.get(key):
                return section, key
    return None


class Readiness(Told):
    """What a host found when it had prepared itself."""

    attempt: int  # the next one by its run directory
    data: dict[str, Any]  # what must be the same data set: see data/identity.py
    data_dir: str
    rank_table_sha256: str | None = None  # of a given file
    server: dict[str, Any] | None = None  # this host in the rank table, where one is generated


class Go(Told):
    """The master's word to begin."""

    scheduler_host: str
    scheduler_port: int
    attempt: int
    config: dict[str, Any]  # resolved; local keys are each host's own
    rank_table: dict[str, Any] | None = None


def check_same_data(layout: Layout, readies: Sequence[Readiness]) -> None:
    """Raise ConfigError naming the first host whose data set is another one than the master's."""
    first = readies[0]
    for rank, ready in enumerate(readies):
        if ready.rank_table_sha256 != first.rank_table_sha256:
            raise ConfigError(f"--rank-table of {layout.title(rank)} is another file than that of {layout.title(0)}")
        for key in sorted(first.data.keys() | ready.data.keys()):
            if first.data.get(key) != ready.data.get(key):
                raise ConfigError(
                    f"{ready.data_dir} on {layout.title(rank)} is not the data set {first.data_dir} of "
                    f"{layout.title(0)}: {key} differs; copy one to all hosts"
                )


def parse_told(kind: type[BaseModel], values: Any, sender: str) -> Any:
    """Return what a launcher told as a value; raises JobError for one that makes no sense, as of another version."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise JobError(f"{sender}: its message makes no sense: {place}: {first['msg']}; another version?") from None


def name_all(names: Iterable[str], most: int = 8) -> str:
    """Return names in words; of many the first few."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
