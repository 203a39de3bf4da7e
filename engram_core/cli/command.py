"""Command: what all commands share: where the store is, `--json`, one-line errors, exit codes. It knows no command."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper
    from engram_core.engram import Engram

FINE = 0
PROBLEMS = 1
ERROR = 2
BUG = 70
INTERRUPTED = 130

STORE_VARIABLE = "ENGRAM_URL"
INDEX_VARIABLE = "ENGRAM_INDEX"
DEBUG_VARIABLE = "ENGRAM_DEBUG"
_DEFAULT_STORE = "./.engram"
_LEDGER_FILE = "engram.db"

Store = Annotated[
    str | None,
    typer.Option(
        "--store", "-s", metavar="URL", help="A directory or database URL; default ENGRAM_URL, else ./.engram."
    ),
]
Index = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="PLACE",
        help="Vector index: a directory, http://host:port of Chroma, or exact; default ENGRAM_INDEX.",
    ),
]
Principal = Annotated[
    str | None,
    typer.Option("--principal", metavar="NAME", help="Who acts, such as agent:helpdesk; default the store's owner."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the store is and who acts.

    Attributes:
        is_chosen: `--store` named it; else it is `ENGRAM_URL` or the default.
    """

    url: str
    index: str | None = None
    principal: str | None = None
    is_chosen: bool = False

    @property
    def shown(self) -> str:
        """The URL without its password."""
        if "://" not in self.url:
            return self.url
        from sqlalchemy import make_url  # noqa: PLC0415 - only database URLs hold passwords

        return make_url(self.url).render_as_string(hide_password=True)

    def open(self, *, create: bool = False) -> Engram:
        """Open the store.

        Args:
            create: Make it if there is none. Without this a mistyped directory would become an empty store.
        """
        if not create:
            self.check()
        from engram_core.engram import Engram  # noqa: PLC0415 - `--help` must not load the store

        return Engram.open(self.url, index=self.index)

    @contextmanager
    def made(self) -> Iterator[Engram]:
        """Open the store, and make it if there is none. One that a failing command made for nothing goes again."""
        from engram_core.domain.errors import EngramError  # noqa: PLC0415

        is_new, before = self.is_missing, _entries(Path(self.url))
        engram = self.open(create=True)
        is_kept = True
        try:
            with engram:
                try:
                    yield engram
                except EngramError:
                    ledger = engram.context.ledger
                    is_kept = bool(not is_new or ledger.scopes() or ledger.access.number() or ledger.designs.runs())
                    raise
        finally:
            if not is_kept:
                from engram_core.bootstrap import take_away  # noqa: PLC0415

                take_away(Path(self.url), before)

    def owned(self, doing: str) -> Engram:
        """Open the store for what concerns it as a whole, which is its owner's.

        Args:
            doing: What the owner alone does, such as `lists holds`.

        Raises:
            ChangeRefused: `--principal` names somebody else.
        """
        self.check()
        self.check_owner(doing)
        return self.open()

    def check_owner(self, doing: str, url: str | None = None) -> None:
        """Raise ChangeRefused unless the owner acts, of this store or of the one at `url`."""
        if self.principal is None:
            return
        from engram_core.bootstrap import owner_of  # noqa: PLC0415
        from engram_core.domain.errors import ChangeRefused  # noqa: PLC0415

        owner = owner_of(url or self.url)
        if self.principal != owner:
            raise ChangeRefused(
                f"Only the owner, {owner}, {doing}, which concerns the whole store: {self.principal} may not. Leave "
                "out --principal to act as the owner."
            )

    def is_owner(self, engram: Engram) -> bool:
        """Whether the owner acts."""
        return self.principal in (None, engram.owner)

    @property
    def is_missing(self) -> bool:
        """Whether this is a directory without a store."""
        return "://" not in self.url and self.url != ":memory:" and not (Path(self.url) / _LEDGER_FILE).is_file()

    def check(self) -> None:
        """Raise StoreUnavailable if this is a directory without a store."""
        from engram_core.domain.errors import StoreUnavailable  # noqa: PLC0415

        if self.is_missing:
            raise StoreUnavailable(
                f"There is no store at {self.url}. `engram add` creates one; --store or {STORE_VARIABLE} say where."
            )


def _entries(directory: Path) -> frozenset[Path] | None:
    """What is in a directory; None if there is none."""
    return frozenset(directory.iterdir()) if directory.is_dir() else None


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found: the view for `--json`, how to draw it for people, and the exit code."""

    view: dict[str, Any]
    draw: Callable[[Paper], None]
    code: int = FINE


@dataclass(frozen=True, slots=True)
class Given:
    """The shared options as they stood at one place of the command line."""

    store: str | None = None
    index: str | None = None
    principal: str | None = None
    as_json: bool = False

    def over(self, outer: Given) -> Given:
        """These options, and where they are silent those given before the command's name."""
        return Given(
            self.store if self.store is not None else outer.store,
            self.index if self.index is not None else outer.index,
            self.principal if self.principal is not None else outer.principal,
            self.as_json or outer.as_json,
        )

    @property
    def place(self) -> Place:
        """The store they mean."""
        url = self.store or os.environ.get(STORE_VARIABLE) or _DEFAULT_STORE
        # The index of the environment belongs to the store of the environment, not to another one.
        index = self.index or (None if self.store else os.environ.get(INDEX_VARIABLE) or None)
        return Place(url, index, self.principal, bool(self.store))


_Misuse: type[Exception] = typer.BadParameter.__mro__[2]
"""What any misuse of the command line is: click's `ClickException`, or the copy of it inside newer typers."""


class Program(TyperGroup):
    """The commands, with misuse told like every other error: one line on stderr, exit code 2."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run, and exit unless `standalone_mode` is off; see click."""
        run = partial(super().main, args, *rest, **(extra | {"standalone_mode": False}))
        if not standalone_mode:
            return run()
        try:
            sys.exit(run() or FINE)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        except _Misuse as error:
            sys.exit(_misused(error))


def _misused(error: Any) -> int:
    from engram_core.cli.paper import Paper  # noqa: PLC0415

    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help())
        return ERROR
    # The oldest typer names a variable that no option has.
    said = error.format_message().replace(" (env var: 'None')", "").rstrip(".")
    end = "" if said.endswith("?") else "."
    hint = f" `{context.command_path} --help` says what it takes." if context is not None else ""
    Paper().error(f"{said}{end}{hint}")
    return ERROR


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Register a function of a Place and its own options as a command that takes the shared options as well.

    The function stays callable as written; what Typer sees is a wrapper whose signature says what both take.
    """

    def register(function: Callable[..., Result]) -> Callable[..., Result]:
        def run(ctx: typer.Context, **values: Any) -> None:
            outer = ctx.obj if isinstance(ctx.obj, Given) else Given()
            given = Given(*(values.pop(option) for option in _SHARED)).over(outer)
            raise typer.Exit(carry_out(function, given, values))

        run.__doc__ = function.__doc__
        run.__signature__ = _signature(function)  # type: ignore[attr-defined]
        run.__annotations__ = {}
        app.command(name or function.__name__)(run)
        return function

    return register


_SHARED = {"store": Store, "index": Index, "principal": Principal, "as_json": AsJson}


def _signature(function: Callable[..., Result]) -> inspect.Signature:
    _, *own = inspect.signature(function, eval_str=True).parameters.values()
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", kind, annotation=typer.Context)]
    parameters += [parameter.replace(kind=kind) for parameter in own]
    for name, annotation in _SHARED.items():
        default = False if annotation is AsJson else None
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
    return inspect.Signature(parameters)


def carry_out(function: Callable[..., Result], given: Given, values: dict[str, Any]) -> int:
    """Run, write the result, and return the exit code. Nothing but a broken pipe or an interrupt escapes."""
    from engram_core.cli.paper import Paper  # noqa: PLC0415 - rich loads with the first result
    from engram_core.domain.errors import EngramError  # noqa: PLC0415

    paper = Paper()
    try:
        result = function(given.place, **values)
        if given.as_json:
            paper.json(result.view)
        else:
            result.draw(paper)
    except BrokenPipeError:
        raise  # whoever read our output has seen enough; Typer ends quietly
    except EngramError as error:
        paper.error(str(error))
        return ERROR
    except Exception as error:  # noqa: BLE001 - the edge: a bug is told in one line, and where it is on demand
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        paper.error(f"This is a bug in Engram: {type(error).__name__}: {error}. {DEBUG_VARIABLE}=1 shows where.")
        return BUG
    return result.code
