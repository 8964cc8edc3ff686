"""From frame to frame: which object is which, what is in a zone, what crosses a line, and who must not be seen."""
