"""What the names of Azure's meters say: which model, kind, tier and place a price is for."""
