"""The graphs that MindSpore writes down (`MS_DEV_SAVE_GRAPHS`), as nodes with operators, inputs and types."""

from __future__ import annotations

import re
from dataclasses import dataclass

NODE = re.compile(r"^  (%\d+)\([^)]*\) = ([$@\w]+)\((.*?)\)(?: \{| primitive_attrs| cnode_attrs|$)")
SUBGRAPH = re.compile(r"^subgraph @([^(]+)\(")
TYPES = re.compile(r"^      : \((.*)\) -> \((.*)\)$")
TENSOR = re.compile(r"Tensor\[(\w+)\], \(([^)]*)\)")
MONADS = {"UpdateState"}  # order, no value


@dataclass(frozen=True)
class Node:
    """A call of an operator."""

    graph: str
    name: str  # %17
    operator: str  # without MindSpore's prefix PrimFunc_
    inputs: tuple[str, ...]  # names of nodes of the same graph
    input_types: tuple[tuple[str, str], ...]  # of tensors: type and shape
    output_types: tuple[tuple[str, str], ...]


def parse_graph(text: str) -> list[Node]:
    """Return the nodes of all graphs in `text`, a file of MindSpore's, in their order."""
    found: list[Node] = []
    graph, waiting = "", None
    for line in text.splitlines():
        if match := SUBGRAPH.match(line):
            graph = match[1]
        elif match := NODE.match(line):
            waiting = match
        elif waiting is not None and (match := TYPES.match(line)):
            inputs = tuple(re.findall(r"%\d+", waiting[3]))
            types = [tuple(TENSOR.findall(side)) for side in (match[1], match[2])]
            found.append(Node(graph, waiting[1], waiting[2].removeprefix("PrimFunc_"), inputs, types[0], types[1]))
            waiting = None
    return found


def reached(nodes: list[Node], start: Node, *, but_not_through: str) -> set[str]:
    """Return the operators of the same graph that `start`'s value gets to on ways that do not lead through an operator."""
    values, operators = {start.name}, set()
    for node in nodes:  # inputs come before those that take them
        if node.graph != start.graph or node.operator in {but_not_through, *MONADS}:
            continue
        if values & set(node.inputs):
            values.add(node.name)
            operators.add(node.operator)
    return operators
