"""The aggregator's core: decode usage events, fold them, commit them exactly once, show them."""
