"""Steps between the rows of a report and its writers: which columns, in which order, how many rows."""
