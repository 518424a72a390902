"""How sums lie in the ledger's rows."""
