"""Reflect: lapses → gaps → evidence → facts through `add`'s gate. It adds nothing that nobody said.

A gap's id and the episode that fills it follow from the question, so that a reflection that is killed between filling
and recording finds its own work again instead of doing it twice.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from engram_core.domain.change import Add, Draft
from engram_core.domain.errors import FactNotFound, InvalidInput, ModelFailed
from engram_core.domain.fact import MAX_TEXT_BYTES, Fact
from engram_core.domain.gap import Gap, GapState, Lapse
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.domain.recall import Query
from engram_core.domain.scope import Scope
from engram_core.measure import content, lapses
from engram_core.operations import evidence as finding
from engram_core.operations import standby
from engram_core.operations.add import Prepared, Wishes, remember, view_of
from engram_core.operations.context import Context
from engram_core.operations.evidence import Evidence, Search, Weighed
from engram_core.operations.lapses import Listener, heard_twice, of_recall
from engram_core.ports import Reflected

MAX_GAPS: Final = 10_000
"""Gaps of a scope that are known at once; the oldest closed ones are not looked at again."""
MAX_RECALLS: Final = 20_000
"""Recalls that one reflection reads; the next one reads on."""
MAX_ASKED: Final = 20
"""Gaps that one reflection puts to the model."""
_READ_BY_MODEL: Final = 8
_OVERLAP: Final = 10
"""Episodes read again by the next reflection, so that an answer given in the morning meets its question."""
_LATE: Final = timedelta(hours=1)
"""Recalls looked at again, because their verdicts may come late."""
_SAME: Final = 0.75
"""Share of common content words from which two questions are one gap."""
_LEAST_IMPORTANCE: Final = 0.6
_NEW_WORDS: Final = frozenset(
    map(
        content.stem,
        "tell told say said mention wrong right already forget forgot remember "
        "correct incorrect true again answer".split(),
    )
)


@dataclass(frozen=True, slots=True)
class Reflection:
    """What one reflection found and did, or with `dry_run` would do, in one scope.

    Attributes:
        found: Gaps seen for the first time.
        gaps: Those and the earlier open ones, as they are now.
        trouble: What went wrong on the way: a source or a model out of order.
    """

    scope: str
    found: tuple[str, ...]
    gaps: tuple[Gap, ...]
    trouble: tuple[str, ...] = ()

    def count(self, state: GapState) -> int:
        """How many of the gaps are in a state."""
        return sum(gap.state == state for gap in self.gaps)

    @property
    def line(self) -> str:
        """In one line, such as `found 3, filled 2, 1 open`."""
        parts = [f"found {len(self.found)}", f"filled {self.count('filled')}"]
        parts += [f"closed {self.count('closed')}"] if self.count("closed") else []
        return ", ".join([*parts, f"{self.count('open')} open"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "scope": self.scope,
            "line": self.line,
            "found": len(self.found),
            **{state: self.count(state) for state in ("filled", "closed", "open")},
            "gaps": [told(gap) for gap in self.gaps],
            "trouble": list(self.trouble),
        }


def told(gap: Gap) -> dict[str, Any]:
    """A gap as JSON-able values."""
    return {
        "id": gap.id,
        "scope": gap.scope.path,
        "question": gap.question,
        "state": gap.state,
        "reason": str(gap.reason),
        "fact_id": gap.fact_id,
        "evidence": list(gap.evidence),
        "opened_at": gap.opened_at.isoformat(),
        "updated_at": gap.updated_at.isoformat(),
        "lapses": [asdict(lapse) | {"at": lapse.at.isoformat()} for lapse in gap.lapses],
    }


def reflect(
    context: Context,
    scope: Scope,
    principal: str,
    now: datetime,
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Reflection:
    """Find a scope's new lapses, and fill what can be filled; see `Memory.reflect`.

    `progress` is called with (gaps done, gaps in all), and before each page of episodes that is read.
    """
    return _Reflecting(context, scope, principal, now, dry_run, progress or (lambda done, total: None)).run()


def gaps(context: Context, scope: Scope | None, *, below: bool, state: str | None, limit: int) -> list[Gap]:
    """Gaps, the last changed first; see `Engram.gaps`.

    Raises:
        InvalidInput: An unknown state, or a limit out of range.
    """
    states: tuple[GapState, ...] = ("open", "filled", "closed", "dismissed")
    if state is not None and state not in states:
        raise InvalidInput(f"Unknown state {state!r}; use {', '.join(states)}.")
    if not isinstance(limit, int) or not 1 <= limit <= MAX_GAPS:
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_GAPS}, not {limit!r}.")
    wanted = tuple(item for item in states if item == state)
    return context.ledger.diary.gaps(scope, below=below, states=wanted, limit=limit)


def dismiss(context: Context, scope: Scope, principal: str, gap_id: str, *, reason: str | None, now: datetime) -> Gap:
    """A person says that a gap is none; see `Memory.dismiss_gap`.

    Raises:
        FactNotFound: No such gap in this scope.
    """
    gap = context.ledger.diary.gap(gap_id)
    if gap is None or gap.scope != scope:
        raise FactNotFound(f"No gap {gap_id!r} in scope {scope}. `engram gaps {scope}` shows them.")
    why = Reason("dismissed", f"{principal}: {reason}" if reason else f"{principal} said that it is none.")
    after = replace(gap, state="dismissed", reason=why, updated_at=now)
    context.ledger.diary.save_reflection(scope, [after], context.ledger.diary.reflected(scope))
    return after


class _Reflecting:
    """One reflection on one scope."""

    def __init__(
        self,
        context: Context,
        scope: Scope,
        principal: str,
        now: datetime,
        dry_run: bool,
        moved: Callable[[int, int], None],
    ) -> None:
        self._context = context
        self._diary = context.ledger.diary
        self._scope = scope
        self._principal = principal
        self._now = now
        self._dry_run = dry_run
        self._moved = moved
        self._state = next(iter(context.ledger.scopes([scope])), None)
        self._names = frozenset(self._state.speakers) if self._state is not None else frozenset()
        self._policy = context.ledger.policy(scope).policy
        self._trouble: list[str] = []

    def run(self) -> Reflection:
        """Everything, in order; what is filled is committed gap by gap, and recorded at the end."""
        before = self._diary.reflected(self._scope)
        known = self._diary.gaps(self._scope, below=False, limit=MAX_GAPS)
        seen = {lapse.place for gap in known for lapse in gap.lapses}
        heard, until = self._heard(before)
        fresh = [lapse for lapse in heard if lapse.place not in seen]
        grouped = self._grouped(known, fresh)
        # For these the whole past was looked through in vain; what was only withheld may be let in since.
        looked_for = {gap.id for gap in known if gap.state == "open" and gap.reason.rule == "no_evidence"}
        done = self._answered(grouped, looked_for, before.episode)
        # A question that the agent asked, and that nobody had answered before, is only a question.
        done = [gap for gap in done if gap.state != "open" or any(item.kind != "asked_again" for item in gap.lapses)]
        old = {gap.id: gap for gap in known}
        changed = [gap for gap in done if gap != old.get(gap.id)]
        if not self._dry_run and (changed or until != before):
            self._diary.save_reflection(self._scope, changed, until)
        found = tuple(gap.id for gap in done if gap.id not in old)
        shown = tuple(gap for gap in done if gap in changed or gap.state == "open")
        return Reflection(self._scope.path, found, shown, tuple(self._trouble))

    # --- lapses, and the gaps they belong to ---

    def _heard(self, before: Reflected) -> tuple[list[Lapse], Reflected]:
        """The lapses since the last reflection, with some overlap, and how far they have been read."""
        listener = Listener(self._names)
        heard: list[Lapse] = []
        read: list[int] = []
        for seq, episode in finding.episodes(self._context, self._scope, before.episode):
            heard += listener.hear(episode)
            read.append(seq)
        since = before.until - _LATE if before.until is not None else None
        asked = self._diary.asked(self._scope, since, MAX_RECALLS)
        missed = [lapse for item in asked if (lapse := of_recall(item, self._names)) is not None]
        heard += [lapse for lapse in missed if not heard_twice(lapse, heard)]
        episode_seq = read[-_OVERLAP - 1] if len(read) > _OVERLAP else before.episode
        return heard, Reflected(episode_seq, asked[-1].recall.at if asked else before.until)

    def _grouped(self, known: Sequence[Gap], fresh: Sequence[Lapse]) -> list[Gap]:
        """The open gaps, and new ones, with their lapses; a lapse about a dismissed gap is dropped."""
        groups: list[tuple[Gap, frozenset[str]]] = [(gap, content.token_set(gap.question)) for gap in known]
        touched: dict[str, Gap] = {gap.id: gap for gap in known if gap.state == "open"}
        for lapse in sorted(fresh, key=lambda item: item.at):
            tokens = content.token_set(lapse.question)
            place = next((at for at, (_, own) in enumerate(groups) if _is_same(tokens, own)), None)
            if place is None:
                gap = self._new(lapse)
                groups.append((gap, tokens))
            else:
                gap = groups[place][0]
                if gap.state == "dismissed":
                    continue
                gap = replace(gap, lapses=(*gap.lapses, lapse), updated_at=self._now)
                # It was filled, and missed again: looked for anew, it may be found elsewhere.
                gap = replace(gap, state="open") if gap.state == "closed" else gap
                groups[place] = (gap, groups[place][1])
            touched[gap.id] = gap
        return list(touched.values())

    def _new(self, lapse: Lapse) -> Gap:
        id_ = _steady_id(self._scope.path, lapse.place, lapse.question)
        reason = Reason("no_evidence", "Nobody has looked for an answer yet.")
        return Gap(id_, self._scope, lapse.question, (lapse,), "open", reason, self._now)

    # --- evidence, and what becomes of each gap ---

    def _answered(self, grouped: Sequence[Gap], looked_for: Collection[str], read: int) -> list[Gap]:
        waiting = [gap for gap in grouped if gap.state == "open"]
        if not waiting:
            return list(grouped)
        weight = finding.weights(self._context, self._state, [gap.question for gap in waiting])
        searches = {gap.id: Search.of(gap, self._names, weight) for gap in waiting}
        old = [search for id_, search in searches.items() if id_ in looked_for]
        self._search(old, [search for id_, search in searches.items() if id_ not in looked_for], read)
        by_model = MAX_ASKED if self._context.model is not None else 0
        done: list[Gap] = []
        for number, gap in enumerate(grouped):
            self._moved(number, len(grouped))
            search = searches.get(gap.id)
            if search is None:
                done.append(gap)
                continue
            weighed = self._weighed(search, may_ask=by_model > 0)
            by_model -= weighed.evidence is None or weighed.evidence.by == "model"
            done.append(self._settled(gap, weighed))
        return done

    def _search(self, old: Sequence[Search], new: Sequence[Search], read: int) -> None:
        """Let every search hear every message once: a new one the scope's whole past, an old one what came since."""
        for number, (seq, episode) in enumerate(finding.episodes(self._context, self._scope, 0 if new else read)):
            if number % finding.PAGE == 0:
                self._moved(0, len(old) + len(new))
            searches = [*old, *new] if seq > read else new
            for message in episode.messages:
                if message.channel == "derived":
                    continue
                roots = finding.roots_of(message.content)
                for search in searches:
                    search.hear(message, episode, roots)

    def _weighed(self, search: Search, *, may_ask: bool) -> Weighed:
        correction = self._correction(search.gap)
        if correction is not None:
            return correction
        weighed = finding.weigh(self._context, search, self._now)
        if weighed.evidence is not None:
            return weighed
        found = finding.from_sources(self._context, search, self._trouble)
        if found is not None:
            return Weighed(found, Reason("evidence_found", f"{found.references[0]} says so."))
        if may_ask and not search.is_by_agent:
            asked = self._by_model(search.gap)
            if asked is not None:
                return asked
        return weighed

    def _correction(self, gap: Gap) -> Weighed | None:
        """What a user said when setting the agent right, if it says anything new."""
        for lapse in reversed(gap.lapses):
            if lapse.kind != "corrected" or lapse.episode_id is None:
                continue
            episode = self._context.ledger.episode(lapse.episode_id)
            message = (
                next((item for item in episode.messages if item.id == lapse.message_id), None) if episode else None
            )
            said = lapses.statements(message.content) if message is not None else []
            text = " ".join(
                part for part in said if content.token_set(part) - _NEW_WORDS - content.token_set(gap.question)
            )
            if message is not None and text:
                fact = self._kept(episode, message)
                references = (*((fact.id,) if fact is not None else ()), *filter(None, (message.id,)))
                line = f"{message.speaker or 'The user'} set it right on {lapse.at:%d %B %Y}."
                return Weighed(
                    Evidence(text, references, (message,), "correction", fact), Reason("evidence_found", line)
                )
        return None

    def _kept(self, episode: Episode | None, message: Message) -> Fact | None:
        facts = self._context.ledger.facts(episode.kept) if episode is not None else []
        return next((fact for fact in facts if message.id in fact.origin.message_ids and fact.is_recallable), None)

    def _by_model(self, gap: Gap) -> Weighed | None:
        """Let the model say whether one of the likeliest facts answers; what it says is checked against them."""
        facts = self._likeliest(gap)
        if not facts or self._context.model is None:
            return None
        try:
            reading = self._context.answerer(
                gap.question, [(fact.display, fact.said_at) for fact in facts], self._context.model
            )
        except ModelFailed as error:
            self._trouble.append(f"The model was no help with {gap.question!r}: {error}"[:500])
            return None
        if reading is None:
            return Weighed(None, Reason("no_evidence", "A model read what is likeliest to answer, and it does not."))
        rests_on = [facts[place] for place in reading.evidence]
        messages = tuple(
            Message(
                "user",
                fact.text,
                speaker=fact.speaker,
                at=fact.said_at,
                id=next(iter(fact.origin.message_ids), None),
                channel=fact.origin.channel,
            )
            for fact in rests_on
        )
        references = tuple(fact.id for fact in rests_on)
        found = Evidence(reading.text, references, messages, "model", rests_on[0])
        return Weighed(found, Reason("evidence_found", f"A model read it in {len(rests_on)} facts."))

    def _likeliest(self, gap: Gap) -> list[Fact]:
        view, _ = view_of(self._context, self._scope, self._now, policy=self._policy)
        view.question = gap.question
        query = Query(gap.question, _READ_BY_MODEL, self._now, frozenset())
        name = self._policy.design
        ranked, _ = standby.ask(
            self._context, self._scope, name, lambda design: list(design.retrieve(query, view)), self._now
        )
        facts = self._context.ledger.facts([item.fact_id for item in ranked[:_READ_BY_MODEL]])
        return [fact for fact in facts if fact.is_recallable and fact.scope == self._scope]

    def _settled(self, gap: Gap, weighed: Weighed) -> Gap:
        """What becomes of an open gap."""
        found = weighed.evidence
        if found is None:
            return gap if gap.reason == weighed.reason else replace(gap, reason=weighed.reason, updated_at=self._now)
        last = gap.lapses[-1]
        if found.at is not None and found.at > last.at and found.by != "source" and found.fact is not None:
            line = f"{finding.who(found.messages[0])} answered it later, on {found.at:%d %B %Y}."
            return replace(
                gap,
                state="closed",
                reason=Reason("answered_later", line),
                fact_id=found.fact.id,
                evidence=found.references,
                updated_at=self._now,
            )
        if not self._policy.fill_gaps:
            reason = Reason("fill_gaps_off", f"It could be filled: {weighed.reason.line} The policy has fill_gaps off.")
            return replace(gap, reason=reason, evidence=found.references, updated_at=self._now)
        fact_id, refusal = (None, None) if self._dry_run else self._fill(gap, found, weighed.reason)
        if refusal is not None:
            return replace(gap, reason=refusal, evidence=found.references, updated_at=self._now)
        return replace(
            gap, state="filled", reason=weighed.reason, fact_id=fact_id, evidence=found.references, updated_at=self._now
        )

    def _fill(self, gap: Gap, found: Evidence, reason: Reason) -> tuple[str | None, Reason | None]:
        """Add what the evidence says, through the gate of `add`. Returns the fact's id, or why it was refused."""
        episode_id = _steady_id(gap.id, *found.references)
        done = self._context.ledger.episode(episode_id)
        if done is not None and done.kept:
            return done.kept[0], None
        text = _statement(found.text, gap.question)
        first = found.messages[0]
        message = Message(
            "user",
            text,
            speaker=first.speaker,
            at=first.at or self._now,
            id=first.id or self._context.new_id(),
            channel="derived",
        )
        draft = Draft(
            text=text,
            # The evidence comes along, because its channel limits the trust.
            messages=(message, *(_rests_on(item, message) for item in found.messages)),
            kind=found.fact.kind if found.fact is not None else "observation",
            importance=max(_LEAST_IMPORTANCE, found.fact.importance if found.fact is not None else 0.0),
            sources=(found.fact.id,) if found.fact is not None else (),
            speaker=first.speaker,
            metadata={"gap": gap.id, "evidence": list(found.references), "question": gap.question},
            valid_from=found.fact.valid_from if found.fact is not None else None,
            valid_until=found.fact.valid_until if found.fact is not None else None,
        )
        why = Reason("gap_filled", f"It answers gap {gap.id}: {reason.line}")
        episode = Episode(episode_id, self._scope, (message,), self._now, self._principal)
        result = remember(
            self._context, episode, Wishes(), self._now, design=Prepared((Add(draft, why),), "reflection")
        )
        if result.facts:
            return result.facts[0].id, None
        return None, next((outcome.reason for outcome in result.outcomes), Reason("no_evidence", "Nothing was stored."))


def _rests_on(evidence: Message, message: Message) -> Message:
    """The evidence under the id of the message that states it: one message to the gate, the lower trust of the two."""
    return Message(
        evidence.role,
        evidence.content,
        speaker=evidence.speaker,
        at=evidence.at,
        id=message.id,
        channel=evidence.channel,
    )


def _statement(text: str, question: str) -> str:
    """What is remembered: the words of the evidence, findable by the words of the question."""
    asked = f' (asked: "{question}")'
    room = MAX_TEXT_BYTES - len(asked.encode())
    return text.encode()[:room].decode(errors="ignore").strip() + asked


def _is_same(one: Collection[str], other: Collection[str]) -> bool:
    one, other = frozenset(one), frozenset(other)
    return bool(one | other) and len(one & other) >= _SAME * len(one | other)


def _steady_id(*parts: str) -> str:
    """An id that follows from its parts."""
    return str(uuid.UUID(bytes=hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()[:16], version=5))
