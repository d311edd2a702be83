"""Convert between template two, 1.0 and 1.2, where the file says all that the other format needs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fcn4dist.ascend.rank_table.build import format_table
from fcn4dist.ascend.rank_table.check import check_all_chips, first_error
from fcn4dist.ascend.rank_table.findings import quote
from fcn4dist.ascend.rank_table.parse import parse_table
from fcn4dist.ascend.rank_table.read import Document
from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.ascend.rank_table.rules.template_two import CLOUD_DEVICES
from fcn4dist.ascend.rank_table.schema import Format, RankTable, Server
from fcn4dist.errors import RankTableError

TARGETS: dict[str, Format] = {"1.0": Format.CONCISE, "1.2": Format.SUPER_POD, "template-two": Format.CLOUD}
GROUP_NAME = "hccl_world_group"  # what HCCL's documentation calls the one group


def convert_document(document: Document, target: Format) -> tuple[dict[str, Any], list[str]]:
    """Return the table in another format, and remarks on what the new format cannot say.

    Every rank keeps its device. Raises RankTableError when something would have to be invented or a rank would move:
    host ranks of 1.1, network layers of 2.0, ranks in another order than template two gives out, several groups.
    """
    if document.format in (Format.HETEROGENEOUS, Format.LAYERED, Format.UNKNOWN):
        found = f"{document.file}: format {document.format.value}"
        raise RankTableError(f"{found} says things that no other format can; expected 1.0, 1.2 or template two")
    table = parse_table(document)
    status = document.root.get("status")
    if status != "completed":
        raise RankTableError(f'{document.file}: status: {quote(status)}; expected "completed"')
    remarks: list[str] = []
    if target is Format.CLOUD:
        converted = _to_cloud(document, table, remarks)
    elif document.format in (Format.CONCISE, Format.SUPER_POD):
        converted = _change_version(document, target, remarks)
    else:
        converted = _from_template_two(document, table, target, remarks)
    _check(converted, target, document.file)
    return converted, remarks


def _change_version(document: Document, target: Format, remarks: list[str]) -> dict[str, Any]:
    """1.0 and 1.2 differ in the version and the super pods alone."""
    converted: dict[str, Any] = {**copy.deepcopy(document.root), "version": target.value}
    converted.setdefault("server_count", str(len(converted["server_list"])))
    if target is Format.CONCISE and document.format is Format.SUPER_POD:
        dropped = converted.pop("super_pod_list", None)
        for server in converted["server_list"]:
            for device in server["device"]:
                dropped = device.pop("super_device_id", None) or dropped
        if dropped:
            remarks.append("super_pod_list and super_device_id are left out: 1.0 knows no super pods")
    elif target is Format.SUPER_POD and "super_pod_list" not in converted:
        remarks.append("no super pods are known: an A3 runs the table in AI-server mode")
    return converted


def _from_template_two(document: Document, table: RankTable, target: Format, remarks: list[str]) -> dict[str, Any]:
    _require_one_group(document)
    servers = []
    for server in table.servers:
        address = server.server_id if is_address(server.server_id) else None
        if address is None:
            remarks.append(
                f"server {server.server_id} gets no pod_ip: its id is no address; MindSpore's scheduler needs one"
            )
        servers.append(replace(server, pod_ip=address))
    if document.format is Format.CLOUD:
        remarks.append("pod_name and group_name are left out: processes now name themselves by RANK_ID")
    return format_table(RankTable(target, tuple(servers)))


def _to_cloud(document: Document, table: RankTable, remarks: list[str]) -> dict[str, Any]:
    """Template two gives ranks out itself, by server id and device id: a table with other ranks does not fit."""
    if document.format is Format.CLOUD:
        return copy.deepcopy(document.root)
    if document.format is Format.LAB:
        _require_one_group(document)
    servers = sorted(table.servers, key=lambda server: server.server_id.encode())
    expected = 0
    for server in servers:
        for device in sorted(server.devices, key=lambda device: device.device_id):
            if device.rank != expected:
                place = f"device {device.device_id} of server {server.server_id}"
                found = f"{place} has rank {device.rank}, template two would give it rank {expected}"
                raise RankTableError(f"{document.file}: {found}; expected ranks in the order of server and device ids")
            if device.device_id >= CLOUD_DEVICES:
                raise RankTableError(f"{document.file}: device {device.device_id}; template two takes 0 to 7 alone")
            if len(device.device_ips) > 1:
                raise RankTableError(
                    f"{document.file}: rank {device.rank} has several addresses; template two takes one"
                )
            expected += 1
    remarks.append("pod_name is the server id: a process names itself by it, not by a rank")
    _remark_lost(table, remarks)
    return _format_cloud(servers)


def _remark_lost(table: RankTable, remarks: list[str]) -> None:
    lost = []
    if any(server.host_ip or server.pod_ip for server in table.servers):
        lost.append("host_ip and pod_ip")
    if table.super_pods:
        lost.append("super pods")
    if any(device.device_port is not None for server in table.servers for device in server.devices):
        lost.append("device_port")
    if lost:
        remarks.append(f"{', '.join(lost)} are left out: template two has no place for them")


def _format_cloud(servers: Sequence[Server]) -> dict[str, Any]:
    instances = [
        {
            "pod_name": server.server_id,
            "server_id": server.server_id,
            "devices": [
                {"device_id": str(device.device_id), "device_ip": "".join(device.device_ips)}
                for device in sorted(server.devices, key=lambda device: device.device_id)
            ],
        }
        for server in servers
    ]
    group = {
        "group_name": GROUP_NAME,
        "instance_count": str(len(instances)),
        "device_count": str(sum(len(server.devices) for server in servers)),
        "instance_list": instances,
    }
    return {"status": "completed", "group_count": "1", "group_list": [group]}


def _require_one_group(document: Document) -> None:
    if len(document.root["group_list"]) != 1:
        raise RankTableError(f"{document.file}: group_list: several groups; expected one, since 1.0 and 1.2 know none")


def _check(converted: dict[str, Any], target: Format, file: str) -> None:
    verdicts = check_all_chips(Document("table.json", converted, target, None, ()))
    if any(verdict.accepted for verdict in verdicts):
        return
    if (error := first_error(verdicts[-1])) is not None:
        raise RankTableError(f"{file}: no chip would accept the result: {error.where}: {error.message}")
