"""What the tests share. Programs that tests start can import it too: SprintEnv puts tests/ on their path."""
