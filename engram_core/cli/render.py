"""Render: draws views for people. It decides what to show and in which order; every value comes from the view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engram_core.cli.paper import Column, Paper
from engram_core.cli.views import View, by_rule
from engram_core.operations.explain import family, succession_lines

FEW = 10
"""Dropped candidates shown without `--all`."""

_FACT = Column("fact", is_wide=True)
_TERMS = Column("terms", is_wide=True, style="cyan")
_SCORE = Column("score", is_right=True, style="bold")
_ID = Column("id")
_WHY = Column("why", is_wide=True)


def added(paper: Paper, view: View, *, with_each: bool) -> None:
    """What became of each message, or sums."""
    outcomes = view["outcomes"]
    if with_each:
        columns = (Column("outcome", style="bold"), Column("message", is_wide=True), _WHY, _ID)
        paper.table(columns, [_outcome(item) for item in outcomes], under="id")
    else:
        paper.table((Column("outcome", style="bold"), Column("messages", is_right=True), _WHY), _sums(outcomes))
    counts = ", ".join(f"{count} {action}" for action, count in view["counts"].items())
    paper.remark(f"{view['scope']}: {counts or 'nothing to add'}.")
    if view["pending"]:
        paper.remark(f"{view['pending']} facts are not embedded yet; they are found by words and retried.")


def slept(paper: Paper, view: View, *, texts: Mapping[str, str], with_all: bool) -> None:
    """A night scope by scope; a rehearsal with every proposal and its reason."""
    rows = [_night(item, is_plan=view["dry_run"]) for item in view["scopes"]]
    columns = ("facts", "after", "forget", "clusters", "brief")
    paper.table((Column("scope"), Column("state"), *(Column(name, is_right=True) for name in columns)), rows)
    for item in view["scopes"]:
        if item["error"]:
            paper.line(f"{item['scope']}: {item['error']}", "bold red")
        if view["dry_run"] and item["state"] == "done":
            _plan(paper, item, texts, with_all=with_all)
    paper.remark(_slept(view))
    busy = view["totals"]["busy"]
    if busy:
        were = "was" if busy == 1 else "were"
        paper.remark(f"{_count(busy, 'scope')} {were} left alone: another night is at work there. Run it again later.")


def _slept(view: View) -> str:
    """The night in one or two sentences."""
    if not view["scopes"]:
        where, hint = (
            (f"at or below {view['scope']}", " `engram list` shows the scopes.") if view["scope"] else ("yet", "")
        )
        return f"There is no scope {where}: nothing to do.{hint}"
    totals = view["totals"]
    to, night = ("to be ", "Nothing was changed.") if view["dry_run"] else ("", f"Night {view['id']}.")
    return (
        f"{_count(totals['forgotten'], 'fact')} {to}forgotten, {_count(totals['clusters'], 'cluster')} "
        f"{to}consolidated: {_count(totals['vectors_saved'], 'live fact')} and "
        f"{_count(totals['tokens_saved'], 'token')} fewer. {_count(totals['gaps_found'], 'gap')} found, "
        f"{totals['gaps_filled']} {to}filled, {totals['gaps_open']} open. {_proposed(view)}{night}"
    )


def _proposed(view: View) -> str:
    made = view["totals"]["proposed"]
    if not made:
        return ""
    hint = "" if view["dry_run"] else " `engram proposals` shows them."
    return f"{_count(made, 'policy change')} proposed.{hint} "


def _night(item: View, *, is_plan: bool) -> View:
    brief = item["brief"]
    return {
        "scope": item["scope"],
        "state": item["state"],
        "facts": item["live"][0],
        "after": item["live"][1],
        "forget": item["forget"].get("archive", ""),
        "clusters": item["consolidate"].get("done", ""),
        "brief": _warm(brief, is_plan=is_plan) if brief else "",
    }


def _warm(brief: View, *, is_plan: bool) -> str:
    """Tokens of a warm start; a plan knows only those of today."""
    before, after = brief["before"]["tokens"], brief["after"]["tokens"]
    return f"{before} tokens" if is_plan else f"{before} > {after} tokens"


def _plan(paper: Paper, item: View, texts: Mapping[str, str], *, with_all: bool) -> None:
    few = None if with_all else FEW
    forget, found = item["forget"], item["consolidate"]
    proposals = [{**row, "fact": texts.get(row["id"], ""), "why": _rule(row)} for row in forget["proposals"]]
    clusters = [
        {"facts": len(row["fact_ids"]), "fact": row["text"] or row["into"] or "", "why": row["refused"] or _rule(row)}
        for row in found["clusters"]
    ]
    if proposals:
        paper.line()
        paper.line(f"{item['scope']}: would be archived", "bold")
        paper.table((_FACT, _WHY, _ID), proposals[:few], under="id")
    if clusters:
        paper.line()
        paper.line(f"{item['scope']}: would be consolidated. {found['cost']}", "bold")
        paper.table((Column("facts", is_right=True), _FACT, _WHY), clusters[:few])
    for change in item["design"]:
        what = " ".join(filter(None, (change["change"], change["fact_id"])))
        paper.line(f"{item['scope']}: {what}: {change['refused'] or change['reason']}")
    if forget["over"]:
        paper.remark(f"{item['scope']}: {forget['over']} facts above max_facts stay, because all others are protected.")


def nights(paper: Paper, view: View) -> None:
    """The latest nights."""
    rows = [
        {
            "at": item["at"][:16],
            "scope": item["scope"] or "(all)",
            "state": _outcome_of(item["totals"]),
            "id": item["id"],
        }
        | {name: (item["totals"] or {}).get(key, "") for name, key in _FIGURES.items()}
        for item in view["nights"]
    ]
    figures = (Column(name, is_right=True) for name in _FIGURES)
    paper.table((Column("at"), Column("scope", is_wide=True), *figures, Column("state"), _ID), rows, under="id")
    if not rows:
        paper.remark("There was no night yet. `engram sleep --dry-run` shows what one would do.")


_FIGURES = {"forgotten": "forgotten", "clusters": "clusters", "tokens": "tokens_saved"}


def _outcome_of(totals: Mapping[str, int] | None) -> str:
    if totals is None:
        return "unfinished"  # killed, or still at work
    trouble = [f"{totals[name]} {name}" for name in ("busy", "failed") if totals[name]]
    return ", ".join(trouble) or "done"


def usage(paper: Paper, view: View) -> None:
    """Counts by scope and kind, then the leading facts of each list."""
    counts = tuple(
        Column(name.replace("_", " "), is_right=True)
        for name in ("stored", "recalled", "used", "never_recalled", "never_used")
    )
    rows = [{name.replace("_", " "): value for name, value in group.items()} for group in view["groups"]]
    paper.table((Column("scope"), Column("kind"), *counts), rows)
    for name, note in (("most_useful", "used"), ("never_used", "judged"), ("never_recalled", "")):
        if view[name]:
            paper.line()
            paper.line(name.replace("_", " "), "bold")
            numbers = (Column(note, is_right=True),) if note else ()
            lead = (Column("usefulness", is_right=True),) if name == "most_useful" else ()
            facts = [{**item, "fact": item["text"]} for item in view[name]]
            paper.table((*lead, *numbers, _FACT, Column("kind"), _ID), facts, under="id")
    totals = view["totals"]
    if not view["groups"]:
        where = f"at or below {view['scope']}; `engram list` shows the scopes" if view["scope"] else "yet"
        paper.remark(f"There is no fact {where}.")
    else:
        paper.remark(
            f"{_count(totals['stored'], 'fact')} stored, {totals['recalled']} recalled, {totals['used']} used in a "
            f"response; {totals['never_recalled']} never recalled, {totals['never_used']} judged and never used."
        )
    if "plot" in view:
        paper.remark(f"Drawn in {view['plot']}.")


def _outcome(item: View) -> View:
    message = item["message"]
    said = f"{message['speaker']}: {message['content']}" if message["speaker"] else message["content"]
    return {"outcome": item["action"], "message": said, "why": _rule(item), "id": " ".join(item["facts"])}


def _sums(outcomes: Sequence[View]) -> list[View]:
    sums = Counter((item["action"], item["rule"], item["line"]) for item in outcomes)
    return [
        {"outcome": action, "messages": count, "why": f"{rule}: {line}"}
        for (action, rule, line), count in sums.most_common()
    ]


def recalled(paper: Paper, view: View, *, with_all: bool) -> None:
    """Rank, score, text and terms; the dropped too, if the view has them."""
    ranking(paper, view)
    if "dropped" in view:
        _dropped(paper, view["dropped"], with_all=with_all)
    if view["degraded"]:
        paper.remark("degraded: the vector index or the embedder could not be asked; exact or word search answered.")
    ranked = len(view["facts"]) + sum(view["dropped_by_rule"].values())
    paper.remark(
        f"{len(view['facts'])} of {ranked} candidates, {view['tokens']} tokens. Why: engram explain {view['id']}"
    )


def ranking(paper: Paper, view: View) -> None:
    """The facts a recall shows, best first."""
    rows = [{**item, "#": item["rank"], **_ranked(item)} for item in view["facts"]]
    paper.table((Column("#", is_right=True), _SCORE, _FACT, _TERMS, _ID), rows, under="id")


def _ranked(item: View) -> View:
    return {"score": f"{item['score']:.3f}", "fact": item["text"], "terms": terms(item["terms"])}


def _dropped(paper: Paper, dropped: Sequence[View], *, with_all: bool) -> None:
    if not dropped:
        return
    shown = dropped if with_all else dropped[:FEW]
    paper.line()
    paper.line("dropped", "bold")
    rows = [{**_ranked(item), "why": _rule(item), "id": item["id"]} for item in shown]
    paper.table((_SCORE, _FACT, _WHY, _ID), rows, under="id")
    if len(shown) < len(dropped):
        rules = ", ".join(f"{count} by {rule}" for rule, count in by_rule([item["rule"] for item in dropped]).items())
        paper.remark(f"The best {FEW} of {len(dropped)} dropped ({rules}); --all shows every one.")


def briefed(paper: Paper, view: View) -> None:
    """The text of a warm start."""
    if view["text"]:
        paper.line(view["text"])
    paper.remark(f"{_count(len(view['facts']), 'fact')}, {view['tokens']} tokens.")


def split(paper: Paper, view: View) -> None:
    """The originals that came back."""
    listed(paper, {**view, "next": None})


def scopes(paper: Paper, view: View) -> None:
    """The scopes of a store."""
    paper.table((Column("scope", is_wide=True),), [{"scope": scope} for scope in view["scopes"]])
    paper.remark(f"{_count(len(view['scopes']), 'scope')} in {view['store']}.")


def listed(paper: Paper, view: View) -> None:
    """Facts, oldest first."""
    rows = [
        {
            "said": fact["said_at"][:10],
            "kind": fact["kind"],
            "status": fact["status"],
            "fact": _said(fact),
            "id": fact["id"],
        }
        for fact in view["facts"]
    ]
    paper.table((Column("said"), Column("kind"), Column("status"), _FACT, _ID), rows, under="id")
    more = f" More: --after {view['next']}" if view["next"] else ""
    paper.remark(f"{_count(len(rows), 'fact')} of {view['scope']}.{more}")


def explained(paper: Paper, view: View, *, with_all: bool) -> None:
    """Why a recall showed what it did, or where a fact came from and what happened to it."""
    if view["about"] == "recall":
        _recall(paper, view, with_all=with_all)
    else:
        _fact(paper, view)


def _recall(paper: Paper, view: View, *, with_all: bool) -> None:
    paper.line(f"Recall {view['id']}: {view['query']!r}", "bold")
    paper.line(
        f"in {view['scope']} by {view['principal']} at {view['at'][:19]}, policy version {view['policy_version']}"
    )
    paper.line(f"{view['tokens']} tokens by {view['token_counter']}{', degraded' if view['degraded'] else ''}")
    paper.line()
    rows = [
        {"#": rank, **_ranked(item), "id": item["id"], "verdict": item.get("verdict") or ""}
        for rank, item in enumerate(view["shown"], 1)
    ]
    columns = (Column("#", is_right=True), _SCORE, Column("verdict"), _FACT, _TERMS, _ID)
    paper.table(columns, rows, under="id")
    _dropped(paper, view["dropped"], with_all=with_all)
    if view["absent"]:
        paper.line()
        paper.line(view["absent"], "bold")


def _fact(paper: Paper, view: View) -> None:
    fact = view["fact"]
    _headline(paper, fact)
    paper.line(
        f"said {fact['said_at'][:16]}, stored {fact['created_at'][:16]} by {fact['origin']['principal']} "
        f"from {fact['origin']['channel']}"
    )
    for source in view["sources"]:
        paper.line(f"made of message {source['id']}: {source['content']}")
    for line in family(view):
        paper.line(line.removeprefix("  "))
    for line in succession_lines(view):
        paper.line(line)
    _decisions(paper, view["history"])
    if view["recalls"]:
        paper.line()
        paper.line("recalled", "bold")
        numbers = view["usage"]
        counts = ", ".join(f"{name} {numbers[name]}" for name in ("shown", "judged", "used"))
        paper.line(f"{counts}, usefulness {numbers['usefulness']:.2f}")
        rows = [{**item, "at": item["at"][:16], "score": f"{item['score']:.3f}"} for item in view["recalls"]]
        columns = (Column("at"), Column("rank", is_right=True), _SCORE, Column("verdict"))
        paper.table((*columns, Column("query", is_wide=True), _ID), rows, under="id")


def history(paper: Paper, view: View) -> None:
    """Every decision about a fact."""
    _headline(paper, view["fact"])
    _decisions(paper, view["history"])


def changed(paper: Paper, view: View, *, verb: str) -> None:
    """A fact that was forgotten or restored."""
    done = "Nothing was changed; this is the fact as it is" if view["dry_run"] else verb
    paper.line(f"{done}: {_said(view['fact'])}")
    paper.remark(f"{view['fact']['id']} is {view['fact']['status']}.")


def diagnosed(paper: Paper, view: View) -> None:
    """A store's health, its problems, and what to do about them."""
    index = view["index"]
    rows = [
        ("store", view["store"]),
        ("owner", view["owner"]),
        ("facts", f"{view['live']} live, {view['pending']} pending, in {_count(view['scopes'], 'scope')}"),
        (
            "index",
            ", ".join(f"{key} {value}" for key, value in index.items() if value is not None and key != "problem"),
        ),
        ("embedder", view["embedder"] or "none yet: nothing was embedded"),
        ("token counter", view["token_counter"]),
        ("model", view["model"] or "none: facts are extracted offline"),
        ("extractions due", view["extractions_due"]),
    ]
    columns = (Column("what", style="bold"), Column("state", is_wide=True))
    paper.table(columns, [{"what": what, "state": state} for what, state in rows])
    _failures(paper, view["failures"])
    paper.line()
    if view["healthy"]:
        paper.line("Healthy: no problems found.", "green")
    for problem in view["problems"]:
        paper.line(f"Problem: {problem}", "red")
    for advice in view["advice"]:
        paper.line(f"To do: {advice}")


def _failures(paper: Paper, failures: Sequence[View]) -> None:
    if failures:
        rows = [{**failure, "at": failure["at"][:16]} for failure in failures]
        paper.line()
        paper.table((Column("at"), Column("kind"), Column("scope"), Column("error", is_wide=True)), rows)


def reindexed(paper: Paper, view: View) -> None:
    """What was built anew."""
    done = ", ".join(f"{key} {value}" for key, value in view.items() if key != "store")
    paper.line(f"Built anew from the ledger: {done}.")
    if view.get("vectors") == 0:
        paper.remark("Small scopes are searched whole and need no index.")


def _headline(paper: Paper, fact: View) -> None:
    paper.line(_said(fact), "bold")
    paper.line(f"{fact['id']} in {fact['scope']}")
    paper.line(
        f"{fact['status']}, kind {fact['kind']}, importance {fact['importance']:.2f}, trust {fact['trust']:.2f}, "
        f"version {fact['version']}"
    )


def _decisions(paper: Paper, decisions: Sequence[View]) -> None:
    paper.line()
    rows = [
        {
            "at": item["at"][:16],
            "decision": f"{item['action']} (refused)" if item["refused"] else item["action"],
            "by": item["principal"],
            "why": _rule(item),
            "change": _change(item["before"] or {}, item["after"] or {}),
        }
        for item in decisions
    ]
    columns = (Column("at"), Column("decision", style="bold"), Column("by"), _WHY, Column("change", is_wide=True))
    paper.table(columns, rows)


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Fields as "old → new"; what is simply new is told by the fact itself."""
    return "; ".join(f"{name}: {before[name]} → {after.get(name)}" for name in before)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _rule(item: View) -> str:
    return f"{item['rule']}: {item['line']}"


def _said(fact: View) -> str:
    return f"{fact['speaker']}: {fact['text']}" if fact["speaker"] else str(fact["text"])


def terms(values: Mapping[str, float]) -> str:
    """Named terms, heaviest first; their sum is the score."""
    ordered = sorted(values.items(), key=lambda item: -abs(item[1]))
    return " ".join(f"{name} {value:+.3f}" for name, value in ordered)
