"""Measures of cells, cut out one by one."""
