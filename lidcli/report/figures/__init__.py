"""Everything that is drawn: a function from runs to matplotlib figures for each kind of picture."""
