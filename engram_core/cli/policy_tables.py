"""Policy tables: draws the views of `engram policy` for people; every value comes from the view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engram_core.cli.paper import Column, Paper
from engram_core.cli.views import View
from engram_core.domain.policy import MemoryPolicy

_CHANGES = (Column("field", style="bold"), Column("before"), Column("after"), Column("what it changes", is_wide=True))
_FIELDS = (Column("field", style="bold"), Column("value"), Column("unit"), Column("range"), _CHANGES[-1])


def show(paper: Paper, view: View) -> None:
    """Every field with its value, and where the policy was set."""
    rows = []
    for name, value in view["policy"].items():
        told = MemoryPolicy.describe(name)
        rows.append(
            {"field": name, "value": _shown(value), "unit": told["unit"], "range": told["range"] or ""}
            | {"what it changes": told["changes"]}
        )
    paper.table(_FIELDS, rows)
    if view["source"] is None:
        paper.remark(f"{view['scope']} and the scopes above it have no policy: this is the built-in default.")
    else:
        paper.remark(f"Version {view['version']} of {view['source']}, set by {view['principal']} at {view['at'][:19]}.")


def _changes(paper: Paper, changes: Mapping[str, Any]) -> None:
    rows = [
        {"field": name, "before": _shown(pair["before"]), "after": _shown(pair["after"])}
        | {"what it changes": MemoryPolicy.describe(name)["changes"]}
        for name, pair in changes.items()
    ]
    paper.table(_CHANGES, rows)


def changed(paper: Paper, view: View) -> None:
    """What a new version changed, or would."""
    _changes(paper, view["changes"])
    if view["dry_run"]:
        paper.remark(f"Nothing was changed: {view['scope']} would get a new version with these changes.")
    else:
        paper.remark(f"{view['scope']} is at version {view['version']} now, and every process on the store obeys it.")


def diff(paper: Paper, view: View) -> None:
    """The fields in which two policies differ."""
    _changes(paper, view["changes"])
    if not view["changes"]:
        paper.remark("No field differs.")
    paper.remark(f"before: {view['before']}; after: in force in {view['scope']}.")


def history(paper: Paper, view: View) -> None:
    """Every change, oldest first."""
    rows = [
        {
            "version": item["version"],
            "scope": item["scope"],
            "at": item["at"][:19],
            "by": item["principal"],
            "change": "; ".join(
                f"{name}: {_shown(pair['before'])} → {_shown(pair['after'])}" for name, pair in item["changes"].items()
            ),
        }
        for item in view["history"]
    ]
    columns = (Column("version", is_right=True), Column("scope"), Column("at"), Column("by"))
    paper.table((*columns, Column("change", is_wide=True)), rows)
    if not rows:
        paper.remark(f"No policy was ever set for {view['scope']}: the built-in default is in force.")


def presets(paper: Paper, view: View) -> None:
    """What each preset changes."""
    rows = [
        {"preset": name, "field": field, "default": _shown(pair["before"]), "value": _shown(pair["after"])}
        for name, changes in view["presets"].items()
        for field, pair in changes.items()
    ]
    paper.table((Column("preset", style="bold"), Column("field"), Column("default"), Column("value")), rows)
    paper.remark("`engram policy set SCOPE --preset NAME` starts from one.")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
