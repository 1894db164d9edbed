"""The face over HTTP: a thin layer over the service and the actions. It imports no chain."""
