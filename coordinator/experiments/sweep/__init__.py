"""A sweep: many trials of a task, with settings drawn from ranges, for each method as many."""
