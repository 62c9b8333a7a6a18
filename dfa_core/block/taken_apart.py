"""A layer's backward pass in two: the gradient of its input, and later those of its weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from dfa_core.activations import Activations, tensors
from dfa_core.block.given_gradients import with_gradients
from dfa_core.layer import Layer
from dfa_core.passed_gradients import gradients_of

Gradients = tuple[Tensor | None, ...]  # of the outputs of a node


class TakenApart:
    """One layer's backward pass of one microbatch.

    In autograd's graph, a node such as a matrix product has one edge towards the input and another
    towards a weight. The first part runs the edges towards the input, and notes what arrives at
    such nodes; the second part runs their edges towards the weights.

    Some layers cannot be taken apart: their code may draw in the backward pass, or a weight is used
    twice, so that its gradients would be added in another order. There the first part does all.
    """

    def __init__(
        self,
        layer: Layer,
        weights: Sequence[Tensor],
        outputs: Sequence[Tensor],
        gradients: Sequence[Tensor],
        x: Activations,
    ) -> None:
        """weights: of the layer, in this step. outputs: of it, with their graph.

        gradients: of each output. x: its input, leaves of the graph.
        """
        self._outputs, self._gradients, self._x = list(outputs), list(gradients), x
        self._seen: dict[Node, Gradients] = {}
        wanted = [t for t in tensors(x) if t.requires_grad]
        self._branches: Mapping[Node, list[Tensor]] = {}
        if wanted and not layer.draws.backward:
            self._branches = branches(outputs, wanted, weights)
        self._whole = bool(wanted) and not self._branches

    def input_gradients(self) -> Activations | None:
        """Return the gradients of the input."""
        wanted = [t for t in tensors(self._x) if t.requires_grad]
        if not wanted:
            return gradients_of(self._x)
        scalar = with_gradients(self._outputs, self._gradients)
        if self._whole:
            torch.autograd.backward(scalar)
        else:
            hooks = [node.register_prehook(self._noting(node)) for node in self._branches]
            torch.autograd.backward(scalar, inputs=wanted, retain_graph=True)
            for hook in hooks:
                hook.remove()
        found = gradients_of(self._x)
        self._outputs, self._gradients, self._x = [], [], ()
        return found

    def weight_gradients(self) -> None:
        """Add the gradients of the weights."""
        if self._outputs:  # the first layer: nobody wanted the gradients of its input
            torch.autograd.backward(with_gradients(self._outputs, self._gradients))
            return
        for node, weights in self._branches.items():
            arrived = [(i, g) for i, g in enumerate(self._seen.pop(node, ())) if g is not None]
            if arrived:
                edges = [GradientEdge(node, i) for i, _ in arrived]
                torch.autograd.backward(edges, [g for _, g in arrived], inputs=weights)

    def _noting(self, node: Node) -> Callable[[Any], None]:
        def note(gradients: Gradients) -> None:
            self._seen[node] = gradients

        return note


def branches(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor]
) -> Mapping[Node, list[Tensor]]:
    """Return the nodes from which weights are reached as well as the inputs, and these weights.

    None where a weight is reached from two of them, or from an output that no input leads to.
    """
    graph = _Graph(outputs, {id(t) for t in inputs}, {id(w): w for w in weights})
    found: dict[Node, list[Tensor]] = {}
    used: set[int] = set()
    for node in graph.towards_inputs:
        own = [w for child in node_children(node) for w in graph.weights_beside(child)]
        if own:
            found[node] = own
        if used & {id(w) for w in own} or len({id(w) for w in own}) < len(own):
            return {}
        used |= {id(w) for w in own}
    return {} if graph.loose else found


def node_children(node: Node) -> Iterator[Node]:
    """Yield the nodes that a node passes gradients to."""
    return (child for child, _ in node.next_functions if child is not None)


class _Graph:
    """Which nodes lead to the inputs and which to weights.

    towards_inputs: in the order in which a backward pass could run them. loose: an output has a
    graph, and no input is in it.
    """

    def __init__(
        self, outputs: Sequence[Tensor], inputs: set[int], weights: Mapping[int, Tensor]
    ) -> None:
        self._weights = weights
        self._reach: dict[Node, tuple[bool, frozenset[int]]] = {}
        roots = [torch.autograd.graph.get_gradient_edge(t).node for t in outputs]
        for node in _children_first(roots):
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                self._reach[node] = id(leaf) in inputs, frozenset({id(leaf)} & weights.keys())
                continue
            below = [self._reach[child] for child in node_children(node)]
            beside = frozenset[int]().union(*(own for _, own in below))
            self._reach[node] = any(to_input for to_input, _ in below), beside
        self.towards_inputs = [n for n, (to_input, _) in reversed(self._reach.items()) if to_input]
        self.loose = any(not self._reach[root][0] for root in roots)

    def weights_beside(self, node: Node) -> list[Tensor]:
        """Return the weights below a node that does not lead to an input."""
        to_input, below = self._reach[node]
        return [] if to_input else [self._weights[key] for key in sorted(below)]


def _children_first(roots: Sequence[Node]) -> Iterator[Node]:
    """Yield all nodes below the roots, each once and after those that it passes gradients to."""
    done: set[Node] = set()
    stack = [(root, False) for root in roots]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done.add(node)
            yield node
            continue
        stack.append((node, True))
        stack.extend((child, False) for child in node_children(node) if child not in done)
