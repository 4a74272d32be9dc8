"""Fine-tuning on instructions, and the responses that a judge scores."""
