"""The intermediate representation: graphs and nodes, and ways to build, read and print them."""

from graphrt.ir.graph import OPSET, Attribute, Graph, NameScope, Node, Value
from graphrt.ir.text import format_attribute, format_graph, format_neighborhood, format_node

__all__ = [
    "OPSET",
    "Attribute",
    "Graph",
    "NameScope",
    "Node",
    "Value",
    "format_attribute",
    "format_graph",
    "format_neighborhood",
    "format_node",
]
