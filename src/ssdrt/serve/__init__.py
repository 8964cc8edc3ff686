"""The live page: what a run sees, in a browser and for programs, over HTTP."""
