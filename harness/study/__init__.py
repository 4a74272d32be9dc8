"""Run many cells: the plan, the processes, and what is shown meanwhile."""
