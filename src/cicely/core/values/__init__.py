"""Values ↔ MessagePack: which types come back as they went, and how each is written.

MessagePack itself knows None, bool, int, float, str, bytes, list and dict. Every other type is an
extension (`extensions`), written by `writer` and read by `reader`. Dataclasses, structs and models become
mappings (`fields`); only a type hint makes them whole again, because a name in a message must never
choose what is built.
"""
