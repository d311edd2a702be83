"""An inventory: servers, devices, addresses and super pods of a cluster, as an operator writes them down in YAML."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fcn4dist.ascend.addresses import find_address, is_routable
from fcn4dist.ascend.hostfile import read_text
from fcn4dist.ascend.rank_table.rules.fields import U32_MAX, is_address
from fcn4dist.ascend.rank_table.schema import Device, Server
from fcn4dist.errors import RankTableError

MOST_LEVELS = 1000


def _check_address(text: str) -> str:
    if not is_address(text):
        raise ValueError(f"{text!r} is no IP address")
    return text


def _split_addresses(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _to_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Address = Annotated[str, AfterValidator(_check_address)]
Name = Annotated[str, BeforeValidator(_to_text), Field(min_length=1, max_length=64)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InventoryDevice(_Entry):
    """One device; `ports` and `level_list` are for 950 alone."""

    device_id: int = Field(ge=0, le=64)
    device_ip: Annotated[tuple[Address, ...], BeforeValidator(_split_addresses)] = ()
    super_device_id: int | None = Field(default=None, ge=0, lt=U32_MAX)
    device_port: int | None = Field(default=None, ge=1, le=65535)
    ports: tuple[str, ...] = ("0/0",)
    level_list: tuple[dict[str, Any], ...] = ()


class InventoryServer(_Entry):
    """One server; host_ip and pod_ip default to server_id where that is an address."""

    server_id: Name
    host_ip: Address | None = None
    pod_ip: Address | None = None
    super_pod_id: Name | None = None
    devices: tuple[InventoryDevice, ...] = Field(min_length=1)


class Inventory(_Entry):
    """The whole file."""

    servers: tuple[InventoryServer, ...] = Field(min_length=1)


def load_inventory(path: Path) -> list[Server]:
    """Return the servers of an inventory file.

    Raises RankTableError naming the place: no YAML, an unknown or missing key, a value out of range, a server or
    device given twice, a loopback address.
    """
    document = _parse(read_text(path), path)
    try:
        inventory = Inventory.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        message = first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RankTableError(f"{path}: {place or 'the document'}: {message}{more}") from None
    _check_unique(inventory, path)
    return [_to_server(server, f"{path}: servers[{index}]") for index, server in enumerate(inventory.servers)]


def _is_deep(text: str) -> bool:
    """Return whether lists stand in lists so deep that the C parser, which knows no limit, would crash."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > MOST_LEVELS:
            return True
    return re.search(rf"(?:[-?] +){{{MOST_LEVELS}}}", text) is not None


def _parse(text: str, path: Path) -> Any:
    loader: Any = getattr(
        yaml, "CSafeLoader", yaml.SafeLoader
    )  # thousands of servers: the C parser is ten times faster
    if _is_deep(text):
        raise RankTableError(f"{path}: not YAML: more than {MOST_LEVELS} levels; an inventory has eight")
    was_enabled = gc.isenabled()
    gc.disable()  # nothing here is a cycle, and 100,000 new objects would start the collector again and again
    try:
        return yaml.load(text, Loader=loader)
    except Exception as error:  # PyYAML itself raises anything: for !!bool x, 2021-02-31, a thousand brackets
        raise RankTableError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
    finally:
        if was_enabled:
            gc.enable()


def _check_unique(inventory: Inventory, path: Path) -> None:
    places: dict[tuple[str, str], str] = {}
    for index, server in enumerate(inventory.servers):
        keys = [("server_id", server.server_id, f"servers[{index}].server_id")]
        for position, device in enumerate(server.devices):
            where = f"servers[{index}].devices[{position}]"
            keys.append((f"device_id of server {index}", str(device.device_id), f"{where}.device_id"))
            keys.extend(("device_ip", address, f"{where}.device_ip") for address in device.device_ip)
        for kind, value, where in keys:
            first = places.setdefault((kind, value), where)
            if first != where:
                raise RankTableError(f"{path}: {where}: {value} is already at {first}; expected each once")


def _to_server(server: InventoryServer, where: str) -> Server:
    """Fill host_ip and pod_ip in: MindSpore's scheduler needs an address to know the server by."""
    for key, address in (("host_ip", server.host_ip), ("pod_ip", server.pod_ip), ("server_id", server.server_id)):
        if address is not None and is_address(address) and not is_routable(address):
            raise RankTableError(f"{where}.{key}: {address} is loopback or unspecified; expected a routable address")
    known = server.host_ip or server.pod_ip
    host_ip = known or find_address(server.server_id, f"{where}.server_id")
    devices = tuple(
        Device(
            device.device_id,
            device_ips=device.device_ip,
            super_device_id=device.super_device_id,
            device_port=device.device_port,
            ports=device.ports,
            levels=device.level_list,
        )
        for device in server.devices
    )
    return Server(server.server_id, devices, host_ip, server.pod_ip or host_ip, server.super_pod_id)
