"""Policy: what is in force in a scope, how it came to be, and setting it anew. It stores; others act on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import InvalidPolicy
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.operations import warden
from engram_core.operations.context import Context
from engram_core.ports import PolicyVersion


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One time that the policy in force in a scope changed.

    Attributes:
        scope: Where it was set: the scope itself or an ancestor.
        version: Counted per scope, from 1.
        policy: The whole policy from then on.
        principal: Who set it.
        changes: The fields that changed from what was in force in the scope before: name to (before, after).
    """

    scope: Scope
    version: int
    policy: MemoryPolicy
    principal: str
    at: datetime
    changes: Mapping[str, tuple[Any, Any]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "scope": self.scope.path,
            "version": self.version,
            "principal": self.principal,
            "at": self.at.isoformat(),
            "changes": changes_dict(self.changes),
            "policy": self.policy.model_dump(mode="json"),
        }


def changes_dict(changes: Mapping[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """What `MemoryPolicy.diff` found, as JSON-able values: field to `before` and `after`."""
    plain: dict[str, dict[str, Any]] = json.loads(
        json.dumps({name: {"before": before, "after": after} for name, (before, after) in changes.items()})
    )
    return plain


def source(context: Context, scope: Scope, principal: str, now: datetime) -> PolicyVersion:
    """The policy in force and where it was set; see `Memory.policy_source`."""
    warden.admit(context, principal, "read", scope, now, "policy")
    return context.ledger.policy(scope)


def set_new(
    context: Context,
    scope: Scope,
    principal: str,
    now: datetime,
    *,
    preset: str | None,
    version: int | None,
    fields: Mapping[str, object],
) -> MemoryPolicy:
    """Set a new version of a scope's policy; see `Memory.set_policy`."""
    allowed = warden.require(context, principal, "curate", scope, now, "set_policy")
    policy = proposed(context, scope, preset=preset, version=version, fields=fields)
    entry = AuditEntry(now, principal, "curate", "set_policy", scope, by=allowed.by)
    context.ledger.set_policy(scope, policy, principal, now, entry)
    return policy


def history(context: Context, scope: Scope, principal: str, now: datetime) -> list[PolicyChange]:
    """Every change of what is in force in `scope`, oldest first; see `Memory.policy_history`."""
    warden.admit(context, principal, "read", scope, now, "policy_history")
    lineage = scope.lineage
    newest: dict[Scope, PolicyVersion] = {}
    before, found = MemoryPolicy.preset("default"), []
    for version in context.ledger.policy_versions(lineage):
        assert version.scope is not None
        assert version.at is not None
        newest[version.scope] = version
        # Once a nearer scope has a policy of its own, what is set above it no longer reaches this one.
        if next(level for level in lineage if level in newest) != version.scope:
            continue
        changes = before.diff(version.policy)
        found.append(
            PolicyChange(version.scope, version.version, version.policy, version.principal, version.at, changes)
        )
        before = version.policy
    return found


def proposed(
    context: Context, scope: Scope, *, preset: str | None, version: int | None, fields: Mapping[str, object]
) -> MemoryPolicy:
    """The policy that setting these would make, validated and not stored; see `Memory.set_policy`."""
    if preset is not None and version is not None:
        raise InvalidPolicy("Start from a preset or from an earlier version, not from both.")
    if preset is not None:
        base = MemoryPolicy.preset(preset)
    elif version is not None:
        base = _version(context, scope, version)
    else:
        base = context.ledger.policy(scope).policy
    policy = base.changed(**fields)
    context.design(policy.design)
    return policy


def _version(context: Context, scope: Scope, number: int) -> MemoryPolicy:
    if number == 0:
        return MemoryPolicy.preset("default")
    versions = context.ledger.policy_versions([scope])
    for version in versions:
        if version.version == number:
            return version.policy
    known = f"its versions are 1 to {len(versions)}" if versions else "it has none of its own"
    raise InvalidPolicy(f"Scope {scope} has no policy version {number!r}; {known}, and 0 is the built-in default.")
