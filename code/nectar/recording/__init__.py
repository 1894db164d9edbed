"""Record one attempt at a task: stage it, capture what it prints, seal its outputs, commit, or keep its logs."""
