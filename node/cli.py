"""`peerpacs`: the command line's frame; each command lives in `node/commands/`, imported when it is run.

Human text by default, JSON with `--json`. Exit 0 good, 1 failed, 2 misuse, 3 partial. What goes wrong is two
sentences on standard error: what happened, and what to do.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

FAILED: Final = 1
MISUSE: Final = 2
PARTIAL: Final = 3
F = TypeVar("F", bound=Callable[..., Any])

_COMMANDS: Final = {
    "init": "setup",
    "run": "running",
    "status": "running",
    "drain": "draining",
    "check": "checking",
    "health": "watching",
    "config": "watching",
    "devices": "devices",
    "archives": "archives",
    "users": "accounts",
    "tokens": "accounts",
    "invite": "grid",
    "join": "grid",
    "approve": "grid",
    "peers": "grid",
    "revoke": "grid",
    "authority": "authority",
    "leave": "leaving",
    "retire": "retiring",
    "grants": "granting",
    "book": "book",
    "copies": "copies",
    "old-pacs": "old_pacs",
    "link": "linking",
    "unlink": "linking",
    "import": "importing",
    "migrate": "migrating",
    "echo": "asking",
    "find": "asking",
    "send": "moving",
    "get": "moving",
    "move": "moving",
    "commit": "committing",
    "forward": "transfers",
    "transfers": "transfers",
    "worker": "working",
    "routes": "routing",
    "prefetch": "routing",
    "conflicts": "reviewing",
    "held": "reviewing",
    "rejected": "reviewing",
    "correct": "deciding",
    "move-series": "deciding",
    "join-studies": "deciding",
    "reject": "deciding",
    "delete": "deciding",
    "erase": "deciding",
    "hold": "deciding",
    "confirm": "deciding",
    "deletions": "deciding",
    "retention": "retaining",
    "undo": "deciding",
    "trace": "deciding",
    "projects": "projects",
    "export": "exporting",
    "quarantine": "quarantine",
    "anonymize": "anonymizing",
    "backup": "backing",
    "restore": "backing",
    "rebuild": "rebuilding",
    "verify": "verifying",
    "storage": "storing",
    "viewer": "viewer",
    "audit": "upkeep",
    "conformance": "stating",
    "bench": "upkeep",
    "completion": "upkeep",
}
"""The module in `node/commands/` of each command, in the order of the help."""
_SENTENCE: Final = 200
"""Letters of the longest sentence that says what a command does."""


class Session:
    """What every command is given: where the node is, how to speak, and a way to ask it."""

    def __init__(self) -> None:
        self.named_home = os.environ.get("PEERPACS_HOME", "")
        self.archive = ""
        self.is_json = False
        self.is_debug = False

    @property
    def home(self) -> Path:
        """The node's home folder.

        Raises:
            UsageError: nobody named it.
        """
        if not self.named_home:
            raise click.UsageError("Which node? Name its home folder with --home DIR or PEERPACS_HOME.")
        return Path(self.named_home).expanduser().resolve()

    def say(self, value: Any, lines: Iterable[str]) -> None:
        """Print the value as JSON, or the lines, whichever was asked for."""
        if self.is_json:
            click.echo(json.dumps(value, ensure_ascii=False, indent=2))
        else:
            for line in lines:
                click.echo(line)

    def pasteable(self, line: str) -> str:
        """Return a line whose last words, a command, work as they stand: they name the home if need be.

        Sentences with a command in them are left as they are, and what is said elsewhere (`There: ...`).
        """
        named = os.environ.get("PEERPACS_HOME", "")
        if "peerpacs " not in line or "There: peerpacs " in line or line.endswith("."):
            return line
        if named and Path(named).expanduser().resolve() == self.home:
            return line
        return f"{line} --home {shlex.quote(str(self.home))}"

    @contextmanager
    def desk(self, command: str) -> Iterator[Callable[..., Any]]:
        """Yield a function that answers the node's verbs: the running node's, or that of a home opened here.

        Raises:
            PacsError: there is no node, or it does not answer, or another command works on it.
        """
        from node.control import ask, is_running

        room = f"{self.archive}/" if self.archive else ""
        if is_running(self.home):
            # A status that takes long says enough; a decision about a large study may.
            patience = 15.0 if command == "status" else 120.0
            yield lambda verb, **told: ask(self.home, room + verb, timeout=patience, **told)
            return
        with loading():
            from node.app import open_node

        with open_node(self.home, purpose=f"peerpacs {command}") as node:
            verbs = node.desk.verbs()
            yield lambda verb, **told: verbs[room + verb](**told)


@contextmanager
def loading() -> Iterator[None]:
    """Modules are imported in here: they leave no garbage, and looking for some costs a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def shared(function: F) -> F:
    """Give a command the options that all have; its function takes the `Session` first."""
    options = (
        _option("named_home", "--home", metavar="DIR", help="Home folder of the node (or PEERPACS_HOME)."),
        _option("archive", "--archive", metavar="NAME", help="Of this archive, not the default one."),
        _option("is_json", "--json", is_flag=True, help="Print JSON for programs."),
        _option("is_debug", "--debug", is_flag=True, help="Show where an error came from."),
    )
    command: Any = click.make_pass_decorator(Session)(function)
    for option in reversed(options):
        command = option(command)
    return command  # type: ignore[no-any-return]


def _option(name: str, word: str, **settings: Any) -> Callable[[F], F]:
    """Return an option whose value is kept in the session under `name`, not handed to the function."""

    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Session), name, value)

    return click.option(word, name, expose_value=False, callback=remember, **settings)


def by_default(command: click.Command) -> None:
    """Run `command` and exit with its code, if a group was called without naming one of its commands."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        context.exit(context.invoke(command) or 0)


class _Commands(click.Group):
    """Imports a command's module when the command is named or listed."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command of that name."""
        if name not in _COMMANDS:
            return None
        with loading():
            module = importlib.import_module(f"node.commands.{_COMMANDS[name]}")
        command = getattr(module, f"{name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, as a whole sentence."""
        commands = ((name, self.get_command(context, name)) for name in _COMMANDS)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str(_SENTENCE)) for name, each in commands if each]
            )

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest one when the word is nearly its name."""
        import difflib

        if words and words[0] not in _COMMANDS:
            close = difflib.get_close_matches(words[0], _COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else " See peerpacs --help."
            context.fail(f"There is no command {words[0]!r}.{hint}")
        return super().resolve_command(context, words)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="peerpacs", prog_name="peerpacs")
@shared
def peerpacs(session: Session) -> None:
    """A PACS that hospitals run together: this command makes, runs and tends one node.

    Begin with: peerpacs init --home DIR, then peerpacs run --home DIR
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    session = Session()
    try:
        code = peerpacs.main(
            args=None if arguments is None else list(arguments),
            prog_name="peerpacs",
            standalone_mode=False,
            obj=session,
        )
    except click.ClickException as error:
        if session.is_json:
            _tell_json("UsageError", error.format_message(), "See --help.")
        else:
            error.show()
        code = MISUSE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = FAILED
    except BrokenPipeError:
        # Whoever read our output has enough; a second complaint at exit would help nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if session.is_debug:
            raise
        code = _tell(error, session.is_json)
    sys.exit(code or 0)


def _tell(error: Exception, is_json: bool) -> int:
    from catalog import BadRequest, PacsError

    what, remedy = (
        f"This failed in a way nobody foresaw: {type(error).__name__}: {error}",
        "Add --debug, and report it, unless the node has run since before an upgrade: then restart it.",
    )
    if isinstance(error, PacsError):
        what, remedy = error.what, error.next
    elif isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        what, remedy = f"The system refused{where}: {error.strerror or error}.", _remedy(error)
    if is_json:
        _tell_json(type(error).__name__, what, remedy)
    else:
        click.echo("\n".join(line for line in (what, remedy) if line), err=True)
    return MISUSE if isinstance(error, BadRequest) else FAILED


def _remedy(error: OSError) -> str:
    """Return what can be done about it; what belongs to another user is often a node of the system's."""
    import errno
    import pwd

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space there, then give the command again."
    if not isinstance(error, PermissionError) or not error.filename:
        return "Check the path and its rights."
    for path in (Path(os.fsdecode(error.filename)), *Path(os.fsdecode(error.filename)).parents):
        try:
            owner = path.stat().st_uid
            name = pwd.getpwuid(owner).pw_name
        except (OSError, KeyError):
            continue
        if owner != os.geteuid():
            return f"{path} belongs to {name}; give the command as that user: sudo -u {name} peerpacs ..."
        break
    return "Check the path and its rights."


def _tell_json(kind: str, what: str, remedy: str) -> None:
    click.echo(json.dumps({"error": kind, "what": what, "next": remedy}, ensure_ascii=False), err=True)


def columns(rows: Iterable[Sequence[object]], titles: Sequence[str]) -> Iterator[str]:
    """Yield rows as lines of aligned columns under their titles, nothing cut off."""
    table = [[str(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def plural(count: int, noun: str) -> str:
    """Return `1 study`, `2 studies`, `12 345 files`."""
    plurals = {"study": "studies", "series": "series", "copy": "copies"}
    return f"{count:,} {noun if count == 1 else plurals.get(noun, noun + 's')}".replace(",", " ")


def readable(size: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def who() -> str:
    """Return the name of the person at the keyboard, as the system knows it: with sudo, who called that."""
    import getpass

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
