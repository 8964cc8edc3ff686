"""From labelled pictures to a detector: an `SsdModel` becomes a torch network, is trained, and becomes an `SsdModel`.

torch is imported inside the functions of this room alone; `cli/train.py` says how to install it.
"""
