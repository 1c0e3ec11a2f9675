"""The comparison: Cicely and its peers on the same machine in the same run, in turns."""
