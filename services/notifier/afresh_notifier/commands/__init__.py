"""The commands of `afresh`, a module for each group of them; `cli` puts them together.

A command reads its options, asks the modules that do the work, and prints; it decides nothing else.
"""
