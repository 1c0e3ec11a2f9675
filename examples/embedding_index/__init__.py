"""An index of documents that is rebuilt and swapped while people search it."""
