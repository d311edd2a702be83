"""Small valid tables that tests damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Table = dict[str, Any]


def concise_table(num_servers: int = 2, num_devices: int = 2, *, version: str = "1.0") -> Table:
    """Return a table of format 1.0, or of 1.2 with one super pod, that no reader has anything to say about."""
    servers = []
    for server in range(num_servers):
        devices = []
        for device in range(num_devices):
            rank = server * num_devices + device
            entry = {"device_id": str(device), "device_ip": f"198.51.100.{rank + 1}", "rank_id": str(rank)}
            devices.append({**entry, "super_device_id": str(rank)} if version == "1.2" else entry)
        address = f"192.0.2.{server + 1}"
        servers.append({"server_id": address, "host_ip": address, "pod_ip": address, "device": devices})
    table: Table = {
        "version": version,
        "status": "completed",
        "server_count": str(num_servers),
        "server_list": servers,
    }
    if version == "1.2":
        members = [{"server_id": server["server_id"]} for server in servers]
        table["super_pod_list"] = [{"super_pod_id": "pod-0", "server_list": members}]
    return table


def cloud_table(num_servers: int = 2, num_devices: int = 2) -> Table:
    """Return a template-two table in cloud mode."""
    instances = []
    for server in range(num_servers):
        devices = [
            {"device_id": str(device), "device_ip": f"198.51.100.{server * num_devices + device + 1}"}
            for device in range(num_devices)
        ]
        instances.append({"pod_name": f"pod-{server}", "server_id": f"192.0.2.{server + 1}", "devices": devices})
    group = {
        "group_name": "hccl_world_group",
        "instance_count": str(num_servers),
        "device_count": str(num_servers * num_devices),
        "instance_list": instances,
    }
    return {"status": "completed", "group_count": "1", "group_list": [group]}


def lab_table(num_servers: int = 2, num_devices: int = 2) -> Table:
    """Return a template-two table in lab mode: an instance a rank."""
    instances = []
    for rank in range(num_servers * num_devices):
        server, device = divmod(rank, num_devices)
        devices = [{"device_id": str(device), "device_ip": f"198.51.100.{rank + 1}"}]
        instances.append({"rank_id": str(rank), "server_id": f"192.0.2.{server + 1}", "devices": devices})
    group = {
        "group_name": "",
        "device_num": str(len(instances)),
        "server_num": str(num_servers),
        "instance_count": str(len(instances)),
        "instance_list": instances,
    }
    root = {"status": "completed", "deploy_mode": "lab", "para_plane_nic_location": "device", "group_count": "1"}
    return {**root, "group_list": [group]}


def heterogeneous_table() -> Table:
    """Return a table of format 1.1: a node with a device rank and a host rank, and one with the same."""
    nodes = []
    for node in range(2):
        ranks = [
            {"rank_id": str(2 * node), "device_id": "0", "rank_ip": f"198.51.100.{node + 1}", "port": "5555"},
            {"rank_id": str(2 * node + 1), "device_id": "-1"},
        ]
        nodes.append({"node_addr": f"192.0.2.{node + 1}", "ranks": ranks})
    return {"version": "1.1", "status": "completed", "collective_id": "job-7", "mode": "tcp", "node_list": nodes}


def layered_table(num_ranks: int = 2) -> Table:
    """Return a table of format 2.0 with a mesh and a CLOS layer."""
    ranks = []
    for rank in range(num_ranks):
        eid = {"addr_type": "EID", "addr": f"{rank + 16:032x}", "ports": ["0/4"], "plane_id": "plane0"}
        address = {"addr_type": "IPV4", "addr": f"198.51.100.{rank + 1}", "ports": ["1/0"]}
        levels = [
            {"net_layer": 0, "net_instance_id": "mesh", "net_type": "TOPO_FILE_DESC", "rank_addr_list": [eid]},
            {"net_layer": 1, "net_instance_id": "all", "net_type": "CLOS", "rank_addr_list": [address]},
        ]
        ranks.append({"rank_id": rank, "local_id": rank, "device_id": rank, "device_port": 16666, "level_list": levels})
    return {"version": "2.0", "status": "completed", "rank_count": num_ranks, "rank_list": ranks}


VALID_TABLES: dict[str, Callable[[], Table]] = {
    "1.0": concise_table,
    "1.2": lambda: concise_table(version="1.2"),
    "1.1": heterogeneous_table,
    "cloud": cloud_table,
    "lab": lab_table,
    "2.0": layered_table,
}
