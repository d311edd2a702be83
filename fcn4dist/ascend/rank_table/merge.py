"""Merge rank tables of one format into one: the same result for any order of the files."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fcn4dist.ascend.rank_table.check import check_all_chips, first_error
from fcn4dist.ascend.rank_table.complete import complete_server
from fcn4dist.ascend.rank_table.findings import quote
from fcn4dist.ascend.rank_table.parse import parse_table
from fcn4dist.ascend.rank_table.read import Document
from fcn4dist.ascend.rank_table.rules.advice import list_children
from fcn4dist.ascend.rank_table.rules.fields import parse_number
from fcn4dist.ascend.rank_table.rules.layered import find_instance
from fcn4dist.ascend.rank_table.schema import Chip, Format
from fcn4dist.errors import RankTableError


class _Claims:
    """What may stand in one file only, with the first place of each value."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str], str] = {}

    def claim(self, key: str, value: Any, place: str) -> None:
        first = self.places.setdefault((key, quote(value, 1000)), place)
        if first != place:
            raise RankTableError(
                f"{place}: {key} {quote(value)} is already in {first}; expected each once in a merged table"
            )


def merge_documents(documents: Sequence[Document]) -> dict[str, Any]:
    """Return the merged table: servers in the text order of their ids, ranks renumbered server by server.

    Inside a server devices stand by device id, and keep the order of their ranks. Super pods are kept, those of one id
    joined. A missing `pod_ip` is filled in from `container_ip`, `host_ip` or `server_id` where that is an address.
    Raises RankTableError for mixed formats, for a server, device address, super-pod device or name in two files (both
    places are named), for a table that is not "completed", and for a result that no chip accepts.
    """
    if not documents:
        raise RankTableError("no file is given; expected at least one rank table")
    first = documents[0]
    names = [document.file for document in documents]
    repeated = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if repeated is not None:
        raise RankTableError(f"{repeated} is given twice; expected each file once")
    for document in documents:
        if document.format is not first.format:
            found = f"{document.file} has format {document.format.value}, {first.file} has {first.format.value}"
            raise RankTableError(f"{found}; expected one format (see `rank-table convert`)")
        parse_table(document)  # raises for what cannot be read
        _check_status(document)
    merged = _MERGERS[first.format](documents)
    _check_merged(merged, first.format, names)
    return merged


def accepting_chips(document: dict[str, Any], format_: Format) -> list[Chip]:
    """Return the chips that accept a table."""
    verdicts = check_all_chips(Document("table.json", document, format_, None, ()))
    return [verdict.chip for verdict in verdicts if verdict.accepted]


def _check_status(document: Document) -> None:
    status = document.root.get("status", "completed" if document.format is Format.LAYERED else None)
    if status != "completed":
        raise RankTableError(f'{document.file}: status: {quote(status)}; expected "completed": it may lack servers yet')


def _check_merged(merged: dict[str, Any], format_: Format, names: Sequence[str]) -> None:
    if accepting_chips(merged, format_):
        return
    verdicts = check_all_chips(Document("merged.json", merged, format_, None, ()))
    if (error := first_error(verdicts[-1])) is not None:
        of = ", ".join([*names[:3], "…"] if len(names) > 3 else names)
        raise RankTableError(f"{of}: no chip would accept the merged table: {error.where}: {error.message}")


def _common_keys(documents: Sequence[Document], without: Iterable[str]) -> dict[str, Any]:
    """Return the top-level keys that all files have alike; raises RankTableError where two differ."""
    skipped = set(without)
    kept: dict[str, Any] = {}
    places: dict[str, str] = {}
    for document in documents:
        for key, value in document.root.items():
            if key in skipped:
                continue
            if key in kept and kept[key] != value:
                found = f"{key} is {quote(value)}, in {places[key]} {quote(kept[key])}"
                raise RankTableError(f"{document.file}: {found}; expected the same in all files")
            kept.setdefault(key, value)
            places.setdefault(key, document.file)
    return {key: kept[key] for key in sorted(kept)}


def _merge_concise(documents: Sequence[Document]) -> dict[str, Any]:
    claims = _Claims()
    servers: list[dict[str, Any]] = []
    for document in documents:
        for index, entry in enumerate(document.root["server_list"]):
            server = copy.deepcopy(entry)
            place = f"{document.file}: server_list[{index}]"
            claims.claim("server_id", server["server_id"], f"{place}.server_id")
            for position, device in enumerate(server["device"]):
                for address in filter(None, str(device.get("device_ip", "")).split(",")):
                    claims.claim("device_ip", address, f"{place}.device[{position}].device_ip")
            server["device"].sort(key=lambda device: parse_number(device["device_id"]) or 0)
            complete_server(server)
            servers.append(server)
    pods = _merge_super_pods(documents, claims)
    pod_of = {server_id: pod for pod, server_ids in pods.items() for server_id in server_ids}
    _claim_super_devices(documents, pod_of, claims)
    first_of_pod: dict[str, str] = {pod: min(server_ids) for pod, server_ids in pods.items()}
    servers.sort(key=lambda s: (first_of_pod.get(pod_of.get(s["server_id"], ""), ""), s["server_id"]))
    _renumber([server["device"] for server in servers], "rank_id", str)
    known = {"version", "status", "server_count", "server_list", "super_pod_list", "cluster_list"}
    merged: dict[str, Any] = {
        "version": documents[0].root["version"],
        "status": "completed",
        "server_count": str(len(servers)),
        "server_list": servers,
    }
    if pods:
        order = {server["server_id"]: index for index, server in enumerate(servers)}
        ordered = sorted(pods, key=lambda pod: order[first_of_pod[pod]])
        merged["super_pod_list"] = [
            {"super_pod_id": pod, "server_list": [{"server_id": name} for name in sorted(pods[pod])]} for pod in ordered
        ]
    clusters = [entry for document in documents for _, entry in list_children([("", document.root)], "cluster_list")]
    if clusters:
        merged["cluster_list"] = sorted(clusters, key=lambda cluster: quote(cluster, 1000))
    return {**merged, **_common_keys(documents, known)}


def _merge_super_pods(documents: Sequence[Document], claims: _Claims) -> dict[str, list[str]]:
    pods: dict[str, list[str]] = {}
    for document in documents:
        if document.format is Format.SUPER_POD and _has_pods(document) != _has_pods(documents[0]):
            found = f"{document.file} and {documents[0].file}: only one has super_pod_list"
            raise RankTableError(f"{found}; expected it in all files or in none")
        known = {server["server_id"] for server in document.root["server_list"]}
        for where, pod in list_children([("", document.root)], "super_pod_list"):
            pod_id = _text_of(pod, "super_pod_id", f"{document.file}: {where}")
            for path, member in list_children([(where, pod)], "server_list"):
                server_id = _text_of(member, "server_id", f"{document.file}: {path}")
                place = f"{document.file}: {path}.server_id"
                claims.claim("super pod of server", server_id, place)
                if server_id not in known:
                    raise RankTableError(f"{place}: {quote(server_id)} is not in the file's server_list")
                pods.setdefault(pod_id, []).append(server_id)
    return pods


def _has_pods(document: Document) -> bool:
    return bool(list_children([("", document.root)], "super_pod_list"))


def _text_of(node: Any, key: str, place: str) -> str:
    value = node.get(key) if isinstance(node, dict) else None
    if not isinstance(value, str):
        raise RankTableError(f"{place}.{key}: {quote(value)}; expected a string")
    return value


def _claim_super_devices(documents: Sequence[Document], pod_of: dict[str, str], claims: _Claims) -> None:
    for document in documents:
        for index, server in enumerate(document.root["server_list"]):
            pod = pod_of.get(server["server_id"])
            for position, device in enumerate(server["device"] if pod is not None else []):
                number = parse_number(str(device.get("super_device_id", "")))
                if number is not None:
                    place = f"{document.file}: server_list[{index}].device[{position}].super_device_id"
                    claims.claim(f"super_device_id of super pod {quote(pod)}", number, place)


def _renumber(blocks: Iterable[list[dict[str, Any]]], key: str, spell: Callable[[int], Any]) -> None:
    """Give out ranks block by block; inside a block in the order of the old ranks."""
    start = 0
    for block in blocks:
        by_rank = sorted(block, key=lambda entry: parse_number(str(entry[key])) or 0)
        for offset, entry in enumerate(by_rank):
            entry[key] = spell(start + offset)
        start += len(block)


def _merge_groups(documents: Sequence[Document]) -> dict[str, Any]:
    """Template two: the instances of all files in one group, which all files must call the same."""
    claims = _Claims()
    is_lab = documents[0].format is Format.LAB
    instances: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for document in documents:
        if len(document.root["group_list"]) != 1:
            raise RankTableError(f"{document.file}: group_list: more than one group; expected one to merge")
        group = document.root["group_list"][0]
        names.setdefault(_text_of(group, "group_name", f"{document.file}: group_list[0]"), document.file)
        for index, instance in enumerate(group["instance_list"]):
            place = f"{document.file}: group_list[0].instance_list[{index}]"
            if not is_lab:
                claims.claim("pod_name", _text_of(instance, "pod_name", place), f"{place}.pod_name")
            for position, device in enumerate(instance["devices"]):
                where = f"{place}.devices[{position}]"
                server_id, device_id = instance["server_id"], device["device_id"]
                claims.claim(f"server {quote(server_id)} device_id", device_id, f"{where}.device_id")
                if device.get("device_ip"):
                    claims.claim("device_ip", device["device_ip"], f"{where}.device_ip")
            instances.append(copy.deepcopy(instance))
    if len(names) > 1:
        (name, file), (other, other_file) = list(names.items())[:2]
        raise RankTableError(f"{other_file}: group {quote(other)}, in {file} {quote(name)}; expected one group name")
    return _format_groups(documents, next(iter(names)), instances, is_lab=is_lab)


def _format_groups(
    documents: Sequence[Document], name: str, instances: list[dict[str, Any]], *, is_lab: bool
) -> dict[str, Any]:
    server_ids = sorted({instance["server_id"] for instance in instances}, key=str.encode)
    group: dict[str, Any] = {"group_name": name, "instance_count": str(len(instances))}
    num_devices = str(sum(len(instance["devices"]) for instance in instances))
    if is_lab:
        instances.sort(key=lambda i: (i["server_id"].encode(), parse_number(i["devices"][0]["device_id"]) or 0))
        blocks = itertools.groupby(instances, key=lambda instance: instance["server_id"])
        _renumber([list(block) for _, block in blocks], "rank_id", str)
        group.update(device_num=num_devices, server_num=str(len(server_ids)))
    else:
        instances.sort(key=lambda instance: (instance["server_id"].encode(), instance["pod_name"]))
        group["device_count"] = num_devices
    group["instance_list"] = instances
    known = {"status", "group_count", "group_list"}
    return {"status": "completed", "group_count": "1", "group_list": [group], **_common_keys(documents, known)}


def _merge_nodes(documents: Sequence[Document]) -> dict[str, Any]:
    claims = _Claims()
    nodes = []
    for document in documents:
        for index, node in enumerate(document.root["node_list"]):
            claims.claim("node_addr", node["node_addr"], f"{document.file}: node_list[{index}].node_addr")
            nodes.append(copy.deepcopy(node))
    nodes.sort(key=lambda node: str(node["node_addr"]))
    _renumber([node["ranks"] for node in nodes], "rank_id", str)
    return {**_common_keys(documents, {"node_list"}), "status": "completed", "node_list": nodes}


def _merge_layered(documents: Sequence[Document]) -> dict[str, Any]:
    """2.0: ranks by the instance of their lowest layer, then by local id."""
    claims = _Claims()
    ranks = []
    for document in documents:
        for index, entry in enumerate(document.root["rank_list"]):
            rank = copy.deepcopy(entry)
            place = f"{document.file}: rank_list[{index}]"
            instance = find_instance(rank)
            local_id = rank.get("local_id")
            claims.claim(f"local_id of instance {quote(instance)}", local_id, f"{place}.local_id")
            ranks.append(((instance, local_id if isinstance(local_id, int) else 0), rank))
    ranks.sort(key=lambda entry: entry[0])
    for number, (_, rank) in enumerate(ranks):
        rank["rank_id"] = number
    known = {"version", "status", "rank_count", "rank_list"}
    found = [rank for _, rank in ranks]
    head = {"version": "2.0", "status": "completed", "rank_count": len(found)}
    return {**head, **_common_keys(documents, known), "rank_list": found}


_MERGERS: dict[Format, Callable[[Sequence[Document]], dict[str, Any]]] = {
    Format.CONCISE: _merge_concise,
    Format.SUPER_POD: _merge_concise,
    Format.CLOUD: _merge_groups,
    Format.LAB: _merge_groups,
    Format.HETEROGENEOUS: _merge_nodes,
    Format.LAYERED: _merge_layered,
}
