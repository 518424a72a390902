"""The aggregator's core: decodes events, adds them up, commits them exactly once, writes the views."""
