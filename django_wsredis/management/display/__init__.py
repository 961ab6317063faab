"""How wsinspect's answers look on a terminal; 80 columns are enough."""
