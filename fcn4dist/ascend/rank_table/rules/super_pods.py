"""Super pods of format 1.2, as an A3's parser reads them in super-pod mode."""

from __future__ import annotations

from typing import Any

from fcn4dist.ascend.rank_table.findings import EI_VALUE, Findings, quote
from fcn4dist.ascend.rank_table.rules.fields import U32_MAX, get_number, get_text, iter_list, join

MAX_SUPER_POD_ID_BYTES = 127
NO_SDID = U32_MAX  # the driver's mark for "none"


def check_super_pods(root: dict[str, Any], server_places: dict[str, str], findings: Findings) -> None:
    """Check super_pod_list and the super_device_id of every device."""
    if "super_pod_list" not in root:
        findings.warning("super_pod_list", "the key is missing: HCCL runs every server on its own (AI-server mode)")
        check_super_devices(root, {}, findings, needed=False)
        return
    pods: dict[str, str] = {}
    pod_of_server: dict[str, str] = {}
    num_members = 0
    for where, pod in iter_list(root, "super_pod_list", "", findings):
        pod_id = _check_pod_id(where, pod, pods, findings)
        for path, member in iter_list(pod, "server_list", where, findings):
            num_members += 1
            server_id = get_text(member, "server_id", path, findings)
            if server_id is None:
                continue
            if server_id not in server_places:
                found = f"{quote(server_id)} is not in the table's server_list"
                findings.error(EI_VALUE, join(path, "server_id"), f"{found}; expected one of its {len(server_places)}")
            elif server_id in pod_of_server:
                found = f"{quote(server_id)} is already in super pod {quote(pod_of_server[server_id])}"
                findings.error(EI_VALUE, join(path, "server_id"), f"{found}; expected each server in one")
            else:
                pod_of_server[server_id] = pod_id
    for server_id, place in server_places.items():
        if num_members and server_id not in pod_of_server:
            findings.error(EI_VALUE, place, f"{quote(server_id)} is in no super pod; expected every server in one")
    check_super_devices(root, pod_of_server, findings, needed=True)


def _check_pod_id(where: str, pod: Any, pods: dict[str, str], findings: Findings) -> str:
    pod_id = get_text(pod, "super_pod_id", where, findings)
    path = join(where, "super_pod_id")
    if pod_id is None:
        return path
    num_bytes = len(pod_id.encode())
    if not 1 <= num_bytes <= MAX_SUPER_POD_ID_BYTES:
        found = "the text is empty" if not num_bytes else f"{num_bytes} bytes"
        findings.error(EI_VALUE, path, f"{found}; expected 1 to {MAX_SUPER_POD_ID_BYTES} bytes")
        return path
    first = pods.setdefault(pod_id, path)
    if first != path:
        findings.error(EI_VALUE, path, f"{quote(pod_id)} is already at {first}; expected each super pod once")
    return pod_id


def check_super_devices(
    root: dict[str, Any], pod_of_server: dict[str, str], findings: Findings, *, needed: bool
) -> None:
    """Check that every super_device_id is a number; where they are `needed`, also that each is unique in its super pod."""
    places: dict[tuple[str, int], str] = {}
    servers = root.get("server_list")
    for index, server in enumerate(servers if isinstance(servers, list) else []):
        if not isinstance(server, dict) or not isinstance(server.get("device"), list):
            continue
        server_id = server.get("server_id")
        pod_id = pod_of_server.get(server_id) if isinstance(server_id, str) else None
        for position, device in enumerate(server["device"]):
            where = f"server_list[{index}].device[{position}]"
            if not isinstance(device, dict) or (not needed and "super_device_id" not in device):
                continue
            limits = (0, NO_SDID - 1) if needed else (0, NO_SDID)
            number = get_number(device, "super_device_id", where, findings, limits=limits)
            if number is None or pod_id is None:
                continue
            path = join(where, "super_device_id")
            first = places.setdefault((pod_id, number), path)
            if first != path:
                found = f"{number} is already at {first} in super pod {quote(pod_id)}"
                findings.error(EI_VALUE, path, f"{found}; expected each once a super pod")
