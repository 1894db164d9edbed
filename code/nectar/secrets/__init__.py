"""Secrets: stores that give the value that belongs to a name, one way to ask them, and a parameter that names one."""
