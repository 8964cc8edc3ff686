"""Engines: an SsdModel becomes something that runs. One file (or folder) an engine, found by its name."""
