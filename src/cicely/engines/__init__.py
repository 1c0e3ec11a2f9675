"""Where jobs live: one folder per technology; its words stay inside."""
