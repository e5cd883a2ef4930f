"""The program ``hashpress``: registers its commands and turns every error into one line and an exit code.

0   success
1   internal error (HASHPRESS_DEBUG=1 shows the traceback)
2   wrong usage, configuration or input
3   over budget
4   a device cannot be reached or failed
5   inconclusive: a time is over budget by less than the measurement can tell
130 interrupted        141 the reader of the output closed the pipe
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from ..core.errors import HashpressError, InputError
from . import (
    cache,
    check,
    compile,  # noqa: A004  # the command has this name
    compress,
    demo,
    devices,
    encode,
    evaluate,
    export,
    importing,
    ls,
    profile,
    report,
    sensitivity,
    show,
    train,
)

app = typer.Typer(
    name="hashpress",
    help="Compress a trained deep-hashing network, compile it for a device, measure it there, and check budgets in CI.",
    epilog="Exit codes: 0 success, 1 internal error, 2 wrong usage or input, 3 over budget, 4 device failed or unreachable, "
    "5 inconclusive.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb in (
    demo,
    ls,
    devices,
    train,
    importing,
    show,
    evaluate,
    sensitivity,
    compress,
    compile,
    profile,
    check,
    report,
    encode,
    export,
    cache,
):
    app.command(_verb.NAME, epilog=_verb.EXAMPLES)(_verb.verb)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; errors are printed as one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        code = app(args=words, prog_name="hashpress", standalone_mode=False, obj=words)
        sys.stdout.flush()
    except HashpressError as fault:
        return _fail(str(fault), fault.exit_code, fault)
    except TyperException as fault:
        return _fail(f"{fault.format_message()} (help: {_command(fault)} --help)", 2, fault)
    except (BrokenPipeError, SystemExit):  # raised by rich and typer when the reader of a pipe is gone
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  the interpreter flushes stdout once more at exit
        return 141
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted", 130)
    except OSError as fault:
        return _fail(_system(fault), InputError.exit_code, fault)
    except MemoryError as fault:
        return _fail("out of memory; try a smaller --batch or fewer images (?limit=N)", 1, fault)
    except Exception as fault:  # noqa: BLE001, RUF100  # the last resort
        what = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
        return _fail(f"internal error: {what} (HASHPRESS_DEBUG=1 shows the traceback; please report it)", 1, fault)
    return _fail("interrupted", 130) if code == 130 else int(code or 0)  # typer returns 130 for a KeyboardInterrupt


def _fail(message: str, code: int, fault: BaseException | None = None) -> int:
    if fault is not None and os.environ.get("HASHPRESS_DEBUG"):
        traceback.print_exception(fault, file=sys.stderr)
    sys.stderr.write(f"hashpress: {' '.join(message.split())}\n")
    return code


def _system(fault: OSError) -> str:
    if fault.errno == errno.ENOSPC:
        return f"no space left on the device{f' for {fault.filename}' if fault.filename else ''}; no file was replaced"
    if "temporary directory" in str(fault.strerror):  # of tempfile, which lists the folders it has tried
        return f"{fault.strerror}; set TMPDIR to a folder that can be written"
    where = f"{fault.filename}: " if fault.filename else ""
    return f"{where}{fault.strerror or fault}"


def _command(fault: TyperException) -> str:
    context = getattr(fault, "ctx", None)
    return context.command_path if context is not None else "hashpress"


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"hashpress {version('hashpress')}\n")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compress a trained deep-hashing network, compile it for a device, measure it there, and check budgets in CI."""
