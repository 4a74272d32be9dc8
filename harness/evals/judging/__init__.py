"""An LLM scores all models' responses to an instruction together."""
