"""An evaluation of many samples on a reserved machine that is given back whatever happens."""
