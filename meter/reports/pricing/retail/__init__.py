"""Azure's retail prices: what one row of them says, and how a price book takes them in."""
