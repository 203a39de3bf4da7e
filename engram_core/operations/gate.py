"""Gate: what of a message may enter: quotas, secrets, outside guards, the tripwire, quarantine. It stores nothing.

It comes before everything that stores or embeds a text, the record of the conversation included.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets as chance
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, assert_never

from engram_core.domain.change import Draft
from engram_core.domain.errors import InvalidInput
from engram_core.domain.fact import TRUST_BY_CHANNEL, Origin
from engram_core.domain.guard import GuardVerdict
from engram_core.domain.message import Episode, Message
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.floor import screen
from engram_core.floor.echo import SECOND_HAND, Heard
from engram_core.floor.screen import Screened
from engram_core.floor.secrets import Finding, findings, redacted
from engram_core.floor.tripwire import STRUCTURAL, tripped
from engram_core.floor.unseen import visible
from engram_core.operations.context import Context

logger = logging.getLogger("engram")

KEY: Final = "fingerprint_key"
"""Setting that holds the store's secret; fingerprints of two stores cannot be compared."""
FLAGS: Final = "flagged"
"""Metadata key under which a fact carries what was noticed about its text."""
SHORTEST_FINGERPRINTED: Final = 12
"""Characters. Whoever has the store's key could try out every shorter value."""
_REFUSED: Final = "[not kept: {rule}]"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message as it may be stored.

    Attributes:
        message: With secrets replaced; of a refused one nothing but who sent it.
        refusal: Why nothing of it is kept; None if it is.
        quarantine: Why its facts wait for a curator; None if they need not.
        flags: What was noticed about it.
        redacted: Kind and fingerprint of everything that was replaced.
    """

    message: Message
    refusal: Reason | None = None
    quarantine: Reason | None = None
    flags: tuple[str, ...] = ()
    redacted: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """The messages of one episode as they entered, in order.

    Attributes:
        is_within: What is to be stored was made here, of what is stored already: by a model, or by reflection.
    """

    messages: tuple[Admitted, ...] = ()
    by_id: Mapping[str, Admitted] = field(default_factory=dict)
    is_within: bool = False

    @classmethod
    def of(cls, admitted: Sequence[Admitted]) -> Entry:
        """From what was admitted."""
        return cls(tuple(admitted), {item.message.id: item for item in admitted if item.message.id is not None})

    @property
    def heard(self) -> list[Heard]:
        """What came by second-hand channels, for telling an assistant's echo of it."""
        return [
            Heard.of(item.message.content, item.message.channel, is_quarantined=item.quarantine is not None)
            for item in self.messages
            if item.refusal is None and item.message.channel in SECOND_HAND
        ]

    @property
    def said(self) -> list[str]:
        """What users said."""
        return [item.message.content for item in self.messages if item.refusal is None and item.message.role == "user"]

    def screened(self, injected: Sequence[str]) -> list[Screened]:
        """One verdict of the screen per message, in order; what was refused here stays refused."""
        verdicts = iter(screen.screen([item.message for item in self.messages if item.refusal is None], injected))
        return [Screened(None, item.refusal) if item.refusal is not None else next(verdicts) for item in self.messages]

    def quarantine(self, messages: Sequence[Message]) -> Reason | None:
        """Why a fact that rests on these messages has to wait; None if it need not."""
        found = (item.quarantine for item in self._of(messages))
        return next((reason for reason in found if reason is not None), None)

    def flags(self, messages: Sequence[Message]) -> list[str]:
        """What was noticed about these messages."""
        return list(dict.fromkeys(flag for item in self._of(messages) for flag in item.flags))

    def _of(self, messages: Sequence[Message]) -> list[Admitted]:
        return [self.by_id[message.id] for message in messages if message.id is not None and message.id in self.by_id]


def unscreened(episode: Episode) -> Entry:
    """The entry of an episode that came through the gate when it was added."""
    return replace(Entry.of([Admitted(message) for message in episode.messages]), is_within=True)


def waiting(draft: Draft, policy: MemoryPolicy) -> Reason | None:
    """Why a statement made of what is stored has to wait: it rests on what waits itself, or reads like an order."""
    channels = [message.channel for message in draft.messages]
    held = [channel for channel in channels if channel in policy.quarantine_channels]
    if held and not draft.sources:
        return Reason("quarantine_channel", f"It rests on what came by the channel {held[0]}.")
    least = min(channels, key=TRUST_BY_CHANNEL.__getitem__)
    rules = tripped(draft.text, least) if policy.on_injection != "flag" else []
    if not rules:
        return None
    line = f"It reads like an order to a model ({', '.join(rules)})."
    return Reason("injection", line, dict.fromkeys(rules, 1.0))


def admit(context: Context, episode: Episode, policy: MemoryPolicy, now: datetime) -> tuple[Episode, Entry]:
    """The episode as it may be stored, and what became of its messages.

    Raises:
        InvalidInput: A message is too long or its id cannot be stored.
    """
    for message in episode.messages:
        screen.check(message)
    entry = Entry.of([_admitted(context, episode, message, policy, now) for message in episode.messages])
    if all(new.message is old for new, old in zip(entry.messages, episode.messages, strict=True)):
        return episode, entry
    return episode.with_messages([item.message for item in entry.messages]), entry


def _admitted(context: Context, episode: Episode, message: Message, policy: MemoryPolicy, now: datetime) -> Admitted:
    if not context.quotas.take((episode.scope, episode.principal, message.channel), policy, now):
        return _refused(message, _over_quota(message, episode.principal, policy))
    text = visible(message.content)
    found = _found(text, policy)
    marks = _marks(context, text, found)
    if found:
        if policy.secrets == "reject" and not all(item.is_personal for item in found):
            kinds = ", ".join(sorted({item.kind for item in found if not item.is_personal}))
            reason = Reason("secret", f"It holds a secret ({kinds}), and the policy rejects those.", _counts(found))
            return Admitted(_emptied(message, reason), reason, redacted=marks)
        text = redacted(text, found)
        message = message.with_content(text)
    message, speaker_marks = _named(context, message, policy)
    admitted = Admitted(message, redacted=(*marks, *speaker_marks))
    if context.guards:
        admitted = _guarded(context, episode, admitted, policy)
    if admitted.refusal is not None:
        return admitted
    return _tripping(_by_channel(admitted, policy), text, policy)


def _over_quota(message: Message, principal: str, policy: MemoryPolicy) -> Reason:
    terms = {"per_minute": float(policy.max_writes_per_minute), "per_day": float(policy.max_writes_per_day)}
    return Reason("quota", f"{principal} wrote more by the channel {message.channel} than the policy allows.", terms)


def _refused(message: Message, reason: Reason) -> Admitted:
    return Admitted(_emptied(message, reason), reason)


def _emptied(message: Message, reason: Reason) -> Message:
    return replace_content(message, _REFUSED.format(rule=reason.rule))


def replace_content(message: Message, content: str) -> Message:
    """The message with other words and, as a name may be what was refused, without its speaker."""
    return Message(
        message.role, content, at=message.at, session=message.session, id=message.id, channel=message.channel
    )


def _by_channel(admitted: Admitted, policy: MemoryPolicy) -> Admitted:
    channel = admitted.message.channel
    if channel not in policy.quarantine_channels or admitted.quarantine is not None:
        return admitted
    line = f"It came by the channel {channel}, whose statements wait for a curator."
    return replace(admitted, quarantine=Reason("quarantine_channel", line))


def _tripping(admitted: Admitted, text: str, policy: MemoryPolicy) -> Admitted:
    message = admitted.message
    rules = tripped(f"{message.speaker}: {text}" if message.speaker else text, message.channel)
    if not rules:
        return admitted
    line = f"It reads like an order to a model ({', '.join(rules)})."
    reason = Reason("injection", line, dict.fromkeys(rules, 1.0))
    flagged = replace(admitted, flags=(*admitted.flags, *(f"injection:{rule}" for rule in rules)))
    if message.channel == "user" and STRUCTURAL.issuperset(rules):
        return flagged
    if policy.on_injection == "reject":
        return replace(flagged, message=_emptied(message, reason), refusal=reason)
    if policy.on_injection == "quarantine" and admitted.quarantine is None:
        return replace(flagged, quarantine=reason)
    return flagged


# --- outside guards --------------------------------------------------------------------------------------------------


def _guarded(context: Context, episode: Episode, admitted: Admitted, policy: MemoryPolicy) -> Admitted:
    for guard in context.guards:
        message = admitted.message
        ids = (message.id,) if message.id is not None else ()
        origin = Origin(episode.principal, message.channel, episode.id, message.session, ids)
        try:
            verdict = guard(message.content, origin)
            if verdict is not None and not isinstance(verdict, GuardVerdict):
                raise InvalidInput(f"A guard returns a GuardVerdict or None, not {type(verdict).__name__}.")
        except Exception as error:  # noqa: BLE001 - anything may come out of a plug-in
            # A detector that is out of order must neither stop the user's run nor let everything through.
            logger.warning("engram: a guard failed (%s); the text is treated as the policy says", type(error).__name__)
            verdict = _failed(error, policy)
        if verdict is not None:
            admitted = _obeyed(context, admitted, verdict)
        if admitted.refusal is not None:
            return admitted
    return admitted


def _failed(error: Exception, policy: MemoryPolicy) -> GuardVerdict:
    action = {"quarantine": "quarantine", "reject": "reject", "keep": "flag"}[policy.on_guard_failure]
    return GuardVerdict(action, f"A guard failed with {type(error).__name__}.")  # type: ignore[arg-type]


def _obeyed(context: Context, admitted: Admitted, verdict: GuardVerdict) -> Admitted:
    reason = Reason("guard", verdict.reason)
    match verdict.action:
        case "reject":
            return replace(admitted, message=_emptied(admitted.message, reason), refusal=reason)
        case "quarantine":
            return replace(admitted, quarantine=admitted.quarantine or reason, flags=(*admitted.flags, "guard"))
        case "redact":
            assert verdict.text is not None
            kept = admitted.message.with_content(visible(verdict.text))
            mark = {"kind": "guard", "reason": verdict.reason}
            return replace(admitted, message=kept, redacted=(*admitted.redacted, mark))
        case "flag":
            return replace(admitted, flags=(*admitted.flags, f"guard:{verdict.reason}"))
        case _:
            assert_never(verdict.action)


# --- secrets ---------------------------------------------------------------------------------------------------------


def _found(text: str, policy: MemoryPolicy) -> list[Finding]:
    return findings(text, secrets=policy.secrets != "keep", personal=policy.personal_data == "redact")


def _named(context: Context, message: Message, policy: MemoryPolicy) -> tuple[Message, tuple[Mapping[str, str], ...]]:
    """The message with its speaker's name screened as well: a display name is text that somebody chose."""
    if message.speaker is None or len(message.speaker) < SHORTEST_FINGERPRINTED:
        return message, ()
    name = visible(message.speaker)
    found = _found(name, policy)
    if not found:
        return message, ()
    return replace_speaker(message, redacted(name, found)), _marks(context, name, found)


def replace_speaker(message: Message, speaker: str) -> Message:
    """The same message under another name."""
    return Message(
        message.role,
        message.content,
        speaker=speaker[:200],
        at=message.at,
        session=message.session,
        id=message.id,
        channel=message.channel,
    )


def _counts(found: Sequence[Finding]) -> dict[str, float]:
    return {kind: float(count) for kind, count in Counter(item.kind for item in found).items()}


def _marks(context: Context, text: str, found: Sequence[Finding]) -> tuple[Mapping[str, str], ...]:
    return tuple(_mark(context, item.kind, text[item.start : item.end]) for item in found)


def _mark(context: Context, kind: str, value: str) -> Mapping[str, str]:
    """What is noted of a replaced value: its kind, and a fingerprint by which the same value is told again."""
    if len(value) < SHORTEST_FINGERPRINTED:
        return {"kind": kind}
    key = context.ledger.setting(KEY) or context.ledger.set_setting(KEY, chance.token_hex(32), only_if_absent=True)
    print_ = hmac.new(bytes.fromhex(key), value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return {"kind": kind, "fingerprint": print_[:16]}


def told(item: Admitted) -> tuple[Reason, dict[str, Any]]:
    """The decision about what was replaced in a message: the reason, and what is stored with it."""
    counts = Counter(mark["kind"] for mark in item.redacted)
    kinds = ", ".join(sorted(counts))
    reason = Reason("redacted", f"Replaced before storing: {kinds}.", {kind: float(n) for kind, n in counts.items()})
    return reason, {"message_id": item.message.id, "redacted": [dict(mark) for mark in item.redacted]}


def secrets_in(text: str, policy: MemoryPolicy) -> list[Finding]:
    """What `clean_text` would replace."""
    return _found(visible(text), policy)


def strings(value: Any) -> Iterator[str]:
    """Every string among JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)


def clean_text(text: str, policy: MemoryPolicy) -> str:
    """A text that is only recorded (a question, an answer, a reason), without secrets unless the policy keeps them."""
    plain = visible(text)
    found = _found(plain, policy)
    return redacted(plain, found) if found else text


def clean_values(value: Any, policy: MemoryPolicy) -> Any:
    """JSON values with the secrets in their strings replaced; keys are the program's own."""
    if isinstance(value, str):
        return clean_text(value, policy)
    if isinstance(value, Mapping):
        return {key: clean_values(item, policy) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_values(item, policy) for item in value]
    return value
