"""How much a study can find, before it is run and while it runs."""
