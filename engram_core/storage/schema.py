"""The ledger's tables, for SQLite and PostgreSQL alike. Names and types only; migrations create them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

HEAD = "0012"
"""The newest migration; a test keeps it equal to the scripts' head."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite only numbers rows by itself when the key is declared INTEGER.
_Key = BigInteger().with_variant(Integer, "sqlite")

settings = Table(
    "settings", metadata, Column("name", String(100), primary_key=True), Column("value", Text, nullable=False)
)

counter = Table(
    "counter",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
)

scopes = Table(
    "scopes",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("path", String(520), nullable=False, unique=True),
    Column("seq", BigInteger, nullable=False, default=0),
    Column("live", Integer, nullable=False, default=0),
    Column("recallable", Integer, nullable=False, default=0),
    Column("body_words", BigInteger, nullable=False, default=0),
    Column("context_words", BigInteger, nullable=False, default=0),
    Column("speakers", Text, nullable=False, default="{}"),
    Column("judged", BigInteger, nullable=False, server_default="0"),
    Column("held", Integer, nullable=False, server_default="0"),
)

episodes = Table(
    "episodes",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("principal", String(200), nullable=False),
    Column("messages", Text, nullable=False),
    Column("extraction", String(8), nullable=False, default="none", index=True),
    Column("seq", BigInteger, nullable=False),
)

facts = Table(
    "facts",
    metadata,
    # The sequence number of the fact's insertion, so that a batch knows its keys before it writes.
    Column("pk", _Key, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False, unique=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", String(12), nullable=False),
    Column("text", Text, nullable=False),
    Column("speaker", String(200)),
    Column("kind", String(32), nullable=False),
    Column("slot_subject", Text),
    Column("slot_attribute", Text),
    Column("importance", Float, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("trust", Float, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("said_at", Float, nullable=False),
    Column("valid_from", Float),
    Column("valid_until", Float),
    Column("archived_at", Float),
    Column("archived_reason", Text),
    Column("principal", String(200), nullable=False),
    Column("channel", String(12), nullable=False),
    Column("episode_id", String(36)),
    Column("session", String(500)),
    Column("message_ids", Text, nullable=False),
    Column("sources", Text, nullable=False),
    Column("consolidated_from", Text, nullable=False),
    Column("is_consolidated", Boolean, nullable=False),
    Column("superseded_by", String(36)),
    Column("forget_score", Float),
    Column("forget_terms", Text, nullable=False),
    Column("restored_at", Float),
    Column("metadata", Text, nullable=False),
    Column("form", String(12), nullable=False, server_default="statement"),
    Column("consolidated_into", String(36)),
    Column("subjects", Text, nullable=False, server_default="[]"),
    # what recall reads; derived from the text at write
    Column("duplicate_key", String(64), nullable=False),
    Column("previous", String(36)),
    Column("following", String(36)),
    Column("body_stems", Text, nullable=False),
    Column("context_stems", Text, nullable=False),
    Column("body_length", Integer, nullable=False),
    Column("context_length", Integer, nullable=False),
    Column("time_words", Float, nullable=False),
    Column("asks", Integer, nullable=False),
    Column("content", LargeBinary),
    Column("context", LargeBinary),
    Index("ix_facts_scope_id_seq", "scope_id", "seq"),
    Index("ix_facts_scope_id_said_at", "scope_id", "said_at"),
    Index("ix_facts_scope_id_duplicate_key", "scope_id", "duplicate_key"),
    Index("ix_facts_scope_id_session", "scope_id", "session"),
    Index("ix_facts_scope_id_importance", "scope_id", "pinned", "importance", "said_at"),
    Index("ix_facts_status", "status"),
    Index(
        "ix_facts_scope_id_slot",
        "scope_id",
        "slot_subject",
        "slot_attribute",
        sqlite_where=text("slot_subject IS NOT NULL"),
        postgresql_where=text("slot_subject IS NOT NULL"),
    ),
    Index(
        "ix_facts_superseded_by",
        "superseded_by",
        sqlite_where=text("superseded_by IS NOT NULL"),
        postgresql_where=text("superseded_by IS NOT NULL"),
    ),
    Index(
        "ix_facts_consolidated_into",
        "consolidated_into",
        sqlite_where=text("consolidated_into IS NOT NULL"),
        postgresql_where=text("consolidated_into IS NOT NULL"),
    ),
)

# Who was derived from whom: the `sources` of facts, the other way round.
lineage = Table(
    "lineage",
    metadata,
    Column("source_id", String(36), primary_key=True),
    Column("fact_id", String(36), primary_key=True),
    sqlite_with_rowid=False,
)

links = Table(
    "links",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False),
    Column("newer", String(36), nullable=False, index=True),
    Column("older", String(36), nullable=False, index=True),
    Column("verdict", String(8), nullable=False),
    Column("probability", Float, nullable=False),
    Column("at", Float, nullable=False),
    Column("rule", String(60), nullable=False),
    Column("line", Text, nullable=False),
    Column("terms", Text, nullable=False),
)

words = Table(
    "words",
    metadata,
    Column("scope_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("stem", String(200), primary_key=True),
    Column("body_df", Integer, nullable=False),
    Column("context_df", Integer, nullable=False),
    sqlite_with_rowid=False,
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("seq", BigInteger, nullable=False),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False, index=True),
    Column("fact_id", String(36), index=True),
    Column("episode_id", String(36), index=True),
    Column("action", String(20), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("at", Float, nullable=False),
    Column("rule", String(60), nullable=False),
    Column("line", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("refused", Boolean, nullable=False),
)

recalls = Table(
    "recalls",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False, index=True),
    Column("principal", String(200), nullable=False),
    Column("session", String(500)),
    Column("at", Float, nullable=False),
    Column("query", Text, nullable=False),
    Column("text_tokens", Integer, nullable=False),
    Column("token_counter", String(100), nullable=False),
    Column("degraded", Boolean, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("facts", Text, nullable=False),
    Column("dropped", Text, nullable=False),
    Column("stages", Text, nullable=False),
)

recalled = Table(
    "recalled",
    metadata,
    Column("fact_id", String(36), primary_key=True),
    Column("recall_id", String(36), primary_key=True),
    sqlite_with_rowid=False,
)

usage = Table(
    "usage",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("recall_id", String(36), nullable=False, index=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False),
    Column("at", Float, nullable=False),
    Column("response", Text, nullable=False),
    Column("verdicts", Text, nullable=False),
    # The scope's count of judged recalls at which the verdict counts; NULL when it says nothing of any fact.
    Column("tick", BigInteger),
    Column("question", LargeBinary),
    Index("ix_usage_scope_id_id", "scope_id", "id"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("scope_id", ForeignKey("scopes.id"), primary_key=True),
    Column("fact_id", String(36), primary_key=True),
    Column("recalled", Float, nullable=False),
    Column("used", Float, nullable=False),
    Column("judged", Integer, nullable=False),
    Column("times_used", Integer, nullable=False),
    Column("tick", BigInteger, nullable=False),
    Index("ix_tallies_scope_id_tick", "scope_id", "tick"),
    Index("ix_tallies_fact_id", "fact_id"),
)

parked = Table(
    "parked",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("kind", String(20), nullable=False),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False),
    Column("episode_id", String(36)),
    Column("at", Float, nullable=False),
    Column("error", Text, nullable=False),
    Column("payload", Text, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("policy", Text, nullable=False),
    Column("principal", String(200), nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("scope_id", "version"),
)

nights = Table(
    "nights",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("path", String(520)),
    Column("principal", String(200), nullable=False),
    Column("at", Float, nullable=False),
    Column("totals", Text),
)

scope_nights = Table(
    "scope_nights",
    metadata,
    Column("night_id", ForeignKey("nights.id", ondelete="CASCADE"), primary_key=True),
    Column("scope_id", ForeignKey("scopes.id"), primary_key=True),
    Column("report", Text, nullable=False),
)

gaps = Table(
    "gaps",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False, index=True),
    Column("state", String(12), nullable=False),
    Column("question", Text, nullable=False),
    Column("lapses", Text, nullable=False),
    Column("fact_id", String(36)),
    Column("evidence", Text, nullable=False),
    Column("rule", String(60), nullable=False),
    Column("line", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
)

reflections = Table(
    "reflections",
    metadata,
    Column("scope_id", ForeignKey("scopes.id"), primary_key=True),
    Column("episode", BigInteger, nullable=False),
    Column("until", Float),
)

# Every erasure with what it did; ids and numbers only.
erasures = Table(
    "erasures",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("at", Float, nullable=False),
    Column("receipt", Text, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("mark", String(64), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("erasure", String(36), nullable=False, index=True),
    Column("at", Float, nullable=False),
    sqlite_with_rowid=False,
)

holds = Table(
    "holds",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False),
    Column("fact_id", String(36)),
    Column("reason", Text, nullable=False),
    Column("principal", String(200), nullable=False),
    Column("at", Float, nullable=False),
    Column("released_at", Float),
    Column("released_by", String(200)),
)

generations = Table(
    "generations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("place", Text, nullable=False),
    Column("state", String(12), nullable=False),
    Column("fingerprint", Text, nullable=False),
)

collections = Table(
    "collections",
    metadata,
    Column("generation", ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True),
    Column("scope_id", ForeignKey("scopes.id"), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("dirty", Boolean, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("until", Float, nullable=False),
)

# What a person is asked, and every step of it. Append-only but for `status`, which repeats the last step's.
proposals = Table(
    "proposals",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("scope_id", ForeignKey("scopes.id"), nullable=False, index=True),
    Column("status", String(12), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("at", Float, nullable=False),
    Column("rationale", Text, nullable=False),
    Column("diff", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("prediction", Text, nullable=False),
)

proposal_steps = Table(
    "proposal_steps",
    metadata,
    Column("proposal_id", ForeignKey("proposals.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("status", String(12), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("figures", Text, nullable=False),
)

shadows = Table(
    "shadows",
    metadata,
    Column("proposal_id", ForeignKey("proposals.id"), primary_key=True),
    Column("recall_id", String(36), primary_key=True),
    Column("at", Float, nullable=False),
    Column("figures", Text, nullable=False),
)

# The archive of designs. Append-only.
designs = Table(
    "designs",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("kind", String(8), nullable=False),
    Column("source", Text, nullable=False),
    Column("parents", Text, nullable=False),
    Column("operator", String(60), nullable=False),
    Column("rationale", Text, nullable=False),
    Column("made_by", String(200), nullable=False),
    Column("at", Float, nullable=False),
)

design_trials = Table(
    "design_trials",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("design_id", ForeignKey("designs.id"), nullable=False, index=True),
    Column("run_id", String(36), nullable=False, index=True),
    Column("arm", String(40), nullable=False),
    Column("number", Integer, nullable=False),
    Column("suite", String(64), nullable=False, index=True),
    Column("split", String(12), nullable=False),
    Column("status", String(12), nullable=False),
    Column("fitness", Float, nullable=False),
    Column("at", Float, nullable=False),
    Column("figures", Text, nullable=False),
)

lab_runs = Table(
    "lab_runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("at", Float, nullable=False),
    Column("setup", Text, nullable=False),
    Column("report", Text),
)

grants = Table(
    "grants",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("grantee", String(200), nullable=False),
    Column("verb", String(8), nullable=False),
    Column("scope", String(520), nullable=False),
    Column("deep", Boolean, nullable=False),
    Column("expires", Float),
    Column("max_trust", Float, nullable=False),
    Column("granted_by", String(200), nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("reason", Text),
)

members = Table(
    "members",
    metadata,
    Column("group_name", String(200), primary_key=True),
    Column("principal", String(200), primary_key=True),
    sqlite_with_rowid=False,
)

private_scopes = Table(
    "private_scopes",
    metadata,
    Column("path", String(520), primary_key=True),
    sqlite_with_rowid=False,
)

# Where the books of access and audit stand: `access` counts changes, `audit` entries, with the hash of the last.
heads = Table(
    "heads",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", _Key, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("principal", String(200), nullable=False),
    Column("verb", String(8), nullable=False),
    Column("operation", String(40), nullable=False),
    Column("scope", String(520)),
    Column("decision", String(8), nullable=False),
    Column("granted", String(40), nullable=False),
    Column("fact_ids", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

# Full text is no portable table, so the migration creates it: a contentless FTS5 table `fact_words(terms)` on SQLite, a
# table `fact_words(pk, terms tsvector)` with a GIN index on PostgreSQL. Each term is `s<scope id>w<stem>`: a scope's
# search reads its own postings only, and no other scope's facts can influence what it finds.
