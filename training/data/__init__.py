"""Raw files of any source to one prepared folder."""
