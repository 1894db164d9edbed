"""Carry a plan out here."""
