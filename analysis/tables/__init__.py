"""The Parquet tables: their columns, the database that reads them, and the view that each reader has."""
