"""Every port of the core: what storage, models, clocks and ids must offer. Protocols and their records, no code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_core.books import DesignBook, ProposalBook
from engram_core.domain.access import AccessRules, Grant
from engram_core.domain.audit import AuditEntry, AuditHead, AuditRow, Verification
from engram_core.domain.fact import Fact, Slot, Status
from engram_core.domain.gap import Gap, GapState
from engram_core.domain.message import Episode
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.keeping import Erasure, ErasureBook

Clock = Callable[[], datetime]
"""Returns the current time, aware, UTC."""

NewId = Callable[[], str]
"""Returns a fresh UUIDv7 string."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """Stable name; part of the fingerprint a store remembers."""
        ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension); need not be normalised. May raise anything."""
        ...


class StoreEmbedder(Embedder, Protocol):
    """The embedder of one store: unit vectors, checked; questions may be embedded differently from statements."""

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension). Raises EmbeddingFailed, EmbedderMismatch."""
        ...


class LanguageModel(Protocol):
    """Completes a prompt. Used in the background, and by `observe(judge=True)`; never during a recall."""

    @property
    def name(self) -> str: ...

    def complete(self, prompt: str) -> str: ...


class Reranker(Protocol):
    """Judges how well texts answer a question, reading both together. Asked during a recall if the store has one."""

    @property
    def name(self) -> str: ...

    def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """One score per text, higher for better, on any scale. Raises ModelFailed."""
        ...


class TokenCounter(Protocol):
    """Counts tokens. Never touches the network."""

    @property
    def name(self) -> str:
        """Which counter this is, e.g. `tiktoken:cl100k_base` or `estimate`."""
        ...

    def count(self, text: str) -> int: ...


# --- the ledger --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Features:
    """What recall needs of a fact besides its text; derived at write, re-derivable from the text.

    Attributes:
        key: Equal for two statements that say the same; empty for none.
        body_stems, context_stems: Stems in order, for lexical search and its statistics.
        content, context: Unit vectors as float16, shape (d,); None while pending.
        previous: Id of the statement before it in the same session; `following` is the one after.
    """

    key: str
    body_stems: tuple[str, ...]
    context_stems: tuple[str, ...]
    content: NDArray[np.float16] | None
    context: NDArray[np.float16] | None
    time_words: float
    asks: bool
    previous: str | None = None
    following: str | None = None


class Indexed(NamedTuple):
    """One fact as ranking reads it: a flat row, no objects inside."""

    id: str
    scope_id: int
    seq: int
    version: int
    status: str
    said_at: float
    speaker: str | None
    session: str | None
    previous: str | None
    following: str | None
    kind: str
    importance: float
    trust: float
    valid_from: float | None
    valid_until: float | None
    body_stems: str
    """Each stem between single spaces, so two between neighbours: ` cat  sat `. Counting one is a substring count."""
    context_stems: str
    body_length: int
    context_length: int
    time_words: float
    asks: int
    content: bytes | None
    context: bytes | None
    members: str = "[]"
    """JSON list of the originals that are ranked and rendered in this fact's place; `[]` unless it is `merged`."""
    into: str | None = None
    """The consolidated fact that stands for this one."""
    key: int = 0
    """The ledger's own number of the fact, which never changes; see `Ledger.holding`."""


class Standing(NamedTuple):
    """One recallable fact as forgetting reads it: a flat row. Times are epoch seconds.

    Attributes:
        twin: Equal for facts that say the same, came the same way and were told to the same principal; empty for none.
        length: Characters of its text.
        forget_score: As stored by the last scoring.
    """

    id: str
    kind: str
    importance: float
    trust: float
    pinned: int
    created_at: float
    said_at: float
    restored_at: float | None
    valid_until: float | None
    superseded_by: str | None
    session: str | None
    twin: str
    length: int
    forget_score: float | None


class ForgetScore(NamedTuple):
    """A fact's forget score and the terms it is the sum of."""

    fact_id: str
    score: float
    terms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ScopeState:
    """A scope as the ledger knows it.

    Attributes:
        seq: Sequence number of its last change; equal seq means equal content.
        live: Facts with status live.
        recallable: Facts with status live or pending.
        body_words, context_words: Total stems over recallable facts.
        speakers: Recallable facts per speaker.
        judged: Recalls of this scope that had a verdict, and corrections of them: the clock of its tallies.
        held: Originals that recallable merged facts stand for; ranking reads them in those facts' place.
        collection: What the live generation of the index holds of it, if anything.
    """

    id: int
    scope: Scope
    seq: int
    live: int
    recallable: int
    body_words: int
    context_words: int
    speakers: Mapping[str, int]
    judged: int = 0
    held: int = 0
    collection: Collection | None = None

    @property
    def rows(self) -> int:
        """About how many facts a scan of the whole scope reads."""
        return self.recallable + self.held


@dataclass(frozen=True, slots=True)
class Tail:
    """The last statement of a session: what the next one takes its context from."""

    fact_id: str
    text: str
    version: int
    previous_text: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of history: what was decided about a fact or message, by whom and why. Append-only."""

    action: str
    scope: Scope
    principal: str
    at: datetime
    reason: Reason
    fact_id: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    refused: bool = False
    episode_id: str | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """One fact may say something newer than another. Append-only: the last link of a pair counts.

    Attributes:
        newer, older: Fact ids of one scope.
        verdict: `update` (the newer replaces the older, by `probability`), `same`, or `both` (both are true: no link).
        probability: Of an update, 0 to 1.
    """

    newer: str
    older: str
    probability: float
    reason: Reason
    at: datetime
    verdict: Literal["update", "same", "both"] = "update"


@dataclass(frozen=True, slots=True)
class Write:
    """A fact to insert (version 1) or replace (its new version and the version it replaces)."""

    fact: Fact
    features: Features
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class ContextWrite:
    """New neighbours for an existing fact; the fact itself does not change."""

    fact_id: str
    following: str | None
    context_stems: tuple[str, ...]
    context: NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class Parked:
    """Work that failed and waits where `engram doctor` shows it. Nothing is dropped silently."""

    kind: Literal["extraction", "embedding", "adapter", "judgement"]
    scope: Scope
    at: datetime
    error: str
    payload: Mapping[str, Any]
    episode_id: str | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything one operation writes, in one transaction.

    `expect` is the scope's sequence number the plan was made from; if another writer moved it, the ledger raises
    Conflict and writes nothing. None skips the check. `audit` is noted in the same transaction; without it the ledger
    notes what the decisions say.
    """

    scope: Scope
    expect: int | None = None
    episode: Episode | None = None
    extraction: Literal["none", "due", "done", "parked"] = "none"
    writes: tuple[Write, ...] = ()
    contexts: tuple[ContextWrite, ...] = ()
    decisions: tuple[Decision, ...] = ()
    parked: tuple[Parked, ...] = ()
    links: tuple[Link, ...] = ()
    erasure: Erasure | None = None
    audit: AuditEntry | None = None


@dataclass(frozen=True, slots=True)
class RecallRow:
    """A recall as recorded: what was asked, what was shown, what was dropped. JSON-able."""

    id: str
    scope: Scope
    principal: str
    session: str | None
    at: datetime
    query: str
    text_tokens: int
    token_counter: str
    degraded: bool
    policy_version: int
    facts: Sequence[Mapping[str, Any]]
    dropped: Sequence[Mapping[str, Any]]
    stages: Mapping[str, float]

    @property
    def shown(self) -> list[str]:
        """Ids of the facts that were shown, and of the originals that were rendered of merged ones."""
        return list(dict.fromkeys(id_ for fact in self.facts for id_ in (fact["id"], *fact.get("members", ()))))


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A verdict on a recall. Append-only: a later verdict is another row.

    `question` is the unit vector of the whole question as float16, shape (d,); None when it could not be embedded.
    """

    recall_id: str
    scope: Scope
    at: datetime
    response: str
    verdicts: Sequence[Mapping[str, Any]]
    question: NDArray[np.float16] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Judged:
    """A recall with a verdict: its question and what the verdict adds to each fact.

    Attributes:
        number: Grows with every judgement of the scope.
        tick: The scope's count of judged recalls at which it counts.
        question: Unit vector of the whole question as float16, shape (d,); None when it could not be embedded.
        verdicts: As recorded.
    """

    number: int
    recall_id: str
    tick: int
    question: NDArray[np.float16] | None
    verdicts: Sequence[Mapping[str, Any]]


class Tally(NamedTuple):
    """The verdicts on one fact in one scope's recalls.

    Attributes:
        recalled: Recalls with a verdict that showed the fact, decayed, as of `tick`.
        used: Soft uses among them, decayed, as of `tick`; never more than `recalled`.
        judged, times_used: The same as plain counts, for reports; they do not decay.
        tick: Judged recalls of the scope when the tally last changed: what it has to be decayed from.
    """

    fact_id: str
    recalled: float = 0.0
    used: float = 0.0
    judged: int = 0
    times_used: int = 0
    tick: int = 0


class StoredCount(NamedTuple):
    """How many recallable facts of a kind a scope holds."""

    scope: Scope
    kind: str
    facts: int


class FactUsage(NamedTuple):
    """What became of one recallable fact that recalls have shown.

    Attributes:
        shown: Recalls that showed it.
        judged, times_used: Recalls with a verdict on it, and those whose response used it.
        recalled, used: The same, weighted and decayed to now, summed over the scopes that recalled it.
    """

    fact_id: str
    scope: Scope
    kind: str
    shown: int
    judged: int
    times_used: int
    recalled: float
    used: float


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy as set on a scope. Version 0 is the built-in default."""

    scope: Scope | None
    version: int
    policy: MemoryPolicy
    principal: str = ""
    at: datetime | None = None


class Outset(NamedTuple):
    """What every call needs to know of a scope first.

    Attributes:
        rules: `AccessBook.number`.
        policy: `Ledger.policy` of the scope.
        states: `Ledger.scopes` of the scope and those above it, nearest first; whoever asks must still be let in.
    """

    rules: int
    policy: PolicyVersion
    states: list[ScopeState]


@dataclass(frozen=True, slots=True)
class Night:
    """One nightly run: where it was asked for (None: the whole store), and its totals once it is over."""

    id: str
    scope: Scope | None
    principal: str
    at: datetime
    totals: Mapping[str, int] | None = None

    @property
    def path(self) -> str | None:
        """The scope's path; None for the whole store."""
        return self.scope.path if self.scope is not None else None


@dataclass(frozen=True, slots=True)
class Generation:
    """One build of the vector index.

    Attributes:
        place: Directory name under the index directory, or the server's address.
        state: `building`, `live`, `bad` or `retired`.
    """

    id: str
    place: str
    state: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Collection:
    """One scope's collection in a generation; everything up to `watermark` has been applied."""

    generation: str
    scope_id: int
    name: str
    watermark: int
    dirty: bool = False


class FreshVectors(NamedTuple):
    """New vectors of one fact, float16, unit length."""

    fact_id: str
    content: NDArray[np.float16]
    context: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Asked:
    """A recall as it was asked, with the last verdict on it; None while there is none."""

    recall: RecallRow
    usage: UsageRow | None


@dataclass(frozen=True, slots=True)
class Reflected:
    """How far reflection has read a scope.

    Attributes:
        episode: Sequence number of the last episode read; 0 for none.
        until: Time of the recalls read last; None for none.
    """

    episode: int = 0
    until: datetime | None = None


class Diary(Protocol):
    """A part of the ledger: what happened in a scope in order, and the gaps found in it. Thread-safe like the whole."""

    def episodes(self, scope: Scope, after: int, limit: int) -> list[tuple[int, Episode]]:
        """Episodes of exactly this scope after a sequence number, with theirs, oldest first; `kept` is left empty."""
        ...

    def asked(self, scope: Scope, since: datetime | None, limit: int) -> list[Asked]:
        """Recalls made in exactly this scope at a time or later, oldest first; None for all."""
        ...

    def reflected(self, scope: Scope) -> Reflected:
        """How far reflection has come; `Reflected()` for a scope it never read."""
        ...

    def save_reflection(self, scope: Scope, gaps: Sequence[Gap], until: Reflected) -> None:
        """Record gaps, replacing those with the same id, and how far reflection came, in one transaction."""
        ...

    def gaps(
        self, scope: Scope | None, *, below: bool, states: Sequence[GapState] = (), limit: int = 1_000
    ) -> list[Gap]:
        """Gaps, the last changed first: of one scope, of it and all below it, or (None) of the whole store."""
        ...

    def gap(self, gap_id: str) -> Gap | None: ...


class Waiting(NamedTuple):
    """How many facts of one origin wait in quarantine in one scope."""

    scope: Scope
    principal: str
    channel: str
    facts: int


class ScreeningBook(Protocol):
    """What screening asks a ledger: who said the same words, and what waits in quarantine."""

    def same_words(self, scope: Scope, keys: Sequence[str]) -> dict[str, list[Fact]]:
        """Live, pending and quarantined facts of exactly this scope by duplicate key, oldest first."""
        ...

    def quarantined(
        self, scope: Scope | None, *, below: bool, limit: int = 100, after: str | None = None
    ) -> list[Fact]:
        """Facts in quarantine, oldest first, after the fact id `after`; scopes as for `stored_counts`."""
        ...

    def waiting(self) -> list[Waiting]:
        """Facts in quarantine by origin, of the whole store, the most first."""
        ...

    def stored(self, scope: Scope | None, *, limit: int, after: str | None = None) -> list[Fact]:
        """Facts of a scope and all below it, or of the store, any status but erased, oldest first, after a fact id."""
        ...

    def cover(self, scopes: Sequence[Scope] | None, clean: Callable[[str], str], *, dry_run: bool) -> dict[str, int]:
        """Clean every text that is stored beside the facts: messages, histories, questions, answers, failures.

        Args:
            scopes: Exactly these; None for the whole store.
            clean: A text without what must not be there; the very same text if there is nothing.
            dry_run: Only count.

        Returns:
            Rows that change, by the kind of record; kinds without any are left out.
        """
        ...


class AccessBook(Protocol):
    """Who may do what: grants, groups and private scopes. Each change notes its audit entry in the same transaction."""

    def number(self) -> int:
        """Grows with every change. One read: whoever holds the rules of this number holds those in force."""
        ...

    def rules(self) -> AccessRules:
        """Everything, as of one number."""
        ...

    def grant(self, grants: Sequence[Grant], audit: AuditEntry) -> list[Grant]:
        """Store grants; return them with their ids, in the order given."""
        ...

    def revoke(self, ids: Sequence[int], audit: AuditEntry) -> int:
        """Remove grants by id; return how many there were. Removing none changes and notes nothing."""
        ...

    def set_member(self, group: str, principal: str, is_member: bool, audit: AuditEntry) -> bool:
        """Put a principal into a group or take it out; False, and nothing noted, if it was so already."""
        ...

    def set_private(self, scope: Scope, is_private: bool, audit: AuditEntry) -> bool:
        """Let a scope stop grants made above it, or no longer; False, and nothing noted, if it was so already."""
        ...


class AuditBook(Protocol):
    """The chain of everything that was done or refused. Append-only; entries of all processes form one chain."""

    def append(self, entries: Sequence[AuditEntry]) -> AuditHead:
        """Note entries in their order; return where the chain ends now."""
        ...

    def head(self) -> AuditHead:
        """Where the chain ends; number 0 while it is empty."""
        ...

    def entries(
        self,
        *,
        scope: Scope | None = None,
        principal: str | None = None,
        verb: str | None = None,
        decision: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """The latest entries that fit, newest first; `scope` takes in those below, `before` is a number."""
        ...

    def verify(
        self, expect: AuditHead | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Compute the chain anew and compare the ledger's rows with their digests, as of one moment.

        Args:
            expect: A head noted earlier: the chain must hold an entry of this number and hash.
            progress: Called with (entries and rows checked, how many there are).
        """
        ...


class Ledger(Protocol):
    """The record. Every method is safe to call from any thread; a write is on disk when its method returns."""

    @property
    def url(self) -> str: ...
    @property
    def proposals(self) -> ProposalBook: ...
    @property
    def designs(self) -> DesignBook: ...
    @property
    def diary(self) -> Diary:
        """What happened in a scope in order, and the gaps found in it."""
        ...

    @property
    def erasures(self) -> ErasureBook: ...

    @property
    def screening(self) -> ScreeningBook:
        """What screening asks."""
        ...

    @property
    def access(self) -> AccessBook: ...

    @property
    def audit(self) -> AuditBook: ...

    def close(self) -> None: ...

    # scopes and facts
    def scopes(self, paths: Sequence[Scope] | None = None, *, at_least: int = 0) -> list[ScopeState]:
        """The known scopes among `paths` in that order, or all of them by path.

        Args:
            paths: Which; None for all.
            at_least: Of all, only those that hold so many live facts and originals of merged ones.
        """
        ...

    def outset(self, scope: Scope) -> Outset:
        """What a call reads before anything else, as of one moment and in one read."""
        ...

    def facts(self, ids: Sequence[str]) -> list[Fact]:
        """Facts by id, any scope, any status, in the order given; unknown ids are left out."""
        ...

    def listing(
        self,
        scope: Scope,
        *,
        kind: str | None = None,
        statuses: Sequence[Status] = (),
        limit: int = 100,
        after: str | None = None,
    ) -> list[Fact]:
        """Facts of exactly this scope, oldest first, after the fact id `after`."""
        ...

    def twins(self, scope: Scope, keys: Sequence[str]) -> dict[str, Fact]:
        """Recallable facts of exactly this scope by duplicate key."""
        ...

    def holders(self, scope: Scope, slots: Sequence[Slot]) -> list[Fact]:
        """Recallable facts of exactly this scope with one of the slots, oldest first."""
        ...

    def predecessors(self, ids: Sequence[str]) -> list[Fact]:
        """Facts that one of `ids` supersedes, any status, oldest first."""
        ...

    def derived(self, ids: Sequence[str]) -> list[Fact]:
        """Facts that have one of `ids` among their sources, any status, oldest first."""
        ...

    def links(self, ids: Sequence[str]) -> list[Link]:
        """Links whose newer or older fact is one of `ids`, in the order they were made."""
        ...

    def links_unjudged(self, limit: int) -> list[Link]:
        """Links that say `update` with less than certainty and are the only word on their pair, oldest first."""
        ...

    def tail(self, scope: Scope, session: str) -> Tail | None: ...

    def commit(self, batch: Batch) -> int:
        """Write everything or nothing; return the scope's new sequence number. Raises Conflict, StoreUnavailable."""
        ...

    # what recall reads
    def indexed(self, ids: Sequence[str]) -> list[Indexed]:
        """Rows by fact id, any order; unknown ids are left out."""
        ...

    def changes(self, scope_id: int, after: int, limit: int, *, vectors: bool = True) -> list[Indexed]:
        """The outbox: facts of a scope changed after sequence number `after`, in sequence order, last state only."""
        ...

    def contexts(self, scope_id: int, after: int, limit: int) -> list[tuple[str, int, str, bytes | None]]:
        """Of `changes` only what exact search reads: id, sequence number, status and context vector."""
        ...

    def heaviest(self, scope_id: int, weights: Mapping[str, float], limit: int) -> list[int]:
        """Keys (`Indexed.key`) of what `matching` finds, in the same order."""
        ...

    def matching(self, scope_id: int, weights: Mapping[str, float], limit: int, *, together: bool = False) -> list[str]:
        """Ids of the recallable facts whose context texts hold the heaviest stems, best first.

        A fact's weight is the sum over the stems its context text holds; ties go to the older fact. With `together` a
        fact has to hold the first two stems, and counts for as many of the stems, in their order, as it holds without
        a gap: that keeps a search for frequent words short.
        """
        ...

    def sharing(self, scope_id: int, asked: Sequence[Mapping[str, float]], limit: int) -> list[list[str]]:
        """`matching` for many sets of weights at once; a stem that several of them hold is read once."""
        ...

    def holding(self, scope_id: int, stem: str) -> NDArray[np.int64]:
        """Keys (`Indexed.key`) of the recallable facts whose context texts hold a stem, any order."""
        ...

    def ids_at(self, keys: Sequence[int]) -> dict[int, str]:
        """Fact ids by key; unknown keys are left out."""
        ...

    def said_between(self, scope_id: int, ranges: Sequence[tuple[float, float]], limit: int) -> list[str]: ...

    def weightiest(self, scope_id: int, limit: int) -> list[str]:
        """Ids of the recallable facts by falling importance, pinned ones first; ties go to what was said last."""
        ...

    def newest(self, scope_id: int, limit: int) -> list[str]:
        """Ids of the recallable facts said last, newest first."""
        ...

    def frequencies(self, scope_id: int, stems: Sequence[str]) -> dict[str, tuple[int, int]]:
        """For each stem: in how many bodies and in how many context texts of recallable facts it occurs."""
        ...

    def pending(self, limit: int) -> list[Fact]:
        """Facts waiting for an embedding, oldest first."""
        ...

    # what forgetting reads and writes
    def standings(self, scope_id: int) -> list[Standing]:
        """Every recallable fact of a scope, oldest first."""
        ...

    def session_starts(self, scope_id: int) -> dict[str, float]:
        """When the first statement of each session was made, archived ones included: session to epoch seconds."""
        ...

    def save_scores(self, scores: Sequence[ForgetScore]) -> None:
        """Store forget scores, in one transaction. A score is no change of a fact: its version, its sequence number and
        the scope's stay, and unknown ids are ignored.
        """
        ...

    # what happened
    def history(self, fact_id: str) -> list[Decision]: ...
    def decisions(self, scope: Scope, *, limit: int = 100) -> list[Decision]:
        """The latest decisions in a scope, newest first."""
        ...

    def episode(self, episode_id: str) -> Episode | None: ...
    def episodes_due(self, limit: int) -> list[Episode]:
        """Episodes whose model extraction is due, oldest first, with the ids of the facts kept from them."""
        ...

    def record_recall(self, row: RecallRow) -> None: ...
    def recall(self, recall_id: str) -> RecallRow | None: ...
    def recalls_of(self, fact_id: str, limit: int) -> list[RecallRow]:
        """The latest recalls that showed a fact."""
        ...

    def record_usage(self, row: UsageRow) -> None:
        """Append a verdict and count it in the scope's tallies, in one transaction; see `measure.usefulness`.

        A recall counts once: a later verdict on it replaces what the earlier one had added. `unknown` adds nothing.
        """
        ...

    def usage(self, recall_id: str) -> list[UsageRow]: ...
    def tallies(self, scope_id: int, after: int) -> list[Tally]:
        """A scope's own tallies that changed after the tick `after`, any order."""
        ...

    def judged(self, scope_id: int, after: int, limit: int) -> list[Judged]:
        """A scope's latest judged recalls after a number, at most `limit` of them, oldest first."""
        ...

    def worth(self, scope_id: int) -> dict[str, tuple[float, float]]:
        """For each judged fact of a scope: its recalled and used weights, decayed to now, over all scopes' recalls.

        Evidence on an original counts for what stands for it; see `measure.usefulness.inherited`.
        """
        ...

    def stored_counts(self, scope: Scope | None, *, below: bool) -> list[StoredCount]:
        """Recallable facts by scope and kind: of one scope, of it and all below it, or (None) of the whole store."""
        ...

    def fact_usages(self, scope: Scope | None, *, below: bool) -> list[FactUsage]:
        """Every recallable fact that was ever shown, any order; scopes as for `stored_counts`."""
        ...

    def fact_usage(self, fact_id: str) -> FactUsage | None:
        """The same of one fact, whatever its status; None if it was never shown."""
        ...

    def never_recalled(self, scope: Scope | None, limit: int, *, below: bool) -> list[str]:
        """Ids of recallable facts that no recall has shown, most important and then oldest first."""
        ...

    def usage_since(self, scope: Scope | None, since: datetime, *, below: bool) -> list[UsageRow]:
        """Verdicts recorded from a time on, oldest first, without their question vectors; scopes of the recalls."""
        ...

    def parked(self, limit: int = 100) -> list[Parked]: ...
    def park(self, item: Parked) -> None: ...

    # settings
    def policy(self, scope: Scope) -> PolicyVersion:
        """The policy in force: the nearest ancestor's, or version 0 of the default."""
        ...

    def set_policy(
        self, scope: Scope, policy: MemoryPolicy, principal: str, at: datetime, audit: AuditEntry | None = None
    ) -> PolicyVersion: ...
    def policy_versions(self, scopes: Sequence[Scope]) -> list[PolicyVersion]:
        """Every version set on exactly these scopes, in the order they were set."""
        ...

    def setting(self, name: str) -> str | None: ...
    def set_setting(self, name: str, value: str, *, only_if_absent: bool = False) -> str:
        """Store a setting and return what is stored now."""
        ...

    def replace_vectors(self, fresh: Iterable[FreshVectors], embedder: str) -> None:
        """Replace vectors and the setting `embedder` in one transaction; pending facts become live."""
        ...

    # nights
    def save_night(self, night: Night) -> None:
        """Record a night, or its end."""
        ...

    def nights(self, limit: int) -> list[Night]:
        """The latest nights, newest first."""
        ...

    def save_scope_night(self, night_id: str, scope: Scope, report: Mapping[str, Any]) -> None:
        """Record what a night did to a scope; a later report takes the place of an earlier one."""
        ...

    def scope_nights(self, night_id: str) -> list[dict[str, Any]]:
        """What a night did, scope by scope in the order of the paths."""
        ...

    # the index's books
    def generations(self) -> list[Generation]: ...
    def save_generation(self, generation: Generation) -> None: ...
    def swap_generation(self, live: str) -> None:
        """Make one generation live and every other one retired, in one transaction."""
        ...

    def drop_generation(self, generation_id: str) -> None: ...
    def collections(self, generation_id: str) -> list[Collection]: ...
    def save_collections(self, collections: Sequence[Collection]) -> None: ...
    def drop_collection(self, collection: Collection) -> None: ...
    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a named lease; False while another holder's has not run out. Used where no file lock can be."""
        ...


# --- where answers may be found --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text from a source.

    Attributes:
        reference: Where it stands, for people: `notes.md:12`, a document's id.
        at: When it was written, if the source knows.
    """

    text: str
    reference: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer that a model read in some facts: one sentence, and the places (from 0) of the facts it rests on."""

    text: str
    evidence: tuple[int, ...]


class Source(Protocol):
    """A place outside the store that reflection may search for what memory is missing."""

    @property
    def name(self) -> str: ...

    def search(self, question: str, n: int) -> Sequence[Passage]:
        """At most `n` passages that may answer, best first. May raise anything; the trouble is reported."""
        ...


# --- the index ---------------------------------------------------------------------------------------------------


class Hit(NamedTuple):
    """A fact id and its cosine similarity, -1 to 1."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Point:
    """A vector to put under an id."""

    id: str
    vector: NDArray[np.float32] = field(repr=False)


class VectorIndex(Protocol):
    """Nearest neighbours in named collections. Holds ids and vectors, nothing else."""

    def create(self, name: str, dimension: int) -> None:
        """Create an empty collection; an existing one is emptied."""
        ...

    def fit(self, name: str, size: int) -> bool:
        """Prepare a collection for about so many vectors; what is found stays the same.

        Returns:
            Whether something was changed. It may count only from the next opening of the index on.
        """
        ...

    def put(self, name: str, points: Sequence[Point]) -> None:
        """Add points, replacing those with the same id. Idempotent."""
        ...

    def remove(self, name: str, ids: Sequence[str]) -> None:
        """Remove ids; unknown ids are ignored. Idempotent."""
        ...

    def search(self, name: str, vector: NDArray[np.float32], n: int) -> list[Hit]:
        """The `n` nearest, best first; fewer if the collection is smaller. Raises IndexUnavailable."""
        ...

    def count(self, name: str) -> int: ...
    def ids(self, name: str) -> set[str]: ...
    def names(self) -> list[str]: ...
    def drop(self, name: str) -> None:
        """Remove a collection; an unknown one is ignored."""
        ...

    def close(self) -> None: ...


class Nearest(NamedTuple):
    """Nearest facts of a scope by context vector, and whether the index had to be replaced by exact search."""

    hits: list[Hit]
    degraded: bool


class Snapshot(Protocol):
    """A whole scope in memory. Immutable: a later state of the scope is another snapshot."""

    @property
    def columns(self) -> Any:
        """`measure.columns.Columns` of every recallable fact."""
        ...

    def counts(self, stems: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Occurrences of each stem in each body and each context text, two arrays (n, stems)."""
        ...


class Uncounted(NamedTuple):
    """What a scope's statistics miss: originals that take their merged facts' place, less those merged facts.

    Attributes:
        facts, body_words, context_words: To be added to the scope's own; each may be negative.
        body_df, context_df: To be added to its frequencies, (stems,).
    """

    facts: int
    body_words: int
    context_words: int
    body_df: NDArray[np.float32]
    context_df: NDArray[np.float32]


class Gathered(NamedTuple):
    """Facts as `measure.columns.Columns`, and how often each stem occurs in bodies and context texts, (n, stems).

    `uncounted` is None where no merged fact gave way to its originals.
    """

    columns: Any
    body_counts: NDArray[np.float32]
    context_counts: NDArray[np.float32]
    uncounted: Uncounted | None = None


class Finder(Protocol):
    """Finds facts of a scope for recall: whole small scopes, nearest facts of large ones. Always up to date."""

    def snapshot(self, state: ScopeState) -> Snapshot | None:
        """The whole scope at `state.seq` or later; None when it is too large to scan."""
        ...

    def nearest(self, state: ScopeState, vector: NDArray[np.float32], n: int) -> Nearest: ...

    def frequencies(self, state: ScopeState, stems: Sequence[str]) -> dict[str, tuple[int, int]]:
        """`Ledger.frequencies` of a large scope."""
        ...

    def matching(self, state: ScopeState, weights: Mapping[str, float], limit: int, *, together: bool) -> list[str]:
        """`Ledger.matching` in a large scope."""
        ...

    def gather(
        self, state: ScopeState, found: Sequence[Sequence[str]], stems: Sequence[str], with_neighbours: int
    ) -> Gathered:
        """What searches found in a large scope, ready to rank.

        Args:
            state: The scope; the rows are of its number or later.
            found: Fact ids, one list per search, best first. Unknown and foreign ids are left out.
            stems: What to count.
            with_neighbours: Best facts of each search whose neighbours in their session come too.

        Returns:
            Recallable facts, merged ones replaced by their originals, as `measure.columns.standing` has them.
        """
        ...

    def wake(self) -> None:
        """Something was committed; let the index follow."""
        ...

    def flush(self, timeout: float) -> bool:
        """Wait until the index has caught up; False if it did not in time."""
        ...

    def rebuild(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Build the index anew from the ledger and swap it in; return how many vectors it holds."""
        ...

    def purge(self) -> str:
        """Let caches and index hold nothing of what left the ledger, not even on disk; return what was done, in words.

        Raises:
            IndexUnavailable: The index cannot be built anew now; it is as soon as it can be opened.
        """
        ...

    def files(self) -> list[str]:
        """Directories and files that hold the index; empty where they are not this machine's."""
        ...

    def health(self) -> Mapping[str, Any]:
        """What `engram doctor` shows of the index; JSON-able."""
        ...

    def close(self) -> None: ...
