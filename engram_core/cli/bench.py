"""Bench: the commands of `engram bench`: measure memories on labelled conversations, make environments for peers."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from engram_core.cli.command import FINE, PROBLEMS, Place, Result, command

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper
    from engram_core.lab.bench.data import Dataset
    from engram_core.lab.bench.peers import Peer
    from engram_core.lab.bench.subject import SharedEmbedder, System

View = dict[str, Any]
DEFAULT_ENVIRONMENTS: Final = Path(".engram-peers")
EXAMPLE: Final = "updates.jsonl"


class _Bench(TyperGroup):
    """`engram bench DATA` means `engram bench run DATA`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` in front unless a command or --help stands there."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


benches = typer.Typer(
    name="bench",
    cls=_Bench,
    help="Measure this and other memories on labelled conversations, without a judge. `engram bench DATA` runs.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@command(benches)
def run(
    place: Place,
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATA", help="Labelled conversations: files or folders; without any, a tiny example."),
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", metavar="NAME", help="Another memory to run beside; may be repeated; `all` for all here."
        ),
    ] = None,
    peer_env: Annotated[
        list[str] | None,
        typer.Option(
            "--peer-env",
            metavar="[NAME=]DIR",
            help="The environment of one peer, or of every peer that cannot run here; may be repeated.",
        ),
    ] = None,
    memories: Annotated[
        list[str] | None,
        typer.Option("--memory", metavar="MODULE:CLASS", help="A memory of your own; may be repeated."),
    ] = None,
    designs: Annotated[
        list[str] | None,
        typer.Option("--design", metavar="NAME", help="Engram's design; the first is compared with all others."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option("--embedder", metavar="MODULE:NAME", help="Who embeds for everyone; default the offline one."),
    ] = None,
    adds: Annotated[
        str, typer.Option("--adds", metavar="one|session|all", help="Messages a memory is given at a time.")
    ] = "session",
    limit: Annotated[
        int | None, typer.Option("--limit", help="The first so many conversations of each data set.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
    per_question: Annotated[
        Path | None, typer.Option("--per-question", metavar="FILE", help="Write a JSON line per memory and question.")
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            "--rows", metavar="FILE", help="Rows of an earlier run: memories that do not run now are taken from it."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Write Markdown and SVG: a new file, or between the marks of one."
        ),
    ] = None,
    no_timing: Annotated[
        bool, typer.Option("--no-timing", help="Leave out times, which vary from run to run.")
    ] = False,
) -> Result:
    """Run Engram, the baselines and the peers on labelled conversations. Exit code 1: some memory failed."""
    from engram_core.cli.progress import stages  # noqa: PLC0415
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415
    from engram_core.lab.bench import page, plots, rows  # noqa: PLC0415
    from engram_core.lab.bench import report as tables  # noqa: PLC0415
    from engram_core.lab.bench.run import ADDS, measure  # noqa: PLC0415
    from engram_core.models.tokens import token_counter  # noqa: PLC0415

    if adds not in ADDS:
        raise InvalidInput(f"--adds is one of {', '.join(ADDS)}; got {adds!r}.")
    if per_question is not None:
        rows.check(per_question)
    if report is not None:
        plots.check()
        page.check(report)
    sets = _datasets(data, limit)
    shared = _embedder(embedder)
    systems = _systems(shared, designs or ["pipeline"], peers or [], _environments(peer_env or []), memories or [])
    counter = token_counter()
    past = rows.read(earlier, sets, embedder=shared.name, counter=counter.name) if earlier is not None else None
    with stages() as move:
        measured = measure(sets, systems, shared, counter, adds=adds, progress=move)
    if past is not None:
        past.join(measured)
    view = tables.view(
        measured, embedder=shared.name, counter=counter.name, adds=adds, seed=seed, with_times=not no_timing
    )
    if per_question is not None:
        rows.write(measured, per_question, embedder=shared.name, counter=counter.name)
    if report is not None:
        folder = report.parent / "plots"
        drawn = {one["name"]: plots.draw(one, view["ours"], folder) for one in view["datasets"]}
        shown = {name: [(title, f"plots/{file}") for title, file in made] for name, made in drawn.items()}
        page.write(report, tables.markdown(view, shown))
        view["report"] = str(report)
    return Result(view, partial(_draw, view=view), PROBLEMS if view["failures"] else FINE)


@command(benches, "peers")
def peers_(place: Place) -> Result:
    """List the memories the bench knows, and whether they can run in this environment."""
    from engram_core.lab.bench.peers import PEERS  # noqa: PLC0415

    rows = [
        {
            "name": peer.name,
            "here": "yes" if peer.is_here else "no",
            "about": peer.about,
            "pip": " ".join(peer.requires),
        }
        for peer in PEERS.values()
    ]
    return Result({"peers": rows}, partial(_draw_peers, rows=rows))


@command(benches, "setup-peer")
def setup_peer(
    place: Place,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Peers, as `engram bench peers` lists them.")],
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="DIR", help="One environment for all of them; default .engram-peers/NAME each."),
    ] = None,
) -> Result:
    """Make an environment for peers and install them with pip. This needs a package index; the bench needs none."""
    from engram_core.cli.progress import bar  # noqa: PLC0415
    from engram_core.lab.bench import remote  # noqa: PLC0415

    made = []
    with bar("Installing") as move:
        for number, peer in enumerate([_peer(name) for name in names]):
            move(number, len(names))
            folder = into or DEFAULT_ENVIRONMENTS / peer.name
            python = _environment(folder)
            _install(python, peer)
            made.append({"name": peer.name, "environment": str(folder), "versions": remote.versions(peer, python)})
        move(len(names), len(names))
    return Result({"peers": made}, partial(_draw_made, made=made))


# --- parts -----------------------------------------------------------------------------------------------------------


def _datasets(paths: Sequence[Path] | None, limit: int | None) -> list[Dataset]:
    from importlib.resources import as_file, files  # noqa: PLC0415

    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415
    from engram_core.lab.bench.readers import load, pick  # noqa: PLC0415

    if not paths:
        with as_file(files("engram_core.lab.bench") / EXAMPLE) as path:
            return [load(path)]
    found = [pick(load(path), limit) for path in paths]
    names = [data.name for data in found]
    if len(set(names)) < len(names):
        raise InvalidInput(f"Two data sets are called alike ({', '.join(names)}); reports tell them apart by name.")
    return found


def _embedder(spec: str | None) -> SharedEmbedder:
    from engram_core.lab.bench.plugin import named  # noqa: PLC0415
    from engram_core.lab.bench.subject import SharedEmbedder  # noqa: PLC0415
    from engram_core.models.bridges import as_embedder  # noqa: PLC0415

    found = named(spec, "An embedder") if spec else None
    return SharedEmbedder(as_embedder(found() if isinstance(found, type) else found))


def _systems(
    shared: SharedEmbedder,
    designs: Sequence[str],
    peers: Sequence[str],
    environments: dict[str, Path],
    memories: Sequence[str],
) -> list[System]:
    from engram_core.cli.bench_subject import system  # noqa: PLC0415
    from engram_core.lab.bench.baselines import BASELINES  # noqa: PLC0415
    from engram_core.lab.bench.peers import PEERS  # noqa: PLC0415
    from engram_core.lab.bench.plugin import named  # noqa: PLC0415
    from engram_core.lab.bench.subject import System  # noqa: PLC0415

    found = [
        system(shared, name, "engram" if not number else f"engram, {name}", is_ours=not number)
        for number, name in enumerate(dict.fromkeys(designs))
    ]
    found += BASELINES
    wanted = [name for name, peer in PEERS.items() if peer.is_here] if "all" in peers else []
    wanted += [name for name in peers if name != "all"]
    found += [_peer_system(_peer(name), environments) for name in dict.fromkeys(wanted)]
    found += [System(spec, named(spec, "A memory")) for spec in dict.fromkeys(memories)]
    return found


def _peer(name: str) -> Peer:
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415
    from engram_core.lab.bench.peers import PEERS  # noqa: PLC0415

    if name not in PEERS:
        raise InvalidInput(f"There is no peer {name!r}; these are: {', '.join(PEERS)}. --memory runs one of your own.")
    return PEERS[name]


def _peer_system(peer: Peer, environments: dict[str, Path]) -> System:
    import importlib  # noqa: PLC0415

    from engram_core.domain.errors import MissingExtra  # noqa: PLC0415
    from engram_core.lab.bench import remote  # noqa: PLC0415
    from engram_core.lab.bench.subject import System  # noqa: PLC0415

    made = DEFAULT_ENVIRONMENTS / peer.name
    chosen = environments.get(peer.name) or (None if peer.is_here else environments.get(""))
    if chosen is None and not peer.is_here and made.is_dir():
        chosen = made
    if chosen is not None:
        python = remote.interpreter(chosen)
        versions = remote.versions(peer, python)
        return System(peer.name, lambda embed, folder: remote.Remote(peer, python, embed, folder), versions=versions)
    if not peer.is_here:
        raise MissingExtra(
            f"The peer {peer.name} needs {' '.join(peer.requires)}. `engram bench setup-peer {peer.name}` makes an "
            "environment for it, which the bench then finds; --peer-env names one that is elsewhere."
        )
    owner = getattr(importlib.import_module(peer.module), peer.owner)
    return System(peer.name, owner, versions=remote.versions(peer, Path(sys.executable)))


def _environments(specs: Sequence[str]) -> dict[str, Path]:
    """Peer → environment; "" for those not named."""
    found = {}
    for spec in specs:
        name, equals, folder = spec.partition("=")
        found[_peer(name).name if equals else ""] = Path(folder if equals else spec)
    return found


def _environment(folder: Path) -> Path:
    from engram_core.lab.bench import remote  # noqa: PLC0415

    if not folder.exists():
        venv.create(folder, with_pip=True)
    return remote.interpreter(folder)


def _install(python: Path, peer: Peer) -> None:
    from engram_core.domain.errors import EngramError  # noqa: PLC0415

    command_ = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requires]
    done = subprocess.run(command_, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise EngramError(f"pip could not install {' '.join(peer.requires)}: {' '.join(last)}")


# --- drawing ---------------------------------------------------------------------------------------------------------


def _draw(paper: Paper, view: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415
    from engram_core.lab.bench import report as tables  # noqa: PLC0415

    for data in view["datasets"]:
        paper.line(f"{data['name']}: {data['scored']} of {data['questions']} questions, {data['messages']} messages")
        shown = ("R@10", "All@10", "NDCG@10", "MRR", "R@256t", "R@512t", "C@256t", "A@256t", *tables.CHANGED)
        used = [name for name in shown if any(name in c.get(tables.ALL, {}) for c in data["means"].values())]
        rows = [
            {"system": system, **{name: tables.share(each.get(tables.ALL, {}).get(name)) for name in used}}
            for system, each in data["means"].items()
        ]
        if rows:
            paper.table([Column("system"), *(Column(name, is_right=True) for name in used)], rows)
        if data["differences"]:
            paper.line()
            paper.line(f"{view['ours']} minus …, points [95 %]")
            rows = [
                {"system": system, **{name: tables.points(value) for name, value in each[tables.ALL].items()}}
                for system, each in data["differences"].items()
                if tables.ALL in each
            ]
            paper.table([Column("system"), *(Column(name, is_right=True) for name in tables.COMPARED)], rows)
        if data["forgetting"]:
            paper.line()
            _draw_forgetting(paper, data["forgetting"])
        paper.line()
    if view["speeds"]:
        _draw_speeds(paper, view)
    for failure in view["failures"]:
        paper.error(f"{failure['system']} failed in {failure['conversation']} and is left out: {failure['error']}")
    if "report" in view:
        paper.remark(f"The report is in {view['report']}.")


def _draw_forgetting(paper: Paper, rows: list[View]) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415
    from engram_core.lab.bench import report as tables  # noqa: PLC0415

    numbers = ("precision", "recall", "kept", "at random")
    shown = [{**row, **{name: tables.share(row[name]) for name in numbers}} for row in rows]
    columns = [Column("system"), Column("way"), *(Column(name, is_right=True) for name in numbers)]
    paper.table([*columns, Column("forgotten", is_right=True)], shown)


def _draw_speeds(paper: Paper, view: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    names = ("adds/s", "adds, ratio", "p50 ms", "p95 ms", "p50, ratio")
    rows = [
        {"system": row["system"], **{name: "–" if row[name] is None else f"{row[name]:,.2f}" for name in names}}
        for row in view["speeds"]
    ]
    paper.line(f"Speed, embedding left out; messages added by: {view['adds']}")
    paper.table([Column("system"), *(Column(name, is_right=True) for name in names)], rows)


def _draw_peers(paper: Paper, rows: list[View]) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    paper.table([Column("name"), Column("here"), Column("about", is_wide=True), Column("pip", is_wide=True)], rows)


def _draw_made(paper: Paper, made: list[View]) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    paper.table([Column("name"), Column("environment", is_wide=True), Column("versions", is_wide=True)], made)
