"""Table Storage's wire form (OData 3.0, JSON): entities, transactions and pages of a query; no I/O."""
