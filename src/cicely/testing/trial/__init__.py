"""A trial of shared limits: many processes, one budget of tokens, an API that refuses what goes over it."""
