"""Your own files: any of the formats, with a mapping from their columns to ours."""
