"""Hold the chain types: each folder here is one, and each `<name>_chain.py` in it is a chain.

The folders need no `__init__.py`: `chains.<type>.<name>_chain` imports from any directory as soon as the file is there.
"""
