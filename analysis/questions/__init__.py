"""One file a further question that runs can answer."""
