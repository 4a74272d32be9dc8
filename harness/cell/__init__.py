"""One cell: built, trained, recorded."""
