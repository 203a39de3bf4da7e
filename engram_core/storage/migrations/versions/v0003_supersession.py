"""0003: facts by slot and by successor, who was derived from whom, and links between possible updates.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PAGE = 1_000


def upgrade() -> None:
    """Create the indexes and tables; fill `lineage` from the facts that have sources."""
    op.create_index(
        "ix_facts_scope_id_slot",
        "facts",
        ["scope_id", "slot_subject", "slot_attribute"],
        sqlite_where=sa.text("slot_subject IS NOT NULL"),
        postgresql_where=sa.text("slot_subject IS NOT NULL"),
    )
    op.create_index(
        "ix_facts_superseded_by",
        "facts",
        ["superseded_by"],
        sqlite_where=sa.text("superseded_by IS NOT NULL"),
        postgresql_where=sa.text("superseded_by IS NOT NULL"),
    )
    lineage = op.create_table(
        "lineage",
        sa.Column("source_id", sa.String(length=36), nullable=False),
        sa.Column("fact_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "fact_id", name=op.f("pk_lineage")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "links",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("scope_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("newer", sa.String(length=36), nullable=False),
        sa.Column("older", sa.String(length=36), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("rule", sa.String(length=60), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("fk_links_scope_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_links")),
    )
    op.create_index(op.f("ix_links_newer"), "links", ["newer"], unique=False)
    op.create_index(op.f("ix_links_older"), "links", ["older"], unique=False)
    _fill(lineage)


def _fill(lineage: sa.Table) -> None:
    connection, after = op.get_bind(), -1
    page = sa.text("SELECT pk, id, sources FROM facts WHERE sources <> '[]' AND pk > :after ORDER BY pk LIMIT :page")
    while rows := connection.execute(page, {"after": after, "page": _PAGE}).all():
        after = rows[-1][0]
        pairs = [{"source_id": source, "fact_id": id_} for _, id_, text in rows for source in json.loads(text)]
        connection.execute(sa.insert(lineage), pairs)


def downgrade() -> None:
    """Drop what `upgrade` made; no fact is lost."""
    op.drop_table("links")
    op.drop_table("lineage")
    op.drop_index("ix_facts_superseded_by", table_name="facts")
    op.drop_index("ix_facts_scope_id_slot", table_name="facts")
