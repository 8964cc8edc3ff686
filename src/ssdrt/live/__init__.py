"""Live runs: several sources, one detector, any number of viewers, none of which waits for another."""
