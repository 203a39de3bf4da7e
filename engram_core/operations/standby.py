"""Standby: the built-in design answers where the one in force fails, and one that keeps failing is taken back.

A memory must not end because a design did: what is told is kept, and what is asked gets an answer that says whose it
is. The trouble of the store and the embedder is nobody's design's and passes through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from engram_core.design import Design
from engram_core.domain.errors import DesignFailed, EngramError, InvalidDesign, InvalidPolicy, SandboxUnavailable
from engram_core.domain.proposal import Proposal
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.operations import proposals
from engram_core.operations.context import Context

BUILT_IN: Final = "pipeline"
_MOST_TOLD: Final = 80

T = TypeVar("T")

logger = logging.getLogger("engram")


def ask(
    context: Context, scope: Scope, name: str, call: Callable[[Design], T], now: datetime, *, is_live: bool = True
) -> tuple[T, Reason | None]:
    """Let the design in force do something; if it fails, the built-in one.

    Args:
        scope: Where it is in force.
        name: Of the design.
        call: What is asked of it, to the end: a lazy answer would fail later.
        is_live: Whether its failures count against it; False where something is only tried.

    Returns:
        The answer, and why it is the built-in design's; None if it is not.

    Raises:
        EngramError: What is no fault of the design, or the built-in design failed; or failures are to be shown.
    """
    try:
        found = call(context.design(name))
    except Exception as error:
        if name == BUILT_IN or context.failures.are_shown or not _is_of_a_design(error):
            raise
        line = f"The design {shown(name)} failed: {_told(error)}. The built-in design stood in."
        logger.warning("engram: in %s: %s", scope, line)
        if is_live and not isinstance(error, SandboxUnavailable | InvalidPolicy | InvalidDesign):
            line += _counted(context, scope, name, now)
        return call(context.design(BUILT_IN)), Reason("design_failed", line)
    if is_live and name != BUILT_IN:
        context.failures.worked(name)
    return found, None


def shown(name: str) -> str:
    """A design's name as people read it: of an id by content the first digits."""
    kind, colon, digits = name.partition(":")
    return f"{kind}:{digits[:8]}" if colon else name


def _is_of_a_design(error: Exception) -> bool:
    """Whether the design is out of order, or cannot be run here; a foreign one may raise whatever it likes."""
    own = DesignFailed | InvalidDesign | InvalidPolicy | SandboxUnavailable
    return isinstance(error, own) or not isinstance(error, EngramError)


def _told(error: Exception) -> str:
    """What happened, without what the design itself says of it: that may quote a fact, and this is kept."""
    if isinstance(error, DesignFailed):
        said = str(error).removeprefix("The design ").partition(": ")[0][:_MOST_TOLD]
    else:
        said = str(error) if isinstance(error, EngramError) else f"raised {type(error).__name__}"
    return said.rstrip(".")


def _counted(context: Context, scope: Scope, name: str, now: datetime) -> str:
    """Count a failure; once it is one too many, take the design back, or propose to. Returns what was done."""
    bad = context.failures.failed(name)
    if bad is None:
        return ""
    line = f"It failed {bad[0]} of its last {bad[1]} times."
    try:
        return _taken_back(context, scope, name, line, {"failures": bad[0], "calls": bad[1]}, now)
    except EngramError as error:
        logger.warning("engram: a failing design could not be taken back: %s", error)
        return ""


def _taken_back(context: Context, scope: Scope, name: str, line: str, figures: dict[str, int], now: datetime) -> str:
    where = context.ledger.policy(scope).scope or scope
    known = context.ledger.proposals.listing(where, kind="design", statuses=("applied", "kept", "pending", "approved"))
    here = [item for item in known if item.scope == where]
    in_force = next((item for item in here if item.step("applied") is not None and _sets(item, name)), None)
    if in_force is not None:
        proposals.rollback(context, in_force.id, proposals.RULE, now, reason=line, figures=figures)
        return f" {line} It was rolled back."
    if any(_sets(item, BUILT_IN) for item in here):
        return ""
    why = f"{line} A person set it, so it is not rolled back by itself; the built-in design stands in until you decide."
    proposals.propose(
        context,
        where,
        {"design": BUILT_IN},
        now,
        kind="design",
        evidence={"failing": name, **figures},
        prediction={},
        rationale=why,
    )
    return f" {line} `engram proposals` shows a proposal to go back."


def _sets(proposal: Proposal, design: str) -> bool:
    return proposal.diff.get("design", {}).get("after") == design
