"""Tables and figures of what is under `results/`: a pure function of that folder."""
