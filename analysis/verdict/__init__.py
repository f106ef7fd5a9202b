"""The checks that the numbers may be believed, and the one sentence that follows from them."""
