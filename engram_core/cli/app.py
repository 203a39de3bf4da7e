"""App: the commands of `engram`. Each reads its arguments and asks the facade; nothing heavy loads with this file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli import access, portability, privacy
from engram_core.cli.bench import benches
from engram_core.cli.command import (
    FINE,
    PROBLEMS,
    AsJson,
    Given,
    Index,
    Place,
    Principal,
    Program,
    Result,
    Store,
    command,
)
from engram_core.cli.evolve import register as register_evolve
from engram_core.cli.gaps import register as register_gaps
from engram_core.cli.lab import lab
from engram_core.cli.moving import register as register_moving
from engram_core.cli.policy import policies
from engram_core.cli.proposals import register as register_proposals
from engram_core.cli.quarantine import quarantine
from engram_core.cli.scan import register as register_scan

if TYPE_CHECKING:
    from engram_core.domain.message import Message
    from engram_core.domain.recall import AddResult
    from engram_core.engram import Engram, Memory

BATCH = 100
"""Messages per transaction of `add`: small enough for a bar to move, large enough to be quick."""
PATIENCE_S = 10.0
"""Seconds `doctor` gives the index and the embedder to catch up before it looks."""
MANY = 20
"""Messages above which `add` shows a bar, and sums instead of every outcome."""

app = typer.Typer(
    name="engram",
    cls=Program,
    help="Memory for LangChain and LlamaIndex agents: add, recall, and ask why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(policies)
app.add_typer(lab)
app.add_typer(quarantine)
app.add_typer(benches)
access.register(app)

ScopeArgument = Annotated[str, typer.Argument(metavar="SCOPE", help="A path such as acme/support/alice.")]
FactId = Annotated[str, typer.Argument(metavar="ID", help="A fact's id.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why, for the fact's history.")]
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
All = Annotated[bool, typer.Option("--all", "-a", help="Show every row instead of the first few or a summary.")]


def run() -> None:
    """Run with the process's arguments, and exit."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that is not UTF-8 gets escapes, never a crash.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # absent on replaced streams only
    app()


def _version(is_asked: bool) -> None:
    if is_asked:
        from engram_core import __version__  # noqa: PLC0415

        typer.echo(f"engram {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    store: Store = None,
    index: Index = None,
    principal: Principal = None,
    as_json: AsJson = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Memory for LangChain and LlamaIndex agents: add, recall, and ask why."""
    ctx.obj = Given(store, index, principal, as_json)


@command(app)
def add(
    place: Place,
    scope: ScopeArgument,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What to remember; - reads one message per line.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Messages as JSON or JSON Lines; - reads them from stdin."),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="The conversation, for messages that name none.")
    ] = None,
    speaker: Annotated[str | None, typer.Option("--speaker", help="Who says it, for TEXT and stdin lines.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Kind of every fact, such as preference; default: told from the words.")
    ] = None,
    importance: Annotated[float | None, typer.Option("--importance", help="Importance of every fact, 0 to 1.")] = None,
    supersedes: Annotated[
        list[str] | None,
        typer.Option("--supersedes", metavar="ID", help="A fact that the first new one replaces; may be repeated."),
    ] = None,
    show_all: All = False,
) -> Result:
    """Remember messages, and say what became of each and why."""
    from engram_core.cli import render, views  # noqa: PLC0415

    messages = _messages(texts or [], file, speaker)
    with _memory(place, scope, create=True) as memory:
        results = _add(memory, messages, session=session, kind=kind, importance=importance, supersedes=supersedes)
    view = views.added(scope, results)
    return Result(view, partial(render.added, view=view, with_each=show_all or len(messages) <= MANY))


@command(app)
def recall(
    place: Place,
    scope: ScopeArgument,
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="The question; - reads it from stdin.")],
    k: Annotated[int, typer.Option("-k", help="Facts at most.")] = 8,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Tokens of the context at most; default the policy's.")
    ] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Leave out facts that score less.")] = None,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be repeated.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="Recorded with the recall.")] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", metavar="DATE", help="What was true then, such as 2024-05-01; UTC.", formats=_DATES),
    ] = None,
    include_archived: Annotated[
        bool, typer.Option("--include-archived", help="Also search what was archived and can still be restored.")
    ] = False,
    cite: Annotated[
        bool, typer.Option("--cite", help="Put markers before the lines and ask the model to cite them.")
    ] = False,
    explain_: Annotated[bool, typer.Option("--explain", help="Also what was dropped, and by which rule.")] = False,
    context: Annotated[
        bool, typer.Option("--context", help="Print the context for a prompt and nothing else.")
    ] = False,
    show_all: All = False,
) -> Result:
    """Find what is worth knowing for a question."""
    from engram_core.cli import render, views  # noqa: PLC0415

    question = _stdin("the query") if query == ["-"] else " ".join(query)
    with _memory(place, scope) as memory:
        found = memory.recall(
            question,
            k=k,
            max_tokens=max_tokens,
            min_score=min_score,
            kinds=kinds or (),
            session=session,
            as_of=as_of,
            include_archived=include_archived,
            cite=cite,
        )
    view = views.recalled(scope, found, with_dropped=explain_)
    if context:
        return Result(view, lambda paper: paper.line(found.text) if found.text else None)
    return Result(view, partial(render.recalled, view=view, with_all=show_all))


@command(app)
def brief(
    place: Place,
    scope: ScopeArgument,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Tokens of the text at most.")] = 1_000,
    context: Annotated[
        bool, typer.Option("--context", help="Print the context for a prompt and nothing else.")
    ] = False,
) -> Result:
    """Say what to know before anybody asks: the most telling current facts, by kind."""
    from engram_core.cli import render, views  # noqa: PLC0415

    with _memory(place, scope) as memory:
        found = memory.brief(max_tokens=max_tokens)
    view = views.briefed(scope, found)
    if context:
        return Result(view, lambda paper: paper.line(found.text) if found.text else None)
    return Result(view, partial(render.briefed, view=view))


@command(app, "list")
def list_(
    place: Place,
    scope: Annotated[str | None, typer.Argument(metavar="SCOPE", help="A scope; without one, lists scopes.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind.")] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", help="live, pending, quarantined, archived or all; default what can be recalled."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Facts at most, 1 to 10000.")] = 100,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Continue after this fact.")] = None,
) -> Result:
    """List the facts of a scope, or the scopes of the store."""
    from engram_core.cli import render, views  # noqa: PLC0415

    if scope is None:
        with place.open() as engram:
            view = {"store": place.shown, "scopes": engram.scopes(principal=place.principal)}
        return Result(view, partial(render.scopes, view=view))
    with _memory(place, scope) as memory:
        view = views.listed(scope, memory.list(kind=kind, status=status, limit=limit, after=after), limit)
    return Result(view, partial(render.listed, view=view))


@command(app)
def explain(
    place: Place,
    id_: Annotated[str, typer.Argument(metavar="ID", help="A recall's or a fact's id.")],
    about: Annotated[
        str | None, typer.Option("--about", metavar="FACT", help="With a recall: why this fact is not in it.")
    ] = None,
    show_all: All = False,
) -> Result:
    """Say why: a recall's scores and drops, or a fact's origin and fate."""
    from engram_core.cli import render, views  # noqa: PLC0415

    with memory_of(place, id_) as memory:
        view = views.explained(memory.explain(id_, about=about))
    return Result(view, partial(render.explained, view=view, with_all=show_all))


@command(app)
def history(place: Place, id_: FactId) -> Result:
    """Show every decision about a fact, oldest first."""
    from engram_core.cli import render, views  # noqa: PLC0415

    with memory_of(place, id_) as memory:
        view = views.history(memory.get(id_), memory.history(id_))
    return Result(view, partial(render.history, view=view))


@command(app)
def forget(
    place: Place,
    id_: FactId,
    reason: Why = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the fact and change nothing.")] = False,
) -> Result:
    """Archive a fact: no recall shows it, and `restore` brings it back."""
    from engram_core.cli import render, views  # noqa: PLC0415

    with memory_of(place, id_) as memory:
        view = views.changed(memory.forget(id_, reason=reason, dry_run=dry_run), dry_run=dry_run)
    return Result(view, partial(render.changed, view=view, verb="Archived"))


@command(app)
def restore(
    place: Place,
    id_: Annotated[str | None, typer.Argument(metavar="ID", help="An archived fact's id.")] = None,
    reason: Why = None,
    backup: Annotated[
        Path | None, typer.Option("--backup", metavar="FILE", help="Put this backup in the place of the store instead.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="With --backup: also where there is a store.")] = False,
    tombstones: Annotated[
        Path | None, typer.Option("--tombstones", metavar="FILE", help="With --backup: what must stay erased.")
    ] = None,
) -> Result:
    """Bring an archived fact back into recall; or, with --backup, a whole store from a backup."""
    from engram_core.cli import render, views  # noqa: PLC0415

    if backup is not None or id_ is None:
        return portability.restored(place, id_, backup, replace=replace, tombstones=tombstones)

    with memory_of(place, id_) as memory:
        view = views.changed(memory.restore(id_, reason=reason))
    return Result(view, partial(render.changed, view=view, verb="Restored"))


@command(app)
def split(place: Place, id_: FactId, reason: Why = None) -> Result:
    """Withdraw a consolidated fact: its originals are live again."""
    from engram_core.cli import render, views  # noqa: PLC0415

    with memory_of(place, id_) as memory:
        back = memory.split(id_, reason=reason)
        view = views.listed(memory.scope.path, back, limit=0)
    return Result(view, partial(render.split, view=view))


@command(app)
def sleep(
    place: Place,
    scope: Annotated[
        str | None, typer.Argument(metavar="SCOPE", help="A scope and all below it; without one, every scope.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its reasons; change nothing.")] = False,
    show_all: All = False,
) -> Result:
    """Run a night: forget and consolidate, by each scope's policy. Exit code 1: some scope was busy or failed."""
    from engram_core.cli import render  # noqa: PLC0415
    from engram_core.cli.progress import stages  # noqa: PLC0415

    with place.open() as engram, stages() as move:
        report = engram.sleep(scope, dry_run=dry_run, principal=place.principal, progress=move)
        view = {"store": place.shown, **report.to_dict()}
        texts = _texts(engram, view) if dry_run else {}
    code = PROBLEMS if view["totals"]["busy"] or view["totals"]["failed"] else FINE
    return Result(view, partial(render.slept, view=view, texts=texts, with_all=show_all), code)


@command(app)
def nights(
    place: Place,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Nights at most, 1 to 1000.")] = 10,
) -> Result:
    """List the latest nights and what they did."""
    from engram_core.cli import render  # noqa: PLC0415

    with place.owned("lists nights") as engram:
        view = {"store": place.shown, "nights": engram.nights(limit)}
    return Result(view, partial(render.nights, view=view))


@command(app)
def usage(
    place: Place,
    scope: Annotated[
        str | None, typer.Argument(metavar="SCOPE", help="A scope and all below it; without one, the whole store.")
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Facts in each list, 0 to 1000.")] = 10,
    days: Annotated[float, typer.Option("--days", help="How far back the weekly verdicts go.")] = 90.0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw it, into a file named .svg or .png.")
    ] = None,
) -> Result:
    """Show what was stored, recalled and used: by scope and kind, and the facts that lead each list."""
    from engram_core.cli import render  # noqa: PLC0415

    if plot is not None:
        from engram_core.cli import chart  # noqa: PLC0415

        chart.check(plot)
    with place.open() as engram:
        view = {"store": place.shown, **engram.usage(scope, top=top, days=days, principal=place.principal).to_dict()}
    if plot is not None:
        chart.draw(view, plot)
        view["plot"] = str(plot)
    return Result(view, partial(render.usage, view=view))


@command(app)
def doctor(place: Place) -> Result:
    """Examine a store. Exit code 0: healthy; 1: problems found, and what to do about them."""
    from engram_core.cli import render, views  # noqa: PLC0415

    with place.owned("examines a store") as engram:
        # An index that cannot be opened says so only once somebody tried.
        engram.flush(PATIENCE_S)
        view = views.diagnosed(place.shown, engram.doctor())
    return Result(view, partial(render.diagnosed, view=view), FINE if view["healthy"] else PROBLEMS)


@command(app)
def reindex(
    place: Place,
    embed: Annotated[
        bool, typer.Option("--embed", help="Also embed every fact anew, with the present embedder.")
    ] = False,
) -> Result:
    """Build the vector index anew from the ledger, and swap it in."""
    from engram_core.cli import render  # noqa: PLC0415
    from engram_core.cli.progress import bar  # noqa: PLC0415

    done: dict[str, Any] = {}
    place.check_owner("rebuilds the index")
    if embed:
        from engram_core.bootstrap import reembed  # noqa: PLC0415

        place.check()
        with bar("Embedding") as move:
            done |= reembed(place.url, index=place.index, progress=move)
    with place.open() as engram, bar("Indexing") as move:
        # Embedding anew makes sense without an index; building one does not, and says so.
        if not embed or engram.doctor()["index"]["kind"] != "exact":
            done |= engram.reindex(progress=move)
    view = {"store": place.shown, **done}
    return Result(view, partial(render.reindexed, view=view))


register_gaps(app)
register_scan(app)
register_evolve(app)
register_moving(app)
register_proposals(app)


@command(app)
def demo(
    place: Place,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="A conversation of your own, with questions.")
    ] = None,
    questions: Annotated[int, typer.Option("--questions", "-n", help="Questions to ask at most.")] = 5,
) -> Result:
    """Remember an example conversation, ask about it and explain; in a temporary store unless --store names one."""
    from engram_core.cli import demo as show  # noqa: PLC0415

    view = show.run(place, file, questions)
    return Result(view, partial(show.draw, view=view))


privacy.register(app)
portability.register(app)

# --- parts -----------------------------------------------------------------------------------------------------------


@contextmanager
def _memory(place: Place, scope: str, *, create: bool = False) -> Iterator[Memory]:
    from engram_core.domain.scope import Scope  # noqa: PLC0415

    wanted = Scope.coerce(scope)  # refused before a store is made for it
    with place.made() if create else place.open() as engram:
        yield engram.memory(wanted, principal=place.principal)


@contextmanager
def memory_of(place: Place, id_: str) -> Iterator[Memory]:
    """The memory of the scope a recall or fact belongs to."""
    with place.open() as engram:
        yield engram.memory(scope_of(engram, id_, place.principal), principal=place.principal)


def scope_of(engram: Engram, id_: str, principal: str | None, verb: str = "read") -> str:
    """The scope a recall or fact belongs to. Raises FactNotFound, also where the principal may not do `verb`."""
    from engram_core.domain.errors import FactNotFound  # noqa: PLC0415

    ledger = engram.context.ledger
    found = [recall.scope for recall in (ledger.recall(id_),) if recall] or [fact.scope for fact in ledger.facts([id_])]
    # Whether it is there is no business of somebody who may not read it.
    if not found or (principal is not None and not engram.why(principal, verb, found[0])):
        raise FactNotFound(f"{id_!r} is neither a fact nor a recall of this store. `engram list SCOPE` shows facts.")
    return found[0].path


def _texts(engram: Engram, view: dict[str, Any]) -> dict[str, str]:
    """The words of the facts that a plan would archive, for people; the JSON has ids."""
    ids = [item["id"] for night in view["scopes"] for item in night["forget"].get("proposals", ())]
    return {fact.id: fact.display for fact in engram.context.ledger.facts(ids)}


def _messages(texts: Sequence[str], file: Path | None, speaker: str | None) -> list[Message]:
    from engram_core.cli import conversation  # noqa: PLC0415
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415
    from engram_core.domain.message import Message  # noqa: PLC0415

    if (file is None) == (not texts):
        raise InvalidInput("Say what to remember: TEXT..., - for lines from stdin, or --file; one of the three.")
    if file is not None:
        read = conversation.parse(sys.stdin.buffer.read(), "stdin") if str(file) == "-" else conversation.load(file)
        return list(read.messages)
    if list(texts) == ["-"]:
        texts = [line for line in _stdin("stdin").splitlines() if line.strip()]
    return [Message("user", text, speaker=speaker) for text in texts]


def _stdin(name: str) -> str:
    from engram_core.cli.conversation import decoded  # noqa: PLC0415

    return decoded(sys.stdin.buffer.read(), name).strip()


def _add(
    memory: Memory, messages: Sequence[Message], *, supersedes: Sequence[str] | None, **wishes: Any
) -> list[AddResult]:
    from engram_core.cli.progress import bar  # noqa: PLC0415

    results: list[AddResult] = []
    with bar("Remembering", shown=None if len(messages) > MANY else False) as move:
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            results.append(_added(memory, batch, start, supersedes=supersedes if not start else None, **wishes))
            move(start + len(batch), len(messages))
    return results


def _added(
    memory: Memory, batch: Sequence[Message], before: int, *, supersedes: Sequence[str] | None, **wishes: Any
) -> AddResult:
    from engram_core.domain.errors import EngramError  # noqa: PLC0415

    try:
        return memory.add(batch, supersedes=supersedes or (), **wishes)
    except EngramError as error:
        if not before:
            raise
        raise EngramError(f"The first {before} messages are stored, the rest is not: {error}") from error
