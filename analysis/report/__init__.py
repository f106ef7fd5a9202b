"""The report: one document, written as JSON, Markdown and one HTML page."""
