"""The commands that erase, hold, move and restore: what they refuse, and what they say of what they found."""

from __future__ import annotations

from pathlib import Path

from cli_support import SCOPE, Cli


def test_a_restore_says_what_it_kept(filled: Cli, tmp_path: Path) -> None:
    filled("grant", "user:bob", "reader", SCOPE)
    filled("backup", str(tmp_path / "b.engram"))
    filled("revoke", "user:bob", "reader", SCOPE)
    filled("hold", SCOPE, "--reason", "case 7")
    said = filled("restore", "--backup", str(tmp_path / "b.engram"), "--replace")
    assert "1 grants revoked since stay revoked." in said.out
    assert "1 legal holds placed since stay in force." in said.out
    assert filled.json("grants")["grants"] == []
    assert [item["reason"] for item in filled.json("holds")["holds"]] == ["case 7"]
    said = filled("restore", "--backup", str(tmp_path / "b.engram"), "--store", str(tmp_path / "new"))
    assert "No store stood there: grants, groups, private scopes and legal holds are as of the backup." in said.err
