"""Compares what two references lead to."""
