"""Whether a deployment is well: what threatens its readings, read here, judged there, and what to do about it."""
