"""Raw loops: the same state transitions as Cicely's, as bare statements, to compare with.

The statements and the driver stay as they are while figures are compared.
"""
