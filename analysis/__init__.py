"""From the service's events to a decision: streams to Parquet, Parquet to tables of units, tables to estimates."""
