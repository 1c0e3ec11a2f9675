"""The measurements, one file per question; each returns the figures of one repetition."""
