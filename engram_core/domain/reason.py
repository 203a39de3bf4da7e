"""Reason: why a rule decided as it did. Kept with every decision; composed nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Reason:
    """The rule that decided, one line of plain text, and the named numbers behind it.

    Args:
        rule: Stable name such as `small_talk` or `token_budget`; listed in docs/rules.md.
        line: One sentence for a person.
        terms: Named numbers the rule looked at; empty for rules without numbers.
    """

    rule: str
    line: str
    terms: Mapping[str, float] = field(default_factory=dict)

    def by_night(self, run_id: str | None) -> Reason:
        """The same, with the night's id in its line; unchanged without one."""
        return self if run_id is None else replace(self, line=f"{self.line} Night {run_id}.")

    def __str__(self) -> str:
        return f"{self.rule}: {self.line}"
