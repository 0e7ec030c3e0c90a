"""What a fleet costs: prices, what is written for it, the bill by part, and what a running stack consumed."""
