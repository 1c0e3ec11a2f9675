"""A service that evaluates code: a gateway, executors, workers, and the move from the queue it had before."""
