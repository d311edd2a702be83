"""Warnings and notes: what HCCL accepts, but a documented rule or another reader does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from fcn4dist.ascend.rank_table.findings import Findings, quote
from fcn4dist.ascend.rank_table.rules.fields import join, parse_number
from fcn4dist.ascend.rank_table.schema import Chip, Format

# Keys that HCCL, or MindSpore (pod_ip, server_ip, cluster_list, dpu_ip, eid, numa_id) reads.
_ROOT_KEYS = frozenset({"status", "version", "server_count", "server_list", "super_pod_list", "cluster_list"})
_SERVER_KEYS = frozenset({"server_id", "host_ip", "device", "pod_ip", "server_ip"})
_DEVICE_KEYS = frozenset(
    {"device_id", "rank_id", "device_ip", "device_port", "device_vnic_port", "host_port", "backup_device_ip"}
    | {"backup_device_port", "net_position", "net_protocol", "super_device_id", "dpu_ip", "eid", "numa_id"}
)
_PLACEHOLDER = re.compile(
    r"\*|^[\[<{].*[\]>}]$|(?:^|\.)x{1,3}(?:\.|$)|^(?:your|my)?[_-]?server[_-]?(?:id|ip)$", re.IGNORECASE
)

Node = tuple[str, Any]  # path, value


def list_children(nodes: Iterable[Node], key: str) -> list[Node]:
    """Return the entries of the array under `key` of every object among `nodes`."""
    children: list[Node] = []
    for where, node in nodes:
        entries = node.get(key) if isinstance(node, dict) else None
        if isinstance(entries, list):
            path = join(where, key)
            children.extend((f"{path}[{index}]", entry) for index, entry in enumerate(entries))
    return children


def note_ignored_keys(nodes: Iterable[Node], known: frozenset[str], findings: Findings) -> None:
    """Note every key that no reader looks at: once a key, at its first place, with how often it occurs."""
    places: dict[str, list[str]] = {}
    for where, node in nodes:
        if isinstance(node, dict) and not node.keys() <= known:
            for key in node:
                if key not in known:
                    places.setdefault(key, []).append(where)
    for key, found in places.items():
        more = f", here and in {len(found) - 1} more" if len(found) > 1 else ""
        findings.note(join(found[0], str(key)), f"this key is ignored{more}")


def warn_of_server_ids(server_ids: Iterable[Node], findings: Findings) -> None:
    """Warn of server ids that are placeholders or loopback addresses; `server_ids` are (path, id)."""
    for where, server_id in server_ids:
        if not isinstance(server_id, str):
            continue
        if _PLACEHOLDER.search(server_id):
            findings.warning(where, f"{quote(server_id)} looks like a placeholder; expected the server's address")
        elif server_id.startswith("127.") or server_id == "::1":
            findings.warning(where, f"{quote(server_id)} is this host alone on every host; expected a routable address")


def advise_concise(root: dict[str, Any], format_: Format, chip: Chip, findings: Findings) -> None:
    """Add the warnings and notes on a table of format 1.0 or 1.2."""
    servers = list_children([("", root)], "server_list")
    devices = list_children(servers, "device")
    if "server_count" not in root and format_ is Format.CONCISE:
        findings.warning("server_count", "the key is missing; the documentation asks for it in 1.0")
    if "super_pod_list" in root and (format_ is Format.CONCISE or chip != "a3"):
        reason = "format 1.0" if format_ is Format.CONCISE else f"chip {chip}"
        findings.warning("super_pod_list", f"ignored with {reason}; super pods need version 1.2 and an A3")
    warn_of_server_ids(
        ((join(where, "server_id"), server.get("server_id")) for where, server in servers if isinstance(server, dict)),
        findings,
    )
    _warn_of_addresses(servers, findings)
    _warn_of_pod_ips(servers, findings)
    _warn_of_ports(devices, findings)
    _warn_of_order(root, servers, findings)
    for keys, nodes in ((_ROOT_KEYS, [("", root)]), (_SERVER_KEYS, servers), (_DEVICE_KEYS, devices)):
        note_ignored_keys(nodes, keys, findings)


def _warn_of_addresses(servers: Sequence[Node], findings: Findings) -> None:
    """device_ip may be missing for HCCL, but MindSpore's parse_hccl_file and the documentation want it."""
    places = [
        where
        for where, device in list_children(servers, "device")
        if isinstance(device, dict) and not (isinstance(device.get("device_ip"), str) and device["device_ip"])
    ]
    if not places:
        return
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    findings.warning(
        join(places[0], "device_ip"),
        f"no address here{more}: HCCL goes on without, but the documentation of 910 and 300I Duo asks for it, of "
        "other chips for several servers, and MindSpore's parse_hccl_file fails",
    )


def _warn_of_pod_ips(servers: Sequence[Node], findings: Findings) -> None:
    missing = [where for where, server in servers if isinstance(server, dict) and not server.get("pod_ip")]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        reason = "MindSpore's scheduler needs it to give ranks as the table says (`--msrun` checks it)"
        findings.warning(join(missing[0], "pod_ip"), f"the key is missing here{more}: {reason}")


def _warn_of_ports(devices: Sequence[Node], findings: Findings) -> None:
    with_port = [where for where, device in devices if isinstance(device, dict) and "device_port" in device]
    if with_port and len(with_port) != len(devices):
        found = f"given for {len(with_port)} of {len(devices)} devices, and the last device decides for all"
        findings.warning(join(with_port[0], "device_port"), f"{found}; expected on all or on none")


def _server_ranks(server: Any) -> list[int]:
    """Return the ranks of a server that can be read, in the order of its devices."""
    devices = server.get("device") if isinstance(server, dict) else None
    texts = (
        [device.get("rank_id") for device in devices if isinstance(device, dict)] if isinstance(devices, list) else []
    )
    ranks = [parse_number(text) for text in texts if isinstance(text, str)]
    return [rank for rank in ranks if rank is not None]


def _warn_of_order(root: dict[str, Any], servers: Sequence[Node], findings: Findings) -> None:
    """Ranks must not interleave between servers, and go up with the server ids as texts."""
    blocks: list[tuple[int, str, str]] = []  # first rank, server id, path
    for where, server in servers:
        ranks = _server_ranks(server)
        if not ranks:
            continue
        if max(ranks) - min(ranks) >= len(ranks) and len(set(ranks)) == len(ranks):
            found = f"ranks {min(ranks)} to {max(ranks)} for {len(ranks)} devices"
            findings.warning(
                join(where, "device"), f"{found}: the ranks of servers interleave; expected one block a server"
            )
            return
        if isinstance(server.get("server_id"), str):
            blocks.append((min(ranks), server["server_id"], where))
    pods = read_super_pods(root)
    blocks.sort()
    seen_pods: set[str] = set()
    previous_pod, previous_id = "", ""
    for _, server_id, where in blocks:
        pod = pods.get(server_id, "")
        if pod == previous_pod and server_id < previous_id:
            found = f"{quote(server_id)} has higher ranks than {quote(previous_id)}"
            findings.warning(
                join(where, "server_id"), f"{found}; MindSpore expects ranks in the text order of server ids"
            )
            return
        if pod in seen_pods and pod != previous_pod:
            found = f"the servers of super pod {quote(pod)} do not stand together"
            findings.warning(where, f"{found}; expected the servers of a pod one after the other")
            return
        seen_pods.add(pod)
        previous_pod, previous_id = pod, server_id


def read_super_pods(root: Any) -> dict[str, str]:
    """Return the super pod of every server that super_pod_list names, as far as it can be read."""
    pods: dict[str, str] = {}
    for where, pod in list_children([("", root)], "super_pod_list"):
        pod_id = pod.get("super_pod_id") if isinstance(pod, dict) else None
        for _, member in list_children([(where, pod)], "server_list"):
            server_id = member.get("server_id") if isinstance(member, dict) else None
            if isinstance(server_id, str) and isinstance(pod_id, str):
                pods[server_id] = pod_id
    return pods
