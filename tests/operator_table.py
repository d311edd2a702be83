"""The rank table of MindCluster's ascend-operator, in its own shape.

As mind-cluster at 22bb3d9 has it: pkg/ranktable/common/{server,common}.go say the keys and their order, Go's encoder the
spelling; the device plugin takes the pod's UID for server_id and sorts the devices. There is no pod_ip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

POD_UIDS = "5f0c2b1e-7a44-4c0b-9d7e-{:012d}"


def operator_table(
    pods: Mapping[str, Sequence[int]], hosts: Sequence[str] | None = None, status: str = "completed"
) -> str:
    """Return the file for pods: address -> physical ids, in the order of their ranks; `hosts`: of the machines below them."""
    servers, rank = [], 0
    for index, (pod, ids) in enumerate(pods.items()):
        devices = []
        for device in ids:
            address = f"198.51.{100 + index}.{device + 1}"
            devices.append({"device_id": str(device), "device_ip": address, "rank_id": str(rank)})
            rank += 1
        host_ip = pod if hosts is None else hosts[index]
        server = {"device": devices, "server_id": POD_UIDS.format(index), "host_ip": host_ip, "container_ip": pod}
        servers.append(server)
    document = {"status": status, "server_list": servers, "server_count": str(len(servers)), "version": "1.0"}
    return json.dumps(document, separators=(",", ":"))
