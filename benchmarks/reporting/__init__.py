"""Reports of all benchmarks: one format, one table, one page, one comparison. No lab."""
