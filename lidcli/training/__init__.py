"""Building, training and recording one run."""
