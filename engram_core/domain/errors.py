"""Every error a caller can meet. Each message says what happened and what to do; nothing here handles errors."""

from __future__ import annotations


class EngramError(Exception):
    """Base of everything Engram raises on purpose."""


class InvalidScope(EngramError, ValueError):
    """A scope path breaks the grammar. Paths are refused, never normalised."""


class InvalidInput(EngramError, ValueError):
    """An argument has a wrong type, range or size."""


class InvalidPolicy(EngramError, ValueError):
    """A policy field is unknown or outside its range."""


class InvalidDesign(EngramError, ValueError):
    """A design's text breaks its form: an unknown operator, a parameter out of range, code that may not run."""


class DesignFailed(EngramError):
    """A code design raised, ran out of time or memory, or answered what no design may answer."""


class SandboxUnavailable(EngramError):
    """This machine cannot isolate code designs, or they were not allowed; policies and genomes work everywhere."""


class ProposalNotFound(EngramError, LookupError):
    """No proposal with this id was made in this store."""


class FactNotFound(EngramError, LookupError):
    """No fact with this id is visible from this scope."""


class AccessDenied(EngramError, PermissionError):
    """No grant lets this principal do this here. It says nothing of what is there.

    Attributes:
        principal, verb, scope: Who may not do what where.
    """

    def __init__(self, principal: str, verb: str, scope: str, why: str | None = None) -> None:
        self.principal, self.verb, self.scope = principal, verb, scope
        hint = (
            f"`engram why {principal} {verb} {scope}` says why; "
            f"`engram grant {principal} {verb} {scope}` allows it, by the store's owner or who may admin there."
        )
        super().__init__(f"{principal} may not {verb} in {scope}{f': {why}.' if why else f'. {hint}'}")


class RecallNotFound(EngramError, LookupError):
    """No recall with this id was recorded in this scope."""


class InvalidExport(EngramError, ValueError):
    """A file that is to be imported breaks its format; the message names the line. Nothing was stored."""


class OnHold(EngramError):
    """A legal hold covers it: nothing was erased or archived; the message names the hold."""


class ChangeRefused(EngramError):
    """The floor refused a change that a person asked for; the refusal is in the ledger."""


class EmbedderMismatch(EngramError):
    """The store was written with another embedder; `engram reindex` re-embeds it."""


class EmbeddingFailed(EngramError):
    """The embedder raised, hung, or returned vectors of a wrong shape, NaN or zero."""


class ModelFailed(EngramError):
    """The language model raised, or its answer did not fit the schema twice."""


class StoreUnavailable(EngramError):
    """The ledger cannot be opened, read or written right now."""


class StoreClosed(EngramError):
    """The Engram object was closed; open a new one."""


class SchemaTooNew(EngramError):
    """The store was written by a newer Engram than this one."""


class IndexUnavailable(EngramError):
    """The vector index cannot answer; recall falls back to exact search and says `degraded`."""


class MissingExtra(EngramError, ImportError):
    """An optional package is needed; the message names the extra to install."""


class Conflict(EngramError):
    """Another writer changed the scope first. Operations catch this and plan again; users never see it."""
