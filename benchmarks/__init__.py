"""What the exchange costs, beside the other ways to do it, measured in one run."""
