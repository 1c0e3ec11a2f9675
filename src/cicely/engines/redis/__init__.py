"""The Redis engine: one Lua script per verb, all keys of a namespace in one hash slot."""
