"""Message and Episode: what a framework handed over, before anyone decided what to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from engram_core.domain.errors import InvalidInput
from engram_core.domain.scope import Scope

Role = Literal["user", "assistant", "system", "tool"]
Channel = Literal["user", "assistant", "tool", "web", "import", "derived"]
ROLES: frozenset[str] = frozenset(get_args(Role))
CHANNELS: frozenset[str] = frozenset(get_args(Channel))


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """One message of a conversation.

    Args:
        role: `user`, `assistant`, `system` or `tool`.
        content: The words, of any length; long messages are split into several facts.
        speaker: Who said it, as shown in recalls ("Caroline"). Default: none.
        at: When it was said. A naive datetime is read as UTC. Default: the time of the call.
        session: The conversation it belongs to; neighbouring messages of a session give each other context.
        id: Your id of the message; comes back in `fact.origin.message_ids`. Default: a new UUIDv7.
        channel: Where the words came from; decides their trust. Default `tool` for a tool's message, else `user`.

    Raises:
        InvalidInput: A field has the wrong type or an unknown value.
    """

    role: Role
    content: str
    speaker: str | None
    at: datetime | None
    session: str | None
    id: str | None
    channel: Channel

    def __init__(
        self,
        role: str,
        content: str,
        *,
        speaker: str | None = None,
        at: datetime | None = None,
        session: str | None = None,
        id: str | None = None,  # noqa: A002 - the field's public name
        channel: str | None = None,
    ) -> None:
        if role not in ROLES:
            raise InvalidInput(f"Message role {role!r} is unknown; use one of {', '.join(sorted(ROLES))}.")
        # What a tool returned must not count as what a user said because somebody left the channel out.
        channel = channel if channel is not None else "tool" if role == "tool" else "user"
        if channel not in CHANNELS:
            raise InvalidInput(f"Message channel {channel!r} is unknown; use one of {', '.join(sorted(CHANNELS))}.")
        if not isinstance(content, str):
            raise InvalidInput(f"Message content must be a string, not {type(content).__name__}.")
        for name, value, longest in (("speaker", speaker, 200), ("session", session, 500), ("id", id, 500)):
            if value is not None and (not isinstance(value, str) or not value or len(value) > longest):
                raise InvalidInput(f"Message {name} must be a non-empty string of at most {longest} characters.")
        if at is not None and not isinstance(at, datetime):
            raise InvalidInput(f"Message at must be a datetime, not {type(at).__name__}.")
        setting = object.__setattr__
        setting(self, "role", role)
        setting(self, "content", content)
        setting(self, "speaker", speaker)
        setting(self, "at", aware(at) if at is not None else None)
        setting(self, "session", session)
        setting(self, "id", id)
        setting(self, "channel", channel)

    def with_content(self, content: str) -> Message:
        """The same message with other words."""
        return Message(
            self.role,
            content,
            speaker=self.speaker,
            at=self.at,
            session=self.session,
            id=self.id,
            channel=self.channel,
        )


@dataclass(frozen=True, slots=True)
class Episode:
    """The messages of one `add`, in order, with everything a design needs to turn them into facts.

    `kept` holds the ids of facts already stored from this episode: it is empty on the first, synchronous pass
    and filled on the background pass in which a language model may extract more.
    """

    id: str
    scope: Scope
    messages: tuple[Message, ...]
    at: datetime
    principal: str
    kept: tuple[str, ...] = ()

    def with_messages(self, messages: Sequence[Message]) -> Episode:
        """The same episode with screened messages."""
        return replace(self, messages=tuple(messages))


def aware(moment: datetime) -> datetime:
    """`moment` in UTC; a naive datetime is read as UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
