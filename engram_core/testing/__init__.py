"""Shipped contracts and fakes: any backend can grade itself. Used by tests and by `Engram.open(":memory:")`.

A third party's test of its own backend is a class and one fixture:

    from engram_core.testing.ledger_contract import LedgerContract

    class TestMyLedger(LedgerContract):
        @pytest.fixture
        def open_ledger(self, tmp_path):
            return lambda: MyLedger(tmp_path)

`fault_contract` kills writers of that ledger and fills its disk. The contracts need pytest and hypothesis; everything
else here does not.
Importing this package imports none of them.
"""
