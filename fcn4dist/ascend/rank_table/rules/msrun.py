"""What MindSpore's scheduler needs of a table that `msrun --rank_table_file` or our launcher hands to it."""

from __future__ import annotations

from typing import Any

from fcn4dist.ascend.rank_table.findings import Findings, quote
from fcn4dist.ascend.rank_table.read import Document
from fcn4dist.ascend.rank_table.rules.advice import list_children
from fcn4dist.ascend.rank_table.rules.fields import is_address, join, parse_number
from fcn4dist.ascend.rank_table.schema import Format


def check_msrun(document: Document, findings: Findings) -> None:
    """Check that the scheduler can give ranks as the table says.

    It finds a worker's server by `pod_ip` and its rank by position: worker DEVICE_ID k gets the rank of the k-th entry.
    Where that fails it keeps its own ranks, HCCL meets a table that says otherwise, and the job dies.
    """
    root = document.root
    if document.format is Format.LAYERED:
        findings.warning(
            "rank_list",
            "MindSpore's scheduler reads pod_ip in server_list, which 2.0 has not: it gives ranks by itself",
        )
    elif document.format not in (Format.CONCISE, Format.SUPER_POD):
        if document.format is not Format.UNKNOWN:
            reason = f"MindSpore's scheduler does not read {document.format.value}"
            findings.error(None, "server_list", f'{reason}; expected version "1.0" or "1.2"')
    elif isinstance(root, dict):
        servers = list_children([("", root)], "server_list")
        _check_pod_ips(servers, findings)
        for where, server in servers:
            _check_device_order(where, server, findings)


def _check_pod_ips(servers: list[tuple[str, Any]], findings: Findings) -> None:
    places: dict[str, str] = {}
    for where, server in servers:
        path = join(where, "pod_ip")
        pod_ip = server.get("pod_ip") if isinstance(server, dict) else None
        if not isinstance(pod_ip, str) or not is_address(pod_ip):
            found = "the key is missing" if pod_ip is None else quote(pod_ip)
            expected = "expected the address that this server's workers have for the scheduler"
            findings.error(None, path, f"{found}; {expected}")
            continue
        if len(servers) > 1 and (pod_ip.startswith("127.") or pod_ip == "::1"):
            findings.error(None, path, f"{quote(pod_ip)} is loopback; expected an address that other hosts reach")
        first = places.setdefault(pod_ip, path)
        if first != path:
            found = f"{quote(pod_ip)} is already at {first}"
            findings.warning(path, f"{found}: the scheduler takes both servers for one host, device after device")


def _check_device_order(where: str, server: Any, findings: Findings) -> None:
    """The k-th entry must be the k-th device that the host's workers see: ascending physical ids."""
    previous = -1
    for path, device in list_children([(where, server)], "device"):
        text = device.get("device_id") if isinstance(device, dict) else None
        device_id = parse_number(text) if isinstance(text, str) else None
        if device_id is None:
            continue
        if device_id < previous:
            found = f"device {device_id} after device {previous}"
            reason = "the scheduler counts entries, and worker k has the k-th device"
            findings.error(None, join(path, "device_id"), f"{found}: {reason}; expected ascending device ids")
            return
        previous = device_id
