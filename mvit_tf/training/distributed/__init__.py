"""Training on several devices and machines: who they are, what they exchange, who writes."""
