"""Shipped contracts and fakes: any backend can grade itself. Used by tests and by `Engram.open(":memory:")`."""
