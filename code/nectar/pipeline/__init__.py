"""Pipelines in YAML: read, checked, made tasks whose targets, logs and records are those of all others."""
