"""What a plug-in can define besides ops: optimizers, schedules, losses, metrics, and the rest.

Each is a small frozen object with a ``name``; most are made by decorating a plain function, and each is
returned from the hook of its kind (see `graphrt.hookspecs`).
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graphrt.errors import InputError, PluginError
from graphrt.ir import Graph, Node
from graphrt.op import Array, Op, Rule
from graphrt.records import dataclass, field
from graphrt.types import TensorType, ValueType

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

OPTIMIZER_DOMAIN = "graphrt.optim"
"""The domain in which each optimizer's update is an op of the training-step graph."""

_LEADING = ("w", "g", "learning_rate", "step")


@dataclass(frozen=True, eq=False)
class OptimizerDefinition:
    """A kind of optimizer: a pure pair of `init` and update, made by the decorator `optimizer`.

    The update is a plain NumPy function ``(w, g, learning_rate, step, *state; hyperparameters) ->
    (w_new, *state_new)``. ``w``: float [...], a parameter; ``g``: its gradient; ``learning_rate``: scalar of
    the parameter's dtype; ``step``: int64 scalar, 1 at the first update; each state array has a name, and keeps
    the shape and dtype it was made with. Keyword-only parameters are the hyperparameters. Calling the
    definition configures an `Optimizer`.

    Attributes:
        name: what it is called, in the registry and as an op of domain `OPTIMIZER_DOMAIN`.
        op: the update.
        state: names of all state arrays.
        when: state array to the hyperparameter without which it is not kept: while that is 0, the update
            is given None for the array and returns None for the next one.
        learning_rate: the default.
        initial: state array to the function of the parameter that makes it (default: zeros like it).
    """

    name: str
    op: Op
    state: tuple[str, ...]
    when: Mapping[str, str] = field(default_factory=dict)
    learning_rate: float = 1e-2
    initial: dict[str, Callable[[Array], Array]] = field(default_factory=dict)

    def init(self, state: str) -> Callable[[Callable[[Array], Array]], Callable[[Array], Array]]:
        """Decorator: the initial value of one state array from the parameter (default: zeros like it)."""
        if state not in self.state:
            raise PluginError(f"optimizer {self.name}: no state {state!r}; there is: {', '.join(self.state) or 'none'}")

        def declare(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
            self.initial[state] = function
            return function

        return declare

    def __call__(self, learning_rate: float | Schedule | None = None, **hyperparameters: Any) -> Optimizer:
        """An optimizer with these settings; ``learning_rate`` is a number or a function of the step.

        Raises:
            InputError: a hyperparameter that it does not have, or of another type, or a learning rate that
                is not a number >= 0.
        """
        specs = self.op.attributes
        for key, value in hyperparameters.items():
            if key not in specs:
                raise InputError(f"{self.name} has no hyperparameter {key!r}; it has: {', '.join(specs) or 'none'}")
            if not isinstance(value, (int, float, bool)):
                raise InputError(f"{self.name}: {key} is a number, not {value!r}")
        missing = [s.name for s in specs.values() if s.required and s.name not in hyperparameters]
        if missing:
            raise InputError(f"{self.name} needs {', '.join(missing)}")
        learning_rate = self.learning_rate if learning_rate is None else learning_rate
        if not callable(learning_rate) and not (np.isfinite(learning_rate) and learning_rate >= 0):
            raise InputError(f"{self.name}: the learning rate is a number >= 0, not {learning_rate!r}")
        return Optimizer(self, learning_rate, hyperparameters)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.op.doc


@dataclass(frozen=True, eq=False)
class Optimizer:
    """An optimizer with its settings: what a `Trainer` takes. Holds no state of its own."""

    definition: OptimizerDefinition
    learning_rate: float | Schedule
    hyperparameters: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """Every hyperparameter, the defaults among them."""
        return self.definition.op.defaults() | dict(self.hyperparameters)

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the state arrays that these settings keep."""
        d, settings = self.definition, self.settings
        return tuple(s for s in d.state if s not in d.when or settings[d.when[s]])

    def init(self, w: Array) -> dict[str, Array]:
        """The initial state for one parameter: state name to array."""
        d = self.definition
        return {s: d.initial.get(s, np.zeros_like)(w) for s in self.state}

    def update(self, w: Array, g: Array, state: Mapping[str, Array], step: int) -> tuple[Array, dict[str, Array]]:
        """One update, pure.

        Args:
            w: float [...]; the parameter. g: its gradient, same shape and dtype.
            state: from `init` or the update before.
            step: 1 for the first update.

        Returns:
            The new parameter and the new state.
        """
        d = self.definition
        lr = np.asarray(self.rate(step), w.dtype)
        out = d.op(w, g, lr, np.int64(step), *(state.get(s) for s in d.state), **self.hyperparameters)
        w_new, *state_new = out if d.state else (out,)
        new = dict(zip(d.state, state_new, strict=True))
        return w_new, {s: new[s] for s in self.state}

    def rate(self, step: int) -> float:
        """The learning rate of a step (1 for the first)."""
        lr = self.learning_rate
        return float(lr(step)) if callable(lr) else float(lr)

    def __repr__(self) -> str:
        settings = "".join(f", {k}={v!r}" for k, v in self.hyperparameters.items())
        return f"{self.definition.name}({self.learning_rate!r}{settings})"


def optimizer(
    name: str, *, state: tuple[str, ...] = (), when: Mapping[str, str] | None = None, learning_rate: float = 1e-2
) -> Callable[[Callable[..., Any]], OptimizerDefinition]:
    """Decorator: makes an `OptimizerDefinition` of an update function; see there for its parameters.

    Raises:
        PluginError: the parameters are not ``w, g, learning_rate, step`` and then the state; ``when`` names
            something else than a state array and a hyperparameter.
    """

    def make(function: Callable[..., Any]) -> OptimizerDefinition:
        outputs = ("w_new", *(f"{s}_new" for s in state))
        made = Op(function, name, domain=OPTIMIZER_DOMAIN, outputs=outputs, nondiff=True)
        names = tuple(p.name for p in made.inputs)
        if names != (*_LEADING, *state):
            raise PluginError(f"optimizer {name}: its positional parameters are {_LEADING + state}, not {names}")

        made._infer = Rule((), lambda w, *kept: (w, *(t or w for t in kept)), ("w", *state))
        for array, setting in (when or {}).items():
            if array not in state or setting not in made.attributes:
                raise PluginError(
                    f"optimizer {name}: when= maps state arrays to hyperparameters, not {array!r} to {setting!r}"
                )
        made.function = _keeping_dtypes(function, len(_LEADING), single=not state)
        made.examples(lambda rng: _update_examples(rng, state, when or {}))
        return OptimizerDefinition(name, made, state, dict(when or {}), learning_rate)

    return make


def _keeping_dtypes(function: Callable[..., Any], lead: int, single: bool) -> Callable[..., Any]:
    """The update with its results in the dtypes that parameter and state had; one array where there is no state."""

    def update(*arrays: Array, **settings: Any) -> Any:
        made = function(*arrays, **settings)
        new = made if isinstance(made, (tuple, list)) else (made,)
        old = (arrays[0], *arrays[lead:])
        kept = tuple(x if o is None else _as_dtype(x, o.dtype) for x, o in zip(new, old, strict=True))
        return kept[0] if single else kept

    return update


def _as_dtype(x: Array, dtype: np.dtype[Any]) -> Array:
    return x if x is None or x.dtype == dtype else x.astype(dtype)


def _update_examples(rng: np.random.Generator, state: tuple[str, ...], when: Mapping[str, str]) -> Iterator[Any]:
    """Arguments of updates for `graphrt.testing.check_op`: several shapes, with all the state and with the least."""
    for shape, step in (((3, 2), 1), ((), 7), ((0, 2), 1)):
        w, g, *arrays = (rng.uniform(0.1, 1.0, shape) for _ in range(2 + len(state)))
        rate = np.asarray(0.01)
        kept = tuple(a if s not in when else None for s, a in zip(state, arrays, strict=True))
        yield (w, g, rate, np.asarray(step), *kept), {}
        if when:
            yield (w, g, rate, np.asarray(step), *arrays), dict.fromkeys(when.values(), 1)


@dataclass(frozen=True, eq=False)
class ScheduleDefinition:
    """A kind of learning-rate schedule: ``(step, *, settings) -> learning rate``; calling it binds settings."""

    name: str
    function: Callable[..., float]

    def __call__(self, *args: Any, **settings: Any) -> Schedule:
        parameters = dict(list(inspect.signature(self.function).parameters.items())[1:])
        settings = dict(zip(parameters, args, strict=False)) | settings
        required = {k for k, p in parameters.items() if p.default is p.empty}
        if set(settings) - set(parameters) or len(args) > len(parameters) or required - set(settings):
            listed = ", ".join(map(str, parameters.values()))
            raise InputError(f"schedule {self.name} takes ({listed}), not {settings}")
        return Schedule(self, settings)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.function.__doc__ or ""


@dataclass(frozen=True, eq=False)
class Schedule:
    """A learning-rate schedule with its settings: step (1 for the first) to learning rate."""

    definition: ScheduleDefinition
    settings: Mapping[str, Any]

    def __call__(self, step: int) -> float:
        return float(self.definition.function(step, **self.settings))

    def __repr__(self) -> str:
        return f"{self.definition.name}({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"


def schedule(name: str) -> Callable[[Callable[..., float]], ScheduleDefinition]:
    """Decorator: makes a `ScheduleDefinition` of ``(step, setting=default, ...) -> float``."""
    return lambda function: ScheduleDefinition(name, function)


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss as a piece of graph: ``function(builder, prediction, target) -> scalar value``.

    ``target_dtype`` is the element type of the targets (None: the prediction's own), and ``target_rank``
    the difference of the target's rank from the prediction's (-1: class labels).
    """

    name: str
    function: Callable[..., Any]
    target_dtype: str | None = None
    target_rank: int = 0

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.function.__doc__ or ""


def loss(name: str, **options: Any) -> Callable[[Callable[..., Any]], Loss]:
    """Decorator: makes a `Loss`; options are its fields."""
    return lambda function: Loss(name, function, **options)


@dataclass(frozen=True, eq=False)
class Metric:
    """A figure of merit: ``function(prediction, target) -> float [examples]``, averaged over the examples.

    With ``whole=True`` the function sees all predictions and targets at once and returns a scalar
    (area under a curve, F1). ``higher_is_better`` tells early stopping which way is up.
    """

    name: str
    function: Callable[[Array, Array], Array]
    higher_is_better: bool = True
    whole: bool = False

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.function.__doc__ or ""


def metric(name: str, **options: Any) -> Callable[[Callable[[Array, Array], Array]], Metric]:
    """Decorator: makes a `Metric`; options are its fields."""
    return lambda function: Metric(name, function, **options)


@dataclass(frozen=True, eq=False)
class Initializer:
    """Initial weights: ``function(rng, shape, dtype) -> array``."""

    name: str
    function: Callable[[np.random.Generator, tuple[int, ...], str], Array]

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float32") -> Array:
        return self.function(rng, shape, dtype)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.function.__doc__ or ""


def initializer(name: str) -> Callable[[Callable[..., Array]], Initializer]:
    """Decorator: makes an `Initializer`."""
    return lambda function: Initializer(name, function)


@dataclass(frozen=True, eq=False)
class Pass:
    """A graph-to-graph transformation: ``function(graph, registry, **settings) -> graph``.

    It returns the very graph it was given when there is nothing to change.
    """

    name: str
    function: Callable[..., Graph]

    def __call__(self, graph: Graph, registry: Any, **settings: Any) -> Graph:
        return self.function(graph, registry, **settings)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.function.__doc__ or ""


def graph_pass(name: str) -> Callable[[Callable[..., Graph]], Pass]:
    """Decorator: makes a `Pass`."""
    return lambda function: Pass(name, function)


@dataclass(frozen=True, eq=False)
class KernelSite:
    """A node for which a plan looks for a kernel.

    Attributes:
        node: the node; its op may be a derived one (``"Conv.vjp[w]"``).
        inputs: input name of the op to its type, as far as known: exact for what is computed from inputs of known
            shapes; a tuple of types for a variadic input; None where absent.
        attributes: the op's attributes, defaults filled in.
        outputs: the types of the op's outputs, as far as known; None for one that the node does not want.
        largest: how many bytes the largest array of the plan has, as far as known: where that is little, nothing is
            worth a long start.
    """

    node: Node
    inputs: Mapping[str, Any]
    attributes: Mapping[str, Any]
    outputs: tuple[ValueType | None, ...]
    largest: int = 0

    def is_float(self, *names: str) -> bool:
        """Whether these inputs are all there, float32 or all float64, with every dimension known."""
        types = [self.inputs.get(n) for n in names]
        static = all(isinstance(t, TensorType) and t.is_static for t in types)
        return static and len({t.dtype for t in types}) == 1 and types[0].dtype in ("float32", "float64")  # type: ignore[union-attr]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an input that `is_float` has vouched for."""
        shape: tuple[int, ...] = self.inputs[name].shape
        return shape

    def into(
        self,
        fill: Callable[..., Any],
        *,
        over: Mapping[int, tuple[int, ...]] | None = None,
        scratch: Sequence[tuple[tuple[int, ...], str]] = (),
        linker: Linker | None = None,
    ) -> Into | None:
        """What `Kernel.make` returns of a function that writes into memory it is given; see `Into`.

        Returns:
            The `Into`; None if the type of an output is not known, so that there is no saying how much memory it takes.
        """
        if not all(t is None or (isinstance(t, TensorType) and t.is_static) for t in self.outputs):
            return None
        held = tuple(TensorType(d, s) for s, d in scratch)
        return Into(fill, self.outputs, over or {}, held, linker)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Into:
    """A kernel's function that writes its results into memory that the plan has for them.

    Attributes:
        fill: ``fill(*inputs, *outputs, *scratch)``: an array for each of the op's inputs (None where absent), for each
            of its outputs (None where the node does not want it), C-contiguous, with anything in it, then the scratch
            arrays. It writes every element of every output and changes no input; what it returns is ignored.
        outputs: the type of each of the op's outputs; None for one that is not wanted.
        over: output position to the input positions whose very memory it may be given, because ``fill`` is done with
            an element of the input when it writes the same element of the output. Inputs of another type than the
            output are never taken.
        scratch: types of the arrays that ``fill`` works in.
        linker: what can do the work of this ``fill`` and of those before and after it in one call.
    """

    fill: Callable[..., Any]
    outputs: tuple[TensorType | None, ...]
    over: Mapping[int, tuple[int, ...]]
    scratch: tuple[TensorType, ...] = ()
    linker: Linker | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A kernel's function that gives its first input or views of it; which ones does not depend on what inputs hold.

    Attributes:
        function: as `Kernel.make` returns one.
        reshapes: whether that holds only for an array without gaps; of another one the function gives a copy.
    """

    function: Callable[..., Any]
    reshapes: bool = False


class Linker(Protocol):
    """Makes one call of the fills of kernels that follow each other in a plan."""

    def link(
        self, fills: Sequence[Callable[..., Any]], places: Sequence[Sequence[int]], moving: Sequence[int]
    ) -> Callable[..., int | None]:
        """The call that does what the fills do, one after the other, with the same bits.

        Args:
            fills: of kernels whose `Into.linker` this is.
            places: for each fill, which of the call's arrays it takes.
            moving: which of the call's arrays may be others in each run; the rest are the same for the same ``kept``.

        Returns:
            ``call(kept, *arrays)``, where ``kept`` is a list, empty at first, for what the linker wants to find again
            when it is called with the same arrays. It returns how many fills it has done if the next one cannot be
            done; called by itself, that one raises. Otherwise None.
        """


@dataclass(frozen=True, eq=False)
class Kernel:
    """A faster way to do an op's work, made for a node when its plan is made.

    Args:
        name: for listings and reports.
        op_type, domain: the op it stands in for; a derived one too: ``"Conv.vjp[w]"``.
        make: the site to a function of the node's input arrays, to an `Into` (see `KernelSite.into`) or to a `View`, or
            None where this kernel does not serve. The function takes and returns what the op's own does, attributes
            bound; it changes no input, and what it returns is new memory (or an input as it is).
        priority: kernels are asked from the highest down.
    """

    name: str
    op_type: str
    make: Callable[[KernelSite], Callable[..., Any] | Into | View | None]
    domain: str = ""
    priority: int = 0


def kernel(
    op_type: str, *, name: str = "", domain: str = "", priority: int = 0
) -> Callable[[Callable[[KernelSite], Callable[..., Any] | Into | View | None]], Kernel]:
    """Decorator: makes a `Kernel` of its ``make`` function; ``name`` defaults to the function's."""
    return lambda make: Kernel(name or make.__name__.strip("_"), op_type, make, domain, priority)


class KernelModule:
    """A module of kernels, and the ops they are for: a plug-in's hook may return it in the place of the kernels.

    The module is imported when a plan first looks for kernels of one of these ops. It has the kernels in its tuple
    ``KERNELS``, at least one for each of the ops or for an op derived from it, and none for any other.

    Args:
        module: its full name.
        names: the ops, apart by spaces, each with its domain if it is not the default one: ``"Conv graphrt::Step"``.
    """

    def __init__(self, module: str, names: str):
        self.module, self.names = module, names
        parts = (name.rpartition("::") for name in names.split())
        self.ops = frozenset((domain, op_type) for domain, _, op_type in parts)

    def __repr__(self) -> str:
        return f"<kernels of {self.module}: {self.names}>"

    def load(self) -> tuple[Kernel, ...]:
        """Imports the module.

        Raises:
            PluginError: its kernels are not for the very ops that are named.
        """
        kernels: tuple[Kernel, ...] = importlib.import_module(self.module).KERNELS
        served = {(k.domain, k.op_type.partition(".")[0]) for k in kernels}
        if served != self.ops:
            names = " ".join(sorted(f"{domain}::{op_type}" if domain else op_type for domain, op_type in served))
            raise PluginError(f"{self.module} is said to have kernels for {self.names!r}, and has them for {names!r}")
        return kernels


@dataclass(frozen=True, eq=False)
class Converter:
    """Reads or writes another file format.

    Args:
        name: e.g. ``"onnx"``.
        suffixes: file name endings it serves, e.g. ``(".onnx",)``.
        load: path to graph, or None if it cannot read. Raises ConversionError.
        save: (graph, path), or None if it cannot write. Raises ConversionError; writes whole files only.
    """

    name: str
    suffixes: tuple[str, ...]
    load: Callable[[Path], Graph] | None = None
    save: Callable[[Graph, Path], None] | None = None


@dataclass(frozen=True, eq=False)
class Engine:
    """A way to run training in several processes: ``create(**settings)`` gives a reducer (rank, size,
    allreduce_mean, broadcast, barrier)."""

    name: str
    create: Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Command:
    """A verb of the command line.

    Args:
        name: the verb.
        help: one line.
        configure: adds the verb's arguments to its parser.
        run: the parsed arguments to an exit code (0 success, 1 a bad model or a difference, 2 wrong usage).
    """

    name: str
    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@dataclass(frozen=True, eq=False)
class Callback:
    """Something that watches or steers training: ``create(**settings)`` gives an object with any of the
    methods of `graphrt.train.callbacks.TrainingCallback`."""

    name: str
    create: Callable[..., Any]
