"""Fill in what MindSpore's scheduler needs of a table and others leave out: the address it knows each server by."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fcn4dist.ascend.rank_table.read import Document
from fcn4dist.ascend.rank_table.rules.advice import list_children
from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.ascend.rank_table.schema import Format

_ADDRESSES = ("pod_ip", "container_ip", "host_ip", "server_id")  # the second one is what MindCluster's operator writes


def complete_document(document: Document, workers: Sequence[str] = ()) -> Document:
    """Return a table of 1.0 or 1.2 with a `pod_ip` for every server that names an address; other formats as they are.

    `workers`: the addresses of the job's hosts, where they are known. A server that names one of them gets that one, and a
    server alone the address of the only host, since this is what its workers register with.
    """
    if document.format not in (Format.CONCISE, Format.SUPER_POD):
        return document
    root = copy.deepcopy(document.root)
    servers = [server for _, server in list_children([("", root)], "server_list") if isinstance(server, dict)]
    for server in servers:
        complete_server(server, workers)
    if len(servers) == len(workers) == 1 and is_address(workers[0]):
        servers[0]["pod_ip"] = workers[0]
    return replace(document, root=root)


def complete_server(server: dict[str, Any], workers: Sequence[str] = ()) -> None:
    """Give a server of 1.0 or 1.2 its `pod_ip`, in place."""
    named = [text for key in _ADDRESSES if isinstance(text := server.get(key), str) and is_address(text)]
    own = next((address for address in named if address in workers), None)
    if own is not None:
        server["pod_ip"] = own
    elif named and not server.get("pod_ip"):
        server["pod_ip"] = named[0]
