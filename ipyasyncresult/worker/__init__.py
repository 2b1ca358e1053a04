"""Run one task with its outputs: functions and cells in, outcome and ordered outputs out."""
