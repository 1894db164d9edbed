"""Answer for chains and carry runs out, for as long as a server lives: importers, submissions, supervision."""
