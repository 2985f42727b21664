"""The entry point of ``graphrt``: finds the verb, runs it, and turns errors into a message and an exit code.

Exit codes: 0 success; 1 a bad model, or a difference found; 2 wrong usage; 130 interrupted. Verbs that
plug-ins bring are looked up only when no built-in verb has the name: ``graphrt plugins`` lists them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphrt.cli.table import VERBS, configure_verb, run_verb
from graphrt.cli.usage import Parser, UsageError, shield_formulas
from graphrt.errors import DataError, ExpressionError, GraphrtError, InputError

if TYPE_CHECKING:
    from graphrt.definitions import Command

_VERB_NOTE = "graphrt VERB --help tells more; graphrt plugins lists those of plug-ins"
_NOTES = """exit codes: 0 success, 1 a bad model or a difference found, 2 wrong usage
--json writes NaN and infinities as the strings "nan", "inf" and "-inf"
a file named - is standard input"""

SUCCESS, BAD_MODEL, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after the program's name (default: those of the process).

    Returns:
        The exit code. Errors of any kind become one message on stderr; a traceback only with ``--debug``.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("graphrt: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _leave_stdout()
        return BROKEN_PIPE
    except Exception as e:
        if "--debug" in arguments:
            traceback.print_exc()
        print(f"graphrt: {_message(e)}", file=sys.stderr)
        return WRONG_USAGE if isinstance(e, (UsageError, ExpressionError, InputError, DataError)) else BAD_MODEL


def _message(e: Exception) -> str:
    if isinstance(e, (GraphrtError, UsageError)):
        return str(e)
    if isinstance(e, MemoryError):
        return f"out of memory: {e}" if str(e) else "out of memory"
    if isinstance(e, OSError) and e.filename is not None:
        return f"{e.filename}: {e.strerror}"
    return f"{type(e).__name__}: {e} (--debug shows where)"


def _leave_stdout() -> None:
    """Whoever read our output is gone: nothing more is written, not even at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (lives until the process ends)


def _dispatch(arguments: list[str]) -> int:
    head, verb, rest = _split(arguments)
    parser = _global_parser()
    options, _ = _parse(parser, head)
    if options is None:
        return SUCCESS
    if options.version:
        from graphrt import __version__

        print(f"graphrt {__version__}")
        return SUCCESS
    if verb is None:
        print(parser.format_help(), end="")
        return SUCCESS if not arguments else WRONG_USAGE
    return _run_verb(verb, rest, options)


def _split(arguments: list[str]) -> tuple[list[str], str | None, list[str]]:
    """The global options, the verb, and what follows it."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] == "--disable-plugin" else 1
    verb = arguments[at] if at < len(arguments) else None
    return arguments[:at], verb, arguments[at + 1 :]


def _parse(parser: Parser, arguments: list[str]) -> tuple[argparse.Namespace | None, int]:
    """The parsed arguments; None when they asked for help, which is printed then."""
    try:
        return parser.parse_args(shield_formulas(arguments)), SUCCESS
    except SystemExit as e:
        return None, e.code if isinstance(e.code, int) else SUCCESS


def _global_parser() -> Parser:
    width = max(map(len, VERBS))
    listing = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    parser = Parser(
        "graphrt",
        usage="graphrt [--debug] [--disable-plugin NAME] [--threads N] VERB ...",
        description="Runs, differentiates and trains serialized op graphs.",
        epilog=f"verbs ({_VERB_NOTE}):\n{listing}\n\n{_NOTES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    _add_common(parser, [])
    return parser


def _add_common(parser: argparse.ArgumentParser, disabled: object) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--threads", type=_count, metavar="N", help="compute on at most N threads")
    parser.add_argument(
        "--disable-plugin", action="append", metavar="NAME", default=disabled, help="leave a plug-in out; repeatable"
    )


def _run_verb(verb: str, rest: list[str], options: argparse.Namespace) -> int:
    parser = Parser(f"graphrt {verb}", formatter_class=argparse.RawDescriptionHelpFormatter)
    if verb in VERBS:
        parser.description = VERBS[verb]
        configure, run = configure_verb(verb), run_verb(verb)
    else:
        _disable([*options.disable_plugin, *_named_in(rest)])
        command = _find_plugin_verb(verb)
        parser.description = command.help
        configure, run = command.configure, command.run
    configure(parser)
    _add_common(parser, None)
    args, code = _parse(parser, rest)
    if args is None:
        return code
    args.debug |= options.debug
    if verb in VERBS:
        _disable([*options.disable_plugin, *(args.disable_plugin or ())])
    return _run_on(args.threads or options.threads, run, args)


def _run_on(threads: int | None, run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Runs a verb on at most so many threads."""
    if threads is None:
        return run(args)
    from graphrt.runtime.threads import limit_threads

    with limit_threads(threads):
        return run(args)


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1, not {text!r}")
    return int(text)


def _named_in(rest: list[str]) -> list[str]:
    return [b for a, b in itertools.pairwise(rest) if a == "--disable-plugin"]


def _disable(names: list[str]) -> None:
    if names:
        from graphrt.manager import disable_plugins

        disable_plugins(names)


def _find_plugin_verb(verb: str) -> Command:
    import difflib

    from graphrt.manager import get_registry

    commands = get_registry().table("commands")
    if verb not in commands:
        near = difflib.get_close_matches(verb, sorted({*VERBS, *commands}), n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"there is no verb {verb!r}{hint}\ntry: graphrt --help")
    command: Command = commands[verb]
    return command
