"""`cicely demo`: programs of which three in four are wrong or wild, graded under limits."""
