"""The sink: events from Redis streams to Parquet files, at least once; a second write of a batch changes nothing."""
