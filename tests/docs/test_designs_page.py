"""The design that docs/designs.md teaches passes the contract the page says it passes."""

from __future__ import annotations

from typing import Any

import pytest
from docs_support import ROOT, blocks

from engram_core import Design
from engram_core.testing.design_contract import DesignContract


class TestTheDesignOfThePage(DesignContract):
    @pytest.fixture
    def design(self) -> Design:
        namespace: dict[str, Any] = {}
        first = next(block for block in blocks(ROOT / "docs" / "designs.md") if "class Keywords" in block.code)
        exec(compile(first.code, "docs/designs.md", "exec", dont_inherit=True), namespace)
        return namespace["Keywords"]()
