"""The commands of the catalogue: list, show, new, publish, page."""
