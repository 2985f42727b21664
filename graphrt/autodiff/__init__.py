"""Differentiation: a graph becomes a joint graph, in reverse or in forward mode."""

from graphrt.autodiff.forward import ForwardGraph, forward
from graphrt.autodiff.reverse import ReverseGraph, reverse

__all__ = ["ForwardGraph", "ReverseGraph", "forward", "reverse"]
