"""`Session`: runs and differentiates one graph. What differentiates is imported for the first derivative."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from graphrt.errors import InputError
from graphrt.inference import Inferred
from graphrt.ir import Graph, Value
from graphrt.ir.dag import schedule
from graphrt.manager import get_registry
from graphrt.op import Array
from graphrt.passes.mode import set_mode
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.runtime.feeds import check_feeds, have_types, plain_types, signature, types_of
from graphrt.runtime.interpreter import BeforeUpdate, Plan, RunContext, execute
from graphrt.runtime.memory import Memory, parse_bytes
from graphrt.runtime.observers import Observer, watch_with
from graphrt.runtime.ownership import Lending, OwnWeights, copied, frozen, lent, owned
from graphrt.runtime.plan import make_plan
from graphrt.runtime.threads import limit_threads
from graphrt.types import TensorType, is_differentiable

Arrays = dict[str, Any]
_RUN = ("run",)
PLANS = 32
"""How many plans a session keeps; the least recently used goes first."""


class Session:
    """Runs a graph forward and differentiates it.

    The arrays a session returns are the caller's to keep. The weights start as the graph's initializers;
    ``parameters`` holds the current ones, and after each run the graph's state updates (running statistics)
    are written there.

    Args:
        graph: what to run.
        mode: ``"infer"`` or ``"train"`` switches ops such as Dropout and BatchNormalization; None leaves the
            graph as it is.
        observers: objects that watch each node (see `graphrt.runtime.observers`).
        seed: of random ops. Each call advances ``step``, so that the next draws differ; set ``step`` back to
            repeat.
        registry: where ops are looked up (default: what is installed).
        in_place: whether kernels may write new weights over the old ones. It saves memory and time in training; what
            was taken from ``parameters`` before a run shows the new numbers after it: copy what is to be kept.
        threads: on how many a run computes at most (default: as many as the BLAS uses).
        memory_limit: the most bytes, or text such as ``"64 MB"``, that a run may take at once beside inputs, weights
            and constants. Where a gradient takes more, its backward part computes values again instead of keeping them:
            the same numbers to the bit, with more operations; see `graphrt.runtime.recomputation`.

    Raises:
        InputError: an unknown mode; less than one thread; a limit that is no number of bytes. From a run: it cannot be
            kept within the limit.

    >>> from graphrt.ir.builder import GraphBuilder
    >>> b = GraphBuilder(dtype="float64")
    >>> x, y = b.input("x", "float64", []), b.input("y", "float64", [])
    >>> b.output(x * y + b.Sin(x), "f")
    >>> session = Session(b.build())
    >>> value, gradient = session.value_and_grad({"x": 3.0, "y": 0.0}, wrt=["y"])
    >>> float(gradient["y"])
    3.0
    """

    def __init__(
        self,
        graph: Graph,
        mode: str | None = None,
        *,
        observers: Iterable[Observer] = (),
        seed: int = 0,
        registry: Registry | None = None,
        in_place: bool = False,
        threads: int | None = None,
        memory_limit: int | str | None = None,
    ):
        self.registry = get_registry() if registry is None else registry
        self.graph = graph if mode is None else set_mode(graph, self.registry, mode=mode)
        self.parameters: Arrays = dict(graph.initializers)
        self.observers = tuple(observers)
        self.seed, self.step, self.worker = seed, 0, 0
        if threads is not None and threads < 1:
            raise InputError(f"threads is a whole number of at least 1, not {threads}")
        self.threads = threads
        self.memory_limit = None if memory_limit is None else parse_bytes(memory_limit)
        self._weights = OwnWeights() if in_place else None
        if self._weights is not None:
            self._weights.writable(graph.state_updates, self.parameters)
        self._lending, self._memory = Lending(), Memory()
        self._graphs: dict[Any, Any] = {}
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._latest: _Latest | None = None

    def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        outputs: Sequence[str] | None = None,
        *,
        before_update: BeforeUpdate | None = None,
    ) -> Arrays:
        """Runs the graph forward.

        Args:
            inputs: input name to array (or number, or nested list) of the declared type.
            outputs: names of the values wanted (default: the graph's outputs); any value may be named.
            before_update: called when all is computed but what is written over weights: with a function that reads a
                value by name (None if it is not held any more), and the names of these weights. If it raises, the
                session is as before.

        Returns:
            Value name to array, in the order asked for.

        Raises:
            InputError: an input is missing, unknown, or of another type than declared.
            ExecutionError: an op failed; the message shows the node.
        """
        if outputs is None:
            return self._run(*self._ready(_RUN, self.graph, inputs), before_update=before_update)
        key = (*_RUN, _names(outputs))
        graph = self._derived(key, lambda: self._fetching(key[1]))
        return self._run(*self._ready(key, graph, inputs), before_update=before_update)

    def value_and_grad(
        self, inputs: Mapping[str, Any] | None = None, of: str | None = None, wrt: Sequence[str] | None = None
    ) -> tuple[Any, Arrays]:
        """A scalar value of the graph and its gradient, by reverse mode.

        Args:
            inputs: as for `run`.
            of: the value to differentiate (default: the only output).
            wrt: inputs and initializers (default: the trainable set, every float initializer that is not
                a running statistic).

        Returns:
            The value (one element), and name to gradient: float, shape and dtype of the value itself; zeros
            where the value does not depend on it.

        Raises:
            InputError: as for `run`; or the value has more than one element, or ``wrt`` cannot be differentiated.
            NotDifferentiableError: an op on the way has no rule.
        """
        of = self._only_output() if of is None else of
        names = self.trainable() if wrt is None else _names(wrt)
        key = ("grad", of, names)
        joint = self._derived(key, lambda: self._gradient_graph(of, names))
        out = self._run(*self._ready(key, joint.graph, inputs))
        value = out[of]
        if np.size(value) != 1:
            raise InputError(
                f"{of!r} has shape {list(np.shape(value))}; a gradient is of one number: "
                f"use vjp or jacobian, or sum it first"
            )
        return value, {w: out[g] for w, g in joint.gradients.items()}

    def vjp(
        self, inputs: Mapping[str, Any] | None = None, wrt: Sequence[str] | None = None, of: Sequence[str] | None = None
    ) -> tuple[Arrays, Callable[[Mapping[str, Any]], Arrays]]:
        """Runs forward, and returns the pullback: cotangents of outputs to cotangents of ``wrt``.

        Args:
            inputs: as for `run`.
            wrt: as for `value_and_grad`.
            of: the values whose cotangents the pullback takes (default: the outputs that are floats).

        Returns:
            The outputs, and ``pullback({output: cotangent}) -> {name: cotangent}``; an output left out has
            cotangent zero. The pullback may be called many times; it is about the inputs and the weights of
            this run, whatever has become of them since.
        """
        from graphrt.autodiff import reverse
        from graphrt.autodiff.linearize import split_at

        names = self.trainable() if wrt is None else _names(wrt)
        values = self._float_outputs() if of is None else _names(of)
        key = ("vjp", values, names)
        joint = self._derived(key, lambda: reverse(self.graph, self.registry, values, names, keep_outputs=False))
        split = self._derived((*key, "split"), lambda: split_at(joint.graph, tuple(joint.seeds.values())))
        now = self._now()
        feeds = check_feeds(self.graph, inputs or {})
        first = self._plan((*key, "first"), split.first, feeds)
        early = self._run(first, feeds)
        residuals = {r: early[r] for r in split.residuals}
        outputs = {o: copied(early[o]) if o in residuals else early[o] for o in values}

        def pullback(cotangents: Mapping[str, Any]) -> Arrays:
            _check_tangents(cotangents, outputs, "output")
            seeds = {
                s: np.zeros_like(outputs[o]) if o not in cotangents else np.asarray(cotangents[o], outputs[o].dtype)
                for o, s in joint.seeds.items()
            }
            second = self._plan((*key, "second", signature(feeds)), split.second, residuals | seeds, first.known)
            late = self._run(second, residuals | seeds, now)
            return {w: late[g] if g in late else copied(early[g]) for w, g in joint.gradients.items()}

        return outputs, pullback

    def jvp(
        self, inputs: Mapping[str, Any], tangents: Mapping[str, Any], of: Sequence[str] | None = None
    ) -> tuple[Arrays, Arrays]:
        """Runs forward and pushes tangents along, by forward mode.

        Args:
            inputs: as for `run`.
            tangents: input or initializer name to tangent: float, shape of the value.
            of: the values wanted (default: the outputs that are floats).

        Returns:
            The values, and their tangents.
        """
        values = self._float_outputs() if of is None else _names(of)
        return self._push(check_feeds(self.graph, inputs or {}), tangents, values)

    def _push(
        self, feeds: Arrays, tangents: Mapping[str, Any], values: tuple[str, ...], at: _Moment | None = None
    ) -> tuple[Arrays, Arrays]:
        """What `jvp` returns."""
        from graphrt.autodiff import forward

        wrt = tuple(tangents)
        key = ("jvp", values, wrt)
        joint = self._derived(key, lambda: forward(self.graph, self.registry, values, wrt))
        primal = {w: np.asarray(feeds.get(w, self.parameters.get(w))) for w in wrt}
        _check_tangents(tangents, primal, "value")
        seeds = {s: np.asarray(tangents[w], primal[w].dtype) for w, s in joint.seeds.items()}
        out = self._run(self._plan(key, joint.graph, feeds | seeds), feeds | seeds, at)
        return {o: out[o] for o in values}, {o: out[t] for o, t in joint.tangents.items()}

    def jacobian(
        self, inputs: Mapping[str, Any] | None = None, of: str | None = None, wrt: str | None = None, mode: str = "auto"
    ) -> Array:
        """The matrix of all partial derivatives of one value by another.

        Args:
            inputs: as for `run`.
            of: the value (default: the only output).
            wrt: the input or initializer (default: the only input).
            mode: ``"reverse"`` (row by row), ``"forward"`` (column by column), or ``"auto"``: what takes fewer.

        Returns:
            float, shape of ``of`` followed by shape of ``wrt``.
        """
        if mode not in ("auto", "reverse", "forward"):
            raise InputError(f"mode is 'auto', 'reverse' or 'forward', not {mode!r}")
        of = self._only_output() if of is None else of
        if wrt is None:
            if len(self.graph.inputs) != 1:
                raise InputError(f"name wrt=: the graph has the inputs {', '.join(self.graph.input_names) or 'none'}")
            wrt = self.graph.input_names[0]
        feeds = check_feeds(self.graph, inputs or {})
        if wrt not in feeds and wrt not in self.parameters:
            raise InputError(f"{wrt!r} is no input or initializer of the graph")
        x = np.asarray(feeds.get(wrt, self.parameters.get(wrt)))
        now = self._now()
        if mode == "forward":
            y = np.asarray(self.run(feeds, [of])[of])
        else:
            outputs, pullback = self.vjp(feeds, [wrt], [of])
            y = np.asarray(outputs[of])
            if mode == "reverse" or y.size <= x.size:
                rows = [pullback({of: b})[wrt] for b in _basis(y)]
                return np.reshape(np.array(rows, y.dtype), y.shape + x.shape)
        columns = [self._push(feeds, {wrt: b}, (of,), now)[1][of] for b in _basis(x)]
        stacked = np.reshape(np.array(columns, y.dtype), x.shape + y.shape)
        return np.moveaxis(stacked, range(x.ndim), range(y.ndim, y.ndim + x.ndim))

    def hvp(
        self, inputs: Mapping[str, Any] | None = None, vector: Mapping[str, Any] | None = None, of: str | None = None
    ) -> tuple[Arrays, Arrays]:
        """Hessian-vector product of a scalar value, by forward mode over reverse mode.

        Args:
            inputs: as for `run`.
            vector: name to direction, float, shape of the value; these names are also what is differentiated.
            of: the scalar (default: the only output).

        Returns:
            The gradient, and the Hessian times the vector, each by name.
        """
        from graphrt.autodiff import forward

        of, vector = self._only_output() if of is None else of, vector or {}
        wrt = tuple(vector)
        key = ("hvp", of, wrt)
        joint = self._derived(key, lambda: self._gradient_graph(of, wrt))
        over = self._derived(
            (*key, "forward"),
            lambda: forward(joint.graph, self.registry, tuple(joint.gradients.values()), wrt),
        )
        feeds = check_feeds(self.graph, inputs or {})
        primal = {w: np.asarray(feeds.get(w, self.parameters.get(w))) for w in wrt}
        _check_tangents(vector, primal, "value")
        seeds = {s: np.asarray(vector[w], primal[w].dtype) for w, s in over.seeds.items()}
        out = self._run(self._plan((*key, "forward"), over.graph, feeds | seeds), feeds | seeds)
        gradient = {w: out[g] for w, g in joint.gradients.items()}
        return gradient, {w: out[over.tangents[g]] for w, g in joint.gradients.items()}

    def trainable(self) -> tuple[str, ...]:
        """The default of ``wrt``: see `graphrt.trainability.trainable_parameters`."""
        from graphrt.trainability import trainable_parameters

        names: tuple[str, ...] = self._derived("trainable", lambda: trainable_parameters(self.graph, self.registry))
        return names

    def plan(self, inputs: Mapping[str, Any] | None = None) -> Plan:
        """The plan that `run` would walk for these inputs."""
        return self._plan(_RUN, self.graph, check_feeds(self.graph, inputs or {}))

    @property
    def last_plan(self) -> Plan | None:
        """The plan that the last run walked."""
        return next(reversed(self._plans.values()), None)

    def execution_order(self) -> list[int]:
        """Positions of the graph's nodes in an order of execution."""
        order: list[int] = self._derived("order", lambda: schedule(self.graph))
        return order

    # ---- inner workings ------------------------------------------------------------------------------

    def _ready(self, key: Any, graph: Graph, inputs: Mapping[str, Any] | None) -> tuple[Plan, Mapping[str, Any]]:
        """The plan for a graph that takes the session's inputs, and these, checked unless they are like the last."""
        given = inputs or {}
        if self._latest is not None and self._latest.serves(key, bool(self.observers), given):
            return self._latest.plan, given
        feeds = check_feeds(self.graph, given)
        return self._plan(key, graph, feeds), feeds

    def _now(self) -> _Moment:
        return _Moment(self.step, dict(self.parameters))

    def _run(
        self,
        plan: Plan,
        feeds: Mapping[str, Any],
        at: _Moment | None = None,
        before_update: BeforeUpdate | None = None,
    ) -> Arrays:
        """Runs a plan. With ``at``, as it was then, and nothing is changed by it."""
        now = at or _Moment(self.step, self.parameters)
        context = RunContext(
            self.seed, now.step, self.worker, watch_with(self.observers), (), self._memory, before_update
        )
        overwritten: Arrays = {}
        if plan.overwritten and self._weights is not None:
            overwritten = self._weights.writable(plan.overwritten, self.parameters)
        given = {n: lent(feeds[n]) for n in plan.feeds if n in feeds}
        for n in plan.feeds:
            if n in plan.prepared and n not in feeds:
                given[n] = lent(now.weights[n])  # a new view, as what was prepared of a weight is known by its view
            elif n not in feeds:
                given[n] = self._lending.of(n, now.weights[n])
        with self._limited():
            slots = execute(plan, given, context, overwritten)
        taken: set[int] = set()
        if at is None:
            self.step += 1
            if plan.updates:
                self.parameters.update((n, frozen(owned(slots[slot], taken))) for n, slot in plan.updates.items())
                if self._weights is not None:
                    self._weights.release(plan.updates)
        return {name: owned(slots[slot], taken) for name, slot in plan.fetches.items()}

    def _plan(self, key: Any, graph: Graph, feeds: Mapping[str, Any], outer: Inferred | None = None) -> Plan:
        """The plan for a graph made from the session's own; ``outer`` is what is known of values computed before."""
        signed = (key, signature(feeds), bool(self.observers))
        plan = self._plans.get(signed)
        if plan is None:
            overwrite = self._weights is not None and outer is None
            make = partial(
                make_plan,
                registry=self.registry,
                inputs=types_of(graph, feeds),
                outer=outer,
                overwrite=overwrite,
                observed=bool(self.observers),
            )
            with self._limited():
                plan = make(graph)
                if self.memory_limit is not None:
                    from graphrt.runtime.recomputation import within_limit  # few need it

                    plan = within_limit(plan, self.memory_limit, make)
            self._plans[signed] = plan
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(signed)
        self._latest = _Latest(key, bool(self.observers), feeds, plan)
        return plan

    def _limited(self) -> AbstractContextManager[None]:
        """So many threads as there may be."""
        return nullcontext() if self.threads is None else limit_threads(self.threads)

    def _derived(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._graphs:
            self._graphs[key] = make()
        return self._graphs[key]

    def _gradient_graph(self, of: str, wrt: Sequence[str]) -> Any:
        """The graph of a scalar value and its gradient."""
        from graphrt.autodiff import reverse

        return reverse(self.graph, self.registry, [of], wrt, keep_outputs=False, seed_ones=True)

    def _fetching(self, outputs: Sequence[str]) -> Graph:
        known = {v.name: v for v in self.graph.outputs}
        for name in outputs:
            if name not in known and name not in self.graph.names():
                raise InputError(f"the graph has no value {name!r}; its outputs are: {', '.join(known)}")
        return self.graph.replace(outputs=tuple(known.get(o, Value(o)) for o in outputs))

    def _only_output(self) -> str:
        if len(self.graph.outputs) != 1:
            raise InputError(f"name of=: the graph has the outputs {', '.join(self.graph.output_names) or 'none'}")
        return self.graph.output_names[0]

    def _float_outputs(self) -> tuple[str, ...]:
        types = self._derived("types", lambda: make_plan(self.graph, self.registry).types)
        kinds = ((o, types.get(o)) for o in self.graph.output_names)
        return tuple(o for o, t in kinds if not isinstance(t, TensorType) or is_differentiable(t.dtype))


@dataclass(frozen=True, slots=True)
class _Moment:
    """What a run depends on beside its inputs."""

    step: int
    weights: Mapping[str, Any]


class _Latest:
    """The plan that was asked for last, and what to be like for what asks next to be given it at once.

    Args:
        key: of the graph.
        observed: whether there are observers.
        feeds: what was fed, checked.
        plan: the plan.
    """

    def __init__(self, key: Any, observed: bool, feeds: Mapping[str, Any], plan: Plan):
        self.key, self.observed, self.plan = key, observed, plan
        self.types = plain_types(feeds)

    def serves(self, key: Any, observed: bool, given: Mapping[str, Any]) -> bool:
        """Whether it is for this, and this needs no check."""
        return key == self.key and observed is self.observed and have_types(given, self.types)


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; a single string is one name."""
    return (given,) if isinstance(given, str) else tuple(given)


def _basis(x: Array) -> Iterable[Array]:
    for i in range(x.size):
        one = np.zeros(x.size, x.dtype)
        one[i] = 1
        yield one.reshape(x.shape)


def _check_tangents(tangents: Mapping[str, Any], primal: Mapping[str, Any], what: str) -> None:
    for name, t in tangents.items():
        if name not in primal or primal[name].dtype == object:
            raise InputError(f"no {what} is named {name!r}; there are: {', '.join(primal)}")
        if np.shape(t) != np.shape(primal[name]):
            raise InputError(
                f"the {what} {name!r} has shape {list(np.shape(primal[name]))}, "
                f"its tangent {list(np.shape(t))}; they must agree"
            )
