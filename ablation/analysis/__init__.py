"""From records to numbers: statistics, tables, error analysis."""
