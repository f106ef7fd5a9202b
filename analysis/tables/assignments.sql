-- Assignments for other tools: which unit was in which variation of which experiment, and when (docs/sink.md).
--
-- Reads a table or view `exposures` of the sink's files. In DuckDB:
--   CREATE VIEW exposures AS FROM read_parquet('events/exposures/*/*.parquet');
-- Written for DuckDB; in another warehouse only the conversion of the time differs (docs/sink.md).
--
-- A unit has several rows: tools take the first one, and report units with more than one variation.
-- Forced exposures are left out, because they are not random.
CREATE OR REPLACE VIEW assignments AS
SELECT
    unit,
    epoch_ms(ts) AS ts, -- UTC
    exp AS experiment,
    arm AS variation
FROM (
    SELECT unit, ts, exp, arm, row_number() OVER (PARTITION BY id ORDER BY ts) AS copy
    FROM exposures
    WHERE forced = 0
) AS copies
WHERE copy = 1;
