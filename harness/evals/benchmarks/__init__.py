"""Multiple-choice and last-word tasks: bundled ones, one's own files, and those of lm_eval."""
