"""Decide what would happen to each task that a root needs, and why, without doing anything."""

from nectar.plans.survey import make_plan
from nectar.plans.values import MAKING, Action, Force, Plan, PlanStep, Prepared, Reason, Why

__all__ = ["MAKING", "Action", "Force", "Plan", "PlanStep", "Prepared", "Reason", "Why", "make_plan"]
