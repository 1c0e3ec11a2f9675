"""Running jobs: the supervisor, its zygote, the children and the attempts."""
