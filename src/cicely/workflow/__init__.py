"""Many jobs as one: chains, groups, chords and graphs become jobs and edges. Pure; it makes values."""
